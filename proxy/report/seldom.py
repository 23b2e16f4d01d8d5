"""What may happen a thousand times a second is told once a second, with its count."""

from typing import Final

QUIET: Final = 1.0  # seconds


class Seldom:
    """Counts one kind of thing, and says when to tell of it."""

    __slots__ = ("_count", "_told")

    def __init__(self) -> None:
        self._count = 0
        self._told = -QUIET

    def happened(self, now: float) -> int:
        """It has happened; returns how often since it was last told if it is to be told now, else 0."""
        self._count += 1
        if now - self._told < QUIET:
            return 0
        count, self._count, self._told = self._count, 0, now
        return count
