"""The demo as a user runs it: what it shows, and that nothing is left behind."""

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


@pytest.fixture
def nothing_left() -> Iterator[dict[str, str]]:
    """The demo's environment, with a place of its own for temporary files that everybody gets through."""
    place = Path(tempfile.mkdtemp(prefix="demo-", dir="/tmp"))
    place.chmod(0o777)
    yield {**os.environ, "TMPDIR": str(place), "PYTHONUNBUFFERED": "1"}
    commands = (" ".join(process.info["cmdline"] or []) for process in psutil.process_iter(["cmdline"]))
    assert [command for command in commands if str(place) in command] == []
    assert list(place.iterdir()) == []
    place.rmdir()


def test_the_demo_names_who_leaks_and_nobody_else(nothing_left: dict[str, str]) -> None:
    demo = subprocess.run([*DEMO, "--seconds", "6"], env=nothing_left, capture_output=True, text=True, check=False)
    assert (demo.returncode, demo.stderr) == (0, "")
    log, _, table = demo.stdout.partition("Who leaked, how often and for how long:")
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


def test_the_demo_can_be_interrupted(nothing_left: dict[str, str]) -> None:
    with subprocess.Popen(DEMO, env=nothing_left, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as demo:
        assert demo.stdout is not None
        assert demo.stderr is not None
        for line in demo.stdout:
            if "leak.flagged" in line:
                break
        demo.send_signal(signal.SIGINT)
        assert demo.stderr.read() == ""
    assert demo.returncode == 128 + signal.SIGINT
