"""What may happen a thousand times a second is told once in a while, with its count."""

from typing import Final

QUIET: Final = 1.0  # seconds


class Seldom:
    """Counts one kind of thing, and says when to tell of it.

    Args:
        quiet: seconds between two times at least.
    """

    __slots__ = ("_count", "_quiet", "_told")

    def __init__(self, quiet: float = QUIET) -> None:
        self._count = 0
        self._quiet = quiet
        self._told = -quiet

    def happened(self, now: float) -> int:
        """It has happened; returns how often since it was last told if it is to be told now, else 0."""
        self._count += 1
        if now - self._told < self._quiet:
            return 0
        count, self._count, self._told = self._count, 0, now
        return count
