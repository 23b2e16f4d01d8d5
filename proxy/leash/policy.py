"""Limits, and the verdict on what a client holds. Pure: everything comes in as an argument, nothing is done.

Two clocks, never mixed: the length of a *hold* counts from the moment it became the client's turn, the *age* of a
transaction from its first request, however busy it was since. All times are seconds of one monotonic clock.
"""

import enum
from collections.abc import Iterator
from typing import Final, NamedTuple

from proxy.settings import NEVER, Settings
from proxy.wire.hold import Hold


class Limits(NamedTuple):
    """What a session may do, in seconds; NEVER where there is no limit."""

    flag_after: float = NEVER
    rollback_after: float = NEVER
    terminate_after: float = NEVER
    flag_transaction_after: float = NEVER
    terminate_transaction_after: float = NEVER
    flag_idle_session_after: float = NEVER
    terminate_idle_session_after: float = NEVER

    @property
    def earliest(self) -> float:
        """The soonest that anything can be due after a request."""
        return min(self)

    @classmethod
    def of(cls, settings: Settings) -> "Limits":
        """The limits of a configuration."""
        return cls(*(getattr(settings, name) for name in cls._fields))


class Action(enum.Enum):
    """What is to be done now, the mildest first."""

    WAIT = "wait"
    FLAG = "flag"
    ROLL_BACK = "rollback"
    TERMINATE = "terminate"


class View(NamedTuple):
    """What is to be judged.

    Attributes:
        hold: what the client holds now.
        started: when the transaction began; None if none is open.
        barred: what is not to be done, whatever passes: it has been done, or cannot be.
    """

    hold: Hold | None
    started: float | None
    barred: frozenset[Action] = frozenset()


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


SEVERITY: Final = {action: place for place, action in enumerate(Action)}
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
    worst = max(passed, key=lambda one: (SEVERITY[one.action], -one.at))
    return Verdict(worst.action, worst.limit, worst.by_age, wake)


def _due(view: View, limits: Limits) -> list[_Due]:
    due: list[_Due] = []
    if view.hold is not None:
        due += [_Due(view.hold.since + limit, action, limit, by_age=False) for action, limit in _of_holds(limits)]
    if view.started is not None:
        due += [_Due(view.started + limit, action, limit, by_age=True) for action, limit in _of_ages(limits)]
    return [one for one in due if one.action not in view.barred]


def _of_holds(limits: Limits) -> Iterator[tuple[Action, float]]:
    yield Action.FLAG, limits.flag_after
    yield Action.ROLL_BACK, limits.rollback_after
    yield Action.TERMINATE, limits.terminate_after


def _of_ages(limits: Limits) -> Iterator[tuple[Action, float]]:
    yield Action.FLAG, limits.flag_transaction_after
    yield Action.TERMINATE, limits.terminate_transaction_after


def _next_hold_limit(view: View, limits: Limits) -> float:
    return min((limit for action, limit in _of_holds(limits) if action not in view.barred), default=NEVER)
