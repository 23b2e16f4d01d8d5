"""What a client means to do in a transaction, and what goes wrong in it."""

import enum
import random
from collections.abc import Sequence
from dataclasses import dataclass

from tests.promises.drivers import ISOLATIONS, Driver
from tests.promises.ledger import ACCOUNTS

FLAG_AFTER, ROLLBACK_AFTER, TERMINATE_AFTER = 0.06, 0.1, 0.4
PAUSES = (
    *(0.03, 0.07, 0.08),  # within the limit, and flagged
    *(0.097, 0.099, 0.1, 0.101, 0.103, 0.105),  # when it passes
    *(0.13, 0.2, 0.3),
    *(0.395, 0.4, 0.405, 0.5),
)


class Trouble(enum.Enum):
    """What goes wrong, beside pauses."""

    NONE = "none"
    KILLED = "killed"  # the connection is cut while a request is on its way
    CANCELLED = "cancelled"  # a cancel request
    GIVEN_UP = "given up"  # the call is cancelled, which most drivers make a cancel request
    FAILS = "failed by itself"  # a statement that is wrong


class Ending(enum.Enum):
    """How the transaction is meant to end."""

    COMMIT = "commit"
    TOGETHER = "commit with the last write"
    TRAILING = "commit with a statement behind it"
    ROLLBACK = "rollback"


@dataclass(frozen=True)
class Plan:
    """One transaction. Its steps: 0 reads, 1 updates, then one a line, then the end.

    Attributes:
        account: which one to add to.
        isolation: the level.
        lines: how many to write.
        nested: the lines that are written under a savepoint each, and how it ends: released, or after an error rolled
            back to.
        pauses: seconds of idleness before a step.
        trouble, at: what goes wrong, in which step.
        swallows: go on after an error.
        ending: how to end.
    """

    account: int
    isolation: str
    lines: int
    nested: dict[int, bool]
    pauses: dict[int, float]
    trouble: Trouble
    at: int
    swallows: bool
    ending: Ending

    @property
    def end(self) -> int:
        """The last step."""
        return self.lines + 2


def dice(*seed: object) -> random.Random:
    """The decisions of somebody, the same again for the same seed."""
    return random.Random(" ".join(map(str, seed)))  # noqa: S311 - nothing here is secret


def endings(driver: Driver) -> Sequence[Ending]:
    """What this driver can do."""
    possible = [Ending.COMMIT] * 6 + [Ending.ROLLBACK]
    possible += [Ending.TOGETHER] * 3 if driver.together else []
    possible += [Ending.TRAILING] * 2 if driver.trailing else []
    return possible


def plan(throws: random.Random, driver: Driver) -> Plan:
    """Throw the dice for a transaction of this driver's."""
    lines = throws.randint(2, 4)
    troubled = throws.random() < 0.2
    return Plan(
        account=throws.randint(1, ACCOUNTS),
        isolation=throws.choice((ISOLATIONS[0], *ISOLATIONS)),
        lines=lines,
        nested={line: throws.random() < 0.5 for line in range(1, lines) if throws.random() < 0.1},
        pauses=_pauses(throws, lines + 2),
        trouble=throws.choice([kind for kind in Trouble if kind is not Trouble.NONE]) if troubled else Trouble.NONE,
        at=lines + 2 if throws.random() < 0.3 else throws.randint(0, lines + 2),
        swallows=throws.random() < 0.5,
        ending=throws.choice(endings(driver)),
    )


def _pauses(throws: random.Random, end: int) -> dict[int, float]:
    if throws.random() < 0.6:
        return {}
    # The commonest leak: the last write, a slow call, COMMIT.
    steps = [end] if throws.random() < 0.4 else throws.choices(range(1, end + 1), k=throws.choice((1, 1, 2)))
    return {step: throws.choice(PAUSES) for step in steps}
