"""The demo as a user runs it: what it shows, and that nothing is left behind."""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from proxy.demo.application import PARTS

DEMO = [sys.executable, "-m", "proxy", "demo"]
HONEST = {"web-shop", "night-report", "price-cache"}
LEAKING = {part.__name__.replace("_", "-") for part in PARTS} - HONEST


@contextlib.contextmanager
def running(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A demo with a place of its own for temporary files, where it leaves nothing."""
    place = Path(tempfile.mkdtemp(prefix="demo-"))
    place.chmod(0o777)  # everybody gets through
    environment = {**os.environ, "TMPDIR": str(place), "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        [*DEMO, *arguments], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as demo:
        yield demo
    commands = (" ".join(process.info["cmdline"] or []) for process in psutil.process_iter(["cmdline"]))
    assert [command for command in commands if str(place) in command] == []
    assert list(place.iterdir()) == []
    place.rmdir()


@pytest.fixture(scope="module")
def whole() -> Iterator[subprocess.Popen[str]]:
    """A demo that runs to its end, while the other one is interrupted."""
    with running("--seconds", "5") as demo:
        yield demo
        demo.send_signal(signal.SIGINT)  # if nobody has waited for its end


@pytest.mark.usefixtures("whole")
def test_the_demo_can_be_interrupted() -> None:
    with running() as demo:
        assert demo.stdout is not None
        assert demo.stderr is not None
        for line in demo.stdout:
            if "leak.flagged" in line:
                break
        demo.send_signal(signal.SIGINT)
        assert demo.stderr.read() == ""
    assert demo.returncode == 128 + signal.SIGINT


def test_the_demo_names_who_leaks_and_nobody_else(whole: subprocess.Popen[str]) -> None:
    said, errors = whole.communicate()
    assert (whole.returncode, errors) == (0, "")
    log, _, table = said.partition("Who leaked, how often and for how long:")
    stuck, idle = {"uploader", "exporter"}, {"billing-worker", "partner-sync"}
    told = {
        "leak.flagged": LEAKING,
        "leak.rolled_back": idle,
        "leak.spared": stuck,
        "leak.terminated": stuck,
    }
    for event, parts in told.items():
        lines = [line for line in log.splitlines() if event in line]
        assert {part for part in LEAKING | HONEST if any(f" {part} (" in line for line in lines)} == parts
        assert all("opened by" in line and "@postgres, python" in line for line in lines)
    assert (
        "billing-worker finds: IdleInTransactionSessionTimeout: transaction rolled back by pgleash after 2.0 s" in log
    )
    rows = [line.split()[0] for line in table.strip().splitlines()[1:] if "@postgres" in line]
    assert set(rows) == LEAKING
    assert "'" not in log.replace("application's", "")  # no literal, in whatever quotes
