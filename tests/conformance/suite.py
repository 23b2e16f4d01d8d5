"""What a suite is, and what two runs of it tell."""

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tests.conformance.server import Target

PASSED, FAILED, SKIPPED = "passed", "failed", "skipped"
RUN_DEADLINE = 1500.0  # seconds, for what takes two minutes on two quiet cores


@dataclass(frozen=True)
class Outcome:
    """How a test has ended, and what came out of it as far as that can be compared."""

    status: str
    output: str = ""


Outcomes = dict[str, Outcome]


class Suite(Protocol):
    """Other people's tests.

    Attributes:
        name: what it is called, with its version once it is prepared.
        settings: those of postgresql.conf that it asks for.
    """

    @property
    def name(self) -> str: ...
    @property
    def settings(self) -> Mapping[str, str]: ...

    def prepare(self) -> None:
        """Fetch and build it; raises Unavailable."""

    def run(self, target: Target) -> Outcomes:
        """Run it, and say how each of its tests has ended."""


def told(command: Sequence[str | Path], directory: Path, variables: Mapping[str, str]) -> tuple[int, str]:
    """The exit status and all that a program has said; it does not get the terminal."""
    with subprocess.Popen(
        command,
        cwd=directory,
        env=variables,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        process_group=0,
    ) as process:
        try:
            said, _ = process.communicate(timeout=RUN_DEADLINE)
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)  # it has children that would hold the pipe
            raise
    return process.returncode, said


def differing(one: Outcomes, other: Outcomes) -> list[str]:
    """The tests that did not end in the same way, or did not print the same."""
    return [name for name in {**one, **other} if one.get(name) != other.get(name)]


def count(outcomes: Outcomes) -> str:
    """How many have passed and failed, in words for a table; what a suite leaves out itself is not counted."""
    statuses = [outcome.status for outcome in outcomes.values()]
    return f"{statuses.count(PASSED)} passed, {statuses.count(FAILED)} failed"
