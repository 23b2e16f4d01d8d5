"""Limits, and the verdict on what a client holds. Pure: everything comes in as an argument, nothing is done.

Two clocks, never mixed: the length of a *hold* counts from the moment it became the client's turn, the *age* of a
transaction from its first request, however busy it was since. All times are seconds of one monotonic clock.
"""

import enum
from typing import Final, NamedTuple

from proxy.settings import NEVER, Settings
from proxy.wire.hold import Hold


class Limits(NamedTuple):
    """What a session may do, in seconds; NEVER where there is no limit."""

    flag_after: float = NEVER
    terminate_after: float = NEVER
    flag_transaction_after: float = NEVER
    terminate_transaction_after: float = NEVER

    @property
    def earliest(self) -> float:
        """The soonest that anything can be due after a transaction has begun."""
        return min(self)

    @classmethod
    def of(cls, settings: Settings) -> "Limits":
        """The limits of a configuration."""
        return cls(*(getattr(settings, name) for name in cls._fields))


class View(NamedTuple):
    """What is to be judged.

    Attributes:
        hold: what the client holds now.
        started: when the transaction began; None if none is open.
        flagged: whether this transaction has been flagged.
        spared: flag, but never terminate: nothing but a Parse keeps the transaction open, and drivers leave such a
            series for as long as they like (asyncpg's prepare()); or it is not certain what the server still owes.
    """

    hold: Hold | None
    started: float | None
    flagged: bool = False
    spared: bool = False


class Action(enum.Enum):
    """What is to be done now."""

    WAIT = "wait"
    FLAG = "flag"
    TERMINATE = "terminate"


class Verdict(NamedTuple):
    """What is to be done.

    Attributes:
        action: what.
        limit: the limit that passed, in seconds.
        by_age: whether it was the transaction's age that passed it, not the hold.
        wake: when to look again; NEVER if nothing can come of it before the client's next request.
    """

    action: Action
    limit: float
    by_age: bool
    wake: float


class _Due(NamedTuple):
    at: float
    action: Action
    limit: float
    by_age: bool


WAIT_FOR_A_REQUEST: Final = Verdict(Action.WAIT, NEVER, by_age=False, wake=NEVER)


def judge(view: View, limits: Limits, now: float) -> Verdict:
    """Decide what is due at `now`, and when to look again."""
    if view.started is None:
        return WAIT_FOR_A_REQUEST
    due = _due(view, limits)
    passed = [one for one in due if one.at <= now]
    to_come = [one.at for one in due if one.at > now]
    if view.hold is None:
        to_come.append(now + _next_hold_limit(view, limits))  # a hold may begin right after this look
    wake = min(to_come, default=NEVER)
    if not passed:
        return Verdict(Action.WAIT, NEVER, by_age=False, wake=wake)
    worst = max(passed, key=lambda one: (one.action is Action.TERMINATE, -one.at))
    return Verdict(worst.action, worst.limit, worst.by_age, wake)


def _due(view: View, limits: Limits) -> list[_Due]:
    due: list[_Due] = []
    for since, by_age in ((view.hold.since if view.hold else None, False), (view.started, True)):
        if since is None:
            continue
        flag, end = (
            (limits.flag_transaction_after, limits.terminate_transaction_after)
            if by_age
            else (limits.flag_after, limits.terminate_after)
        )
        if not view.flagged:
            due.append(_Due(since + flag, Action.FLAG, flag, by_age))
        if not view.spared:
            due.append(_Due(since + end, Action.TERMINATE, end, by_age))
    return due


def _next_hold_limit(view: View, limits: Limits) -> float:
    return limits.terminate_after if view.flagged else min(limits.flag_after, limits.terminate_after)
