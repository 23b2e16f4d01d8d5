"""Wakes when a limit could have passed: one deadline a session, moved lazily.

A request arms the deadline if there is none, or a later one than anything could be due, and costs nothing else: no
timer is moved when a hold begins or ends. When it fires, somebody looks, and says when to look again. A session outside
of a transaction has none.
"""

import asyncio
from collections.abc import Callable
from typing import Final, Protocol

from proxy.settings import NEVER

GRAIN: Final = 0.001  # the loop's clock counts milliseconds: a timer may fire that much early


class Timer(Protocol):
    """What the loop gives for a call in the future."""

    def cancel(self) -> None:
        """Do not call."""


class Watchdog:
    """One session's deadline.

    Args:
        loop: whose clock counts.
        look: called with the time; returns when to look again, or NEVER.

    Attributes:
        due: when it will look; NEVER if it will not.
    """

    __slots__ = ("_look", "_loop", "_timer", "due")

    def __init__(self, loop: asyncio.AbstractEventLoop, look: Callable[[float], float]) -> None:
        self._loop = loop
        self._look = look
        self._timer: Timer | None = None
        self.due = NEVER

    def arm(self, when: float) -> None:
        """Look at `when`, seconds of the loop's clock, instead of when it was due."""
        self.disarm()
        if when != NEVER:
            self.due = when
            self._timer = self._loop.call_at(when + GRAIN, self._fire)

    def disarm(self) -> None:
        """Do not look any more."""
        self.due = NEVER
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _fire(self) -> None:
        """The loop may have woken late: what has arrived by now is read first, which takes it one more turn."""
        self._timer = self._loop.call_soon(self._next_turn)

    def _next_turn(self) -> None:
        self._timer = self._loop.call_soon(self._now)

    def _now(self) -> None:
        self.due = NEVER
        self._timer = None
        self.arm(self._look(self._loop.time()))
