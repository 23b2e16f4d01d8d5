"""Processes of pgleash's that start at once: forks of one that has imported it and does nothing else.

To import pgleash is nearly all of what a command does, and takes a quarter of a second. A fork goes on from there with
arguments, an environment, an output and an exit status of its own, as a new process would, which tests that are about
that start instead. `python -m tests.life.nursery` is the process that forks; it ends with the one that started it.
"""

import atexit
import contextlib
import functools
import gc
import json
import os
import runpy
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

NUMBER = struct.Struct("!i")  # a process id, then a status
PATIENCE = 10.0  # seconds until a fork is there


class Child:
    """A command of pgleash's, with what is used of a subprocess.Popen.

    Args:
        arguments: of the command line, without the program.
        environment: all of it.
        constants: pgleash's own, by their full names, that are something else for it.
    """

    def __init__(
        self, arguments: Sequence[str], environment: Mapping[str, str], constants: Mapping[str, float]
    ) -> None:
        outputs = [os.pipe(), os.pipe()]
        self._life, theirs = socket.socketpair()
        socket.send_fds(nursery(), [b"!"], [*(writing for _, writing in outputs), theirs.fileno()])
        theirs.close()
        for _, writing in outputs:
            os.close(writing)
        self.stdout, self.stderr = (os.fdopen(reading, encoding="utf-8") for reading, _ in outputs)
        self.returncode: int | None = None
        self._life.settimeout(PATIENCE)
        self._life.sendall(json.dumps([arguments, dict(environment), dict(constants)]).encode() + b"\n")
        self.pid = self._number()

    def send_signal(self, number: int) -> None:
        """Send it a signal, unless it is known to have ended."""
        if self.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> None:
        """End it."""
        self.send_signal(signal.SIGKILL)

    def wait(self, timeout: float) -> int:
        """Its exit status, or the signal that ended it as a negative number.

        Raises:
            subprocess.TimeoutExpired: it has not ended within so many seconds.
        """
        if self.returncode is None:
            self._life.settimeout(timeout)
            try:
                self.returncode = self._number()
            except TimeoutError as error:
                raise subprocess.TimeoutExpired(str(self.pid), timeout) from error
            self._life.close()
        return self.returncode

    def _number(self) -> int:
        (number,) = NUMBER.unpack(self._life.recv(NUMBER.size))
        return int(number)


@functools.cache
def nursery() -> socket.socket:
    """How to reach the process that forks; it is started at the first request."""
    ours, theirs = socket.socketpair()
    command = [sys.executable, "-m", __name__, str(theirs.fileno())]
    process = subprocess.Popen(command, cwd=Path(__file__).parents[2], pass_fds=[theirs.fileno()])
    theirs.close()

    def end() -> None:
        ours.close()
        process.wait()

    atexit.register(end)
    return ours


# The process that forks, and its forks.


def serve(requests: socket.socket) -> None:
    """Answer requests until their end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C is for whoever has started us
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for those that keep a status
    while True:
        request, descriptors, *_ = socket.recv_fds(requests, 1, 3)
        if not request:
            return
        if os.fork() == 0:
            requests.close()
            keep(descriptors)
            return
        for descriptor in descriptors:
            os.close(descriptor)


def keep(descriptors: Sequence[int]) -> None:
    """Fork once more; tell the process id, and then how that one has ended."""
    *outputs, last = descriptors
    with socket.socket(fileno=last) as life:
        with life.makefile() as requests:
            request = requests.readline()
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        pid = os.fork()
        if pid == 0:
            life.close()
            become(request, outputs)
            return
        for output in outputs:
            os.close(output)
        life.send(NUMBER.pack(pid))
        life.send(NUMBER.pack(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])))


def become(request: str, outputs: Sequence[int]) -> None:
    """Be `python -m proxy` with these arguments."""
    arguments, environment, constants = json.loads(request)
    for number, output in enumerate(outputs, 1):
        os.dup2(output, number)
        os.close(output)
    os.environ.clear()
    os.environ.update(environment)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.argv[1:] = arguments
    for name, value in constants.items():
        module, _, constant = name.rpartition(".")
        setattr(sys.modules[module], constant, value)
    runpy.run_module("proxy", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    import proxy.cli  # noqa: F401 - for the forks

    gc.freeze()  # what was imported: else each fork copies all of it, to look for garbage when it ends
    serve(socket.socket(fileno=int(sys.argv[1])))
