"""How long a client has not read what it asked for.

Messages do not tell: the server has sent the rows, and they lie in our buffer and in the kernel's. While they do,
progress is looked for every few milliseconds; a client that reads slowly makes some, and its clock starts again.

Less than a TCP segment is no progress: a reader's window is told in segments (RFC 9293, 3.8.6.2), and what comes in
between is the kernel's own probing of a window that is nearly closed.
"""

from typing import Final

from proxy.wire.hold import Hold, HoldKind

SAMPLE_EVERY: Final = 0.02  # seconds: so much later than it happens is a standstill noticed, at most


class Unread:
    """One client's progress in reading."""

    __slots__ = ("_since", "_taken")

    def __init__(self) -> None:
        self._taken = -1
        self._since = 0.0

    def sample(self, taken: int, segment: int, now: float) -> None:
        """Note how many bytes the client has taken so far, seen at `now`; fewer than `segment` are not counted yet."""
        if self._taken < 0 or taken - self._taken >= segment:
            self._taken = taken
            self._since = now

    def forget(self) -> None:
        """Let the clock start with the next sample."""
        self._taken = -1

    @property
    def hold(self) -> Hold:
        """The hold, if a transaction is open: since the last progress that was seen."""
        return Hold(HoldKind.UNREAD_RESULTS, self._since)
