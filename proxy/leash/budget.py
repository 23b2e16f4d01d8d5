"""How many actions all sessions together may take: a mistake in a limit must not end every transaction of a house."""

from collections import deque
from typing import Final

from proxy.report.seldom import Seldom

MINUTE: Final = 60.0  # seconds


class Budget:
    """Actions in any minute.

    Args:
        per_minute: how many there may be.

    Attributes:
        per_minute: the same; may be changed.
        spared: leaks that were spared since it is spent, and when to tell of them.
    """

    def __init__(self, per_minute: int) -> None:
        self.per_minute = per_minute
        self._taken: deque[float] = deque()
        self.spared = Seldom(MINUTE)

    def take(self, now: float) -> bool:
        """Take one action from it; false if it is spent."""
        while self._taken and self._taken[0] + MINUTE <= now:  # as free_at rounds it
            self._taken.popleft()
        if len(self._taken) >= self.per_minute:
            return False
        self._taken.append(now)
        return True

    def free_at(self, now: float) -> float:
        """When there may be one again, if it is spent now."""
        over = len(self._taken) - self.per_minute
        return self._taken[over] + MINUTE if over >= 0 else now
