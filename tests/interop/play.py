"""One run of a client's program, and what came of it."""

import contextlib
import json
import subprocess
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.life.support import ROOT, environment

LIMIT = 60.0  # seconds for a whole program; under ten is usual
Line = dict[str, Any]


@dataclass
class Outcome:
    """What a program printed.

    Attributes:
        driver, version: of the client.
        steps: what it said of each step, by name, in order; without those of the leak.
        leak: what it said of the leak.
        status: its exit status.
        errors: what it wrote to standard error.
    """

    driver: str = ""
    version: str = ""
    steps: dict[str, Line] = field(default_factory=dict)
    leak: Line = field(default_factory=dict)
    status: int = 0
    errors: str = ""

    def unsupported(self) -> list[str]:
        """The steps that it has nothing for."""
        return [name for name, line in self.steps.items() if "unsupported" in line]

    def take(self, line: Line) -> None:
        """Keep a line that the program has printed."""
        if "driver" in line:
            self.driver, self.version = line["driver"], line["version"]
        elif line["step"] == "leak":
            self.leak = line
        else:
            self.steps[line["step"]] = line


def play(command: list[str], variables: Mapping[str, str], leaking: Callable[[], None]) -> Outcome:
    """Run a program to its end.

    Args:
        command: how to start it.
        variables: libpq's, for the database it shall talk to.
        leaking: returns when the program, which has now opened a transaction and is idle, shall go on.
    """
    outcome = Outcome()
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment(variables),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    errors: list[str] = []
    assert process.stdin
    assert process.stdout
    assert process.stderr
    reader = threading.Thread(target=errors.extend, args=[process.stderr])
    killer = threading.Timer(LIMIT, process.kill)
    reader.start()
    killer.start()
    try:
        for text in process.stdout:
            if not text.startswith("{"):  # what a library has to say
                errors.append(text)
                continue
            line: Line = json.loads(text)
            if line.get("step") == "leaking":
                leaking()
                with contextlib.suppress(BrokenPipeError):  # what arrived has ended it
                    process.stdin.write("\n")
                    process.stdin.flush()
            else:
                outcome.take(line)
        outcome.status = process.wait()
    finally:
        process.kill()
        killer.cancel()
        reader.join()
        process.communicate()
    outcome.errors = "".join(errors)
    return outcome
