"""Signals reach the command, once each, from wherever they come; a terminal works as if nothing stood between."""

import contextlib
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Self

import psutil
import pytest

from tests.harness import PATIENCE, until
from tests.life.support import ROOT, command, environment

PASSED_ON = ["SIGHUP", "SIGINT", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGTERM"]
# Tells of each signal that it gets, and ends a while after SIGTERM: a second one would still come.
LISTENER = f"""
import os, signal, time
ended = []
def told(number, _):
    os.write(1, (signal.Signals(number).name + "\\n").encode())
    ended.extend([number] if number in (signal.SIGTERM, signal.SIGTSTP) else [])
for name in {PASSED_ON}:
    signal.signal(getattr(signal, name), told)
os.write(1, f"{{os.getpid()}}\\n".encode())
while not ended:
    time.sleep(0.05)
time.sleep(0.2)
raise SystemExit(9)
"""
RUN = command("run", "--", sys.executable, "-c", LISTENER)


def test_each_signal_reaches_the_command_once(tmp_path: Path) -> None:
    said = tmp_path / "said"
    with (
        said.open("wb") as stdout,
        subprocess.Popen(RUN, stdout=stdout, stderr=subprocess.DEVNULL, env=environment(), cwd=ROOT) as ours,
    ):
        try:
            until(lambda: said.read_text().endswith("\n"))
            for name in PASSED_ON:
                ours.send_signal(getattr(signal, name))
                until(lambda name=name: said.read_text().endswith(f"\n{name}\n"), what=f"no {name}")  # type: ignore[misc]
            assert ours.wait(PATIENCE) == 9
        finally:
            kill_below(ours)
    assert said.read_text().split()[1:] == PASSED_ON


def kill_below(process: subprocess.Popen[bytes]) -> None:
    """End it, and what it has started, if they have not ended by themselves."""
    with contextlib.suppress(psutil.NoSuchProcess):
        for below in psutil.Process(process.pid).children(recursive=True):
            below.kill()
    process.kill()


SHOW: Final = ["grep", "-E", "SigBlk|SigIgn", "/proc/self/status"]


def masks(shown: bytes) -> list[int]:
    """Without the C library's own signals, 32 and 33, which glibc leaves ignored in what it spawns."""
    return [int(line.split()[1], 16) & 0x7FFF_FFFF for line in shown.splitlines()]


@pytest.mark.skipif(sys.platform != "linux", reason="/proc tells it")
def test_the_command_begins_with_the_signals_as_they_were() -> None:
    """Nothing is blocked in it, what Python ignores ends it, and what was ignored stays so, as below nohup(1)."""
    nohup = ["/bin/sh", "-c", "trap '' HUP; exec \"$@\"", "sh"]
    directly = subprocess.run([*nohup, *SHOW], capture_output=True, check=True)
    ours = [*nohup, *command("run", "--", *SHOW)]
    through = subprocess.run(ours, env=environment(), cwd=ROOT, capture_output=True, check=True)
    assert masks(through.stdout) == masks(directly.stdout)
    assert masks(through.stdout)[1] & 1 << signal.SIGHUP - 1


class Terminal:
    """A shell with job control at a terminal of its own."""

    def __init__(self) -> None:
        self._master, slave = pty.openpty()
        # Whoever leads a session and opens a terminal is controlled by it.
        shell = 'exec bash --norc --noprofile -i <"$0" >"$0" 2>&1'
        self._shell = subprocess.Popen(
            ["/bin/sh", "-c", shell, os.ttyname(slave)],
            env=environment({"PS1": "", "TERM": "dumb"}),
            cwd=ROOT,
            start_new_session=True,
        )
        os.close(slave)
        os.set_blocking(self._master, False)
        self._said = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        kill_below(self._shell)
        self._shell.wait()
        os.close(self._master)

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    def said(self) -> str:
        """All that was shown."""
        with contextlib.suppress(OSError):  # there is nothing more, or nobody
            while data := os.read(self._master, 65_536):
                self._said += data
        return self._said.decode().replace("\r\n", "\n")

    def shows(self, text: str, times: int = 1) -> None:
        until(lambda: self.said().count(text) >= times, what=f"no {text!r}")

    def job(self) -> list[psutil.Process]:
        """What runs below the shell."""
        return psutil.Process(self._shell.pid).children(recursive=True)


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    with Terminal() as one:
        yield one


def test_ctrl_c_reaches_the_command_once_and_job_control_works(terminal: Terminal, tmp_path: Path) -> None:
    script = tmp_path / "listener.py"
    script.write_text(LISTENER)
    terminal.type(f"{' '.join(command('run', '--', sys.executable, str(script)))}; echo status=$?\n")
    until(lambda: len(terminal.job()) == 2)
    ours, theirs = terminal.job()
    terminal.shows(f"{theirs.pid}\n")
    terminal.type("\x03")
    terminal.shows("SIGINT\n")
    terminal.type("\x1c")
    terminal.shows("SIGQUIT\n")
    ours.send_signal(signal.SIGINT)  # another process's: the command would not get it without us
    terminal.shows("SIGINT\n", times=2)

    terminal.type("\x1a")
    until(lambda: {process.status() for process in (ours, theirs)} == {psutil.STATUS_STOPPED})
    terminal.shows("Stopped")
    terminal.type("fg\n")
    until(lambda: psutil.STATUS_STOPPED not in {process.status() for process in (ours, theirs)})
    terminal.type("\x03")
    terminal.shows("SIGINT\n", times=3)
    ours.terminate()
    terminal.shows("pgleash: no session came through")
    time.sleep(0.1)  # for what should not come
    said = terminal.said()
    assert [said.count(f"{name}\n") for name in PASSED_ON] == [0, 3, 1, 0, 0, 1]
