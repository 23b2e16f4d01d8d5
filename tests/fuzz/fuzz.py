"""Feeds mutated bytes to everything that looks at bytes, for as long as one likes: `make fuzz SECONDS=60`.

What is found is made small and written to tests/fuzz/corpus, and `make test` plays it from then on.
"""

import argparse
import hashlib
import random
import re
import secrets
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from tests.fuzz.case import CORPUS, PACKETS, Case, Chunk, seeds, write
from tests.fuzz.checks import Seen
from tests.fuzz.mutate import mutate, mutate_packets
from tests.fuzz.sockets import Relay, any_case
from tests.fuzz.targets import CHECKS

TRIES: Final = 2000  # to make a case smaller
SELDOM: Final = 0.05

Checks = Mapping[str, Callable[[Case], object]]


class Fuzz:
    """A run.

    Args:
        seed: of all that is random.
        relay: for conversations through a proxy.

    Attributes:
        done: how many cases, by check.
        reached: how many cases led where none had led before.
        failures: a case for each thing that is wrong.
    """

    def __init__(self, seed: int, relay: Relay) -> None:
        self._checks: Checks = CHECKS | {"sockets": relay.check}
        self._choose = random.Random(seed)  # noqa: S311 - a seed that is printed is no secret
        self._seeds = seeds()
        self._known: set[object] = set()
        self.done: Counter[str] = Counter()
        self.failures: dict[str, Case] = {}

    @property
    def reached(self) -> int:
        return len(self._known)

    def step(self) -> None:
        """One case, for every check."""
        case = mutate(self._choose, self._seeds)
        self._keep(case, self._check("tracker", case))
        for name in ("guard", "scanner", "gate", "exit", "answer", "owed", "carried"):
            self._check(name, case)
        if self._choose.random() < SELDOM:  # it takes ten times as long
            self._check("sockets", any_case(self._choose, self._seeds))
        packets = mutate_packets(self._choose, PACKETS)
        self._check("first_packets", (Chunk(from_client=True, data=packets),))

    def _keep(self, case: Case, seen: object) -> None:
        """A case that leads where none has led before is worth being mutated, too."""
        if isinstance(seen, Seen) and seen.where not in self._known:
            self._known.add(seen.where)
            self._seeds.append(case)

    def _check(self, name: str, case: Case) -> object:
        self.done[name] += 1
        try:
            return self._checks[name](case)
        except Exception as error:  # noqa: BLE001 - whatever is raised is what is looked for
            what = kind_of(name, error)
            if what not in self.failures:
                self.failures[what] = smaller(self._checks, name, case, what)
            return None


def kind_of(name: str, error: Exception) -> str:
    """What is wrong, without the figures: many cases show the same."""
    return f"{name}: {type(error).__name__}: {re.sub(r'[0-9]+', 'N', str(error))[:60]}"


def wrong_with(checks: Checks, name: str, case: Case) -> str | None:
    """What the check that a name begins with says of a case."""
    name = name.partition("-")[0]
    try:
        checks[name](case)
    except Exception as error:  # noqa: BLE001 - the same
        return kind_of(name, error)
    return None


def smaller(checks: Checks, name: str, case: Case, what: str) -> Case:
    """The case without what it does not need in order to fail."""
    tries = 0
    size = max((len(chunk.data) for chunk in case), default=0)
    while size and tries < TRIES:
        before = case
        for candidate in [case[:at] + case[at + 1 :] for at in range(len(case))]:
            tries += 1
            if wrong_with(checks, name, candidate) == what:
                case = candidate
                break
        if case is before:
            case, more = without_bytes(checks, name, case, what, size)
            tries += more
        if case == before:
            size //= 2
    return case


def without_bytes(checks: Checks, name: str, case: Case, what: str, size: int) -> tuple[Case, int]:
    """The case without so many bytes somewhere, if it still fails, and how often that was tried."""
    tries = 0
    for at, (from_client, data) in enumerate(case):
        for begin in range(0, len(data), size):
            tries += 1
            candidate = (*case[:at], Chunk(from_client, data[:begin] + data[begin + size :]), *case[at + 1 :])
            if wrong_with(checks, name, candidate) == what:
                return candidate, tries
    return case, tries


def save(what: str, case: Case) -> Path:
    """Put a case into the corpus; its name begins with that of its check."""
    text = write(case)
    digest = hashlib.sha256(text.encode()).hexdigest()[:8]
    CORPUS.mkdir(exist_ok=True)
    file = CORPUS / f"{what.partition(':')[0]}-{digest}.case"
    file.write_text(f"# {what}\n{text}")
    return file


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(1 << 30))
    arguments = parser.parse_args()
    print(f"seed {arguments.seed}, {arguments.seconds:g} s")
    with Relay() as relay:
        fuzz = Fuzz(arguments.seed, relay)
        end = time.monotonic() + arguments.seconds
        while time.monotonic() < end:
            fuzz.step()
    print(f"{dict(fuzz.done)}; {fuzz.reached} states reached")
    for what, case in fuzz.failures.items():
        print(f"FAILED {what}\n  {save(what, case)}")
    return 1 if fuzz.failures else 0


if __name__ == "__main__":
    sys.exit(main())
