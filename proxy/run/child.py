"""The command as a process: it gets the signals that we get, once, and its standard streams are ours, untouched.

- It stays in our process group, as below env(1) or time(1): so a terminal's Ctrl-Z, fg and bg work as if we were not
  there, and whoever kills the group kills both.
- Hence what a terminal sends (Ctrl-C, hanging up) reaches it without us. The kernel says who sends a signal:
  only what a process has sent to us is passed on, as sudo does it.
- Signals are blocked and waited for in the main thread, so none is lost and nothing is polled. The command starts with
  signals and limits as we found them.
"""

import contextlib
import os
import resource
import signal
import sys
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Final, Self

from proxy.errors import OperatorError

PASSED_ON: Final = frozenset({
    signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2,
})  # fmt: skip
WAITED_FOR: Final = PASSED_ON | {signal.SIGCHLD}
OF_A_TERMINAL: Final = frozenset({signal.SIGINT, signal.SIGQUIT, signal.SIGHUP})
# What Python ignores in itself and programs expect to end them (subprocess calls it restore_signals).
IGNORED_BY_PYTHON: Final = (signal.SIGPIPE, signal.SIGXFSZ)

# As a shell answers for a command that it cannot run (POSIX, "Exit Status for Commands").
NOT_EXECUTABLE: Final = 126
NOT_FOUND: Final = 127
DIED_OF: Final = 128  # and the signal's number


class CommandError(OperatorError):
    """The command cannot be started.

    Attributes:
        status: what a shell would exit with.
    """

    def __init__(self, command: str, error: OSError) -> None:
        missing = isinstance(error, FileNotFoundError | NotADirectoryError)
        reason = "command not found" if missing and "/" not in command else error.strerror
        super().__init__(f"{command}: {reason}")
        self.status = NOT_FOUND if missing else NOT_EXECUTABLE


class Signals:
    """Holds signals back while it is entered; to be entered before there are other threads."""

    def __enter__(self) -> Self:
        if signal.getsignal(signal.SIGCHLD) == signal.SIG_IGN:  # inherited; nobody could wait for the command
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        self._before = signal.pthread_sigmask(signal.SIG_BLOCK, WAITED_FOR)
        self._descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)  # the proxy raises it for itself
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, self._before)

    def run(self, command: Sequence[str], environment: Mapping[str, str]) -> int:
        """Run a command to its end; returns its exit status, or 128 and the number of the signal that it died of.

        Raises:
            CommandError: it cannot be started.
        """
        signal.pthread_sigmask(signal.SIG_SETMASK, self._before)  # what has come before there was a command is for us
        signal.pthread_sigmask(signal.SIG_BLOCK, WAITED_FOR)
        child = self._spawn(command, environment)
        while True:
            number = _next()
            if number == signal.SIGCHLD:
                status = _status(child)
                if status is not None:
                    return status
            elif number is not None:
                _pass_on(child, number)

    def _spawn(self, command: Sequence[str], environment: Mapping[str, str]) -> int:
        ours = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (self._descriptors, ours[1]))
        try:
            return os.posix_spawnp(
                command[0], list(command), environment, setsigmask=self._before, setsigdef=IGNORED_BY_PYTHON
            )
        except OSError as error:
            raise CommandError(command[0], error) from error
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, ours)


def _next() -> int | None:
    """The next signal; None for one that a terminal has sent to the command, too."""
    if sys.platform == "darwin":  # it does not tell who has sent it
        number = signal.sigwait(WAITED_FOR)
        return None if number in OF_A_TERMINAL and _in_foreground() else number
    info = signal.sigwaitinfo(WAITED_FOR)
    sent_by_kernel = info.si_code > 0  # <asm-generic/siginfo.h>, SI_FROMKERNEL
    return None if sent_by_kernel and info.si_signo in OF_A_TERMINAL else info.si_signo


def _in_foreground() -> bool:
    try:
        with open("/dev/tty", "rb") as terminal:  # noqa: PTH123 - a device
            return os.tcgetpgrp(terminal.fileno()) == os.getpgrp()
    except OSError:
        return False


def _status(child: int) -> int | None:
    """How the command has ended, if it has; orphans that became ours (we may be a container's first process) are freed.

    Several that end at once make one signal.
    """
    while True:
        try:
            ended, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return None
        if ended == 0:
            return None
        if ended == child:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else DIED_OF - code


def _pass_on(child: int, number: int) -> None:
    with contextlib.suppress(PermissionError):  # it has another user's rights now: whoever wants it to end has to, too
        os.kill(child, number)
