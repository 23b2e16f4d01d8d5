"""What a client holds, by the messages and by the sockets, and since when it is its fault."""

import asyncio
from collections.abc import Callable
from typing import Protocol

from proxy.leash.unread import SAMPLE_EVERY, Unread
from proxy.leash.watchdog import Timer
from proxy.wire.hold import Hold
from proxy.wire.tracker import Tracker


class Sockets(Protocol):
    """What is asked of a session's sockets."""

    def unread(self) -> int:
        """Bytes that lie in our buffer for the client."""

    def unsent(self) -> int:
        """Bytes that lie in our buffer for the server."""

    def taken(self) -> tuple[int, int]:
        """Bytes that the client's side has taken so far, and how many it takes at a time."""

    def lost(self) -> bool | None:
        """Whether the client's host is lost; None while it has still to answer."""


class Holding:
    """One session's holds.

    Args:
        loop: whose clock counts.
        tracker: what is known of the session by its messages.
        sockets: its sockets.
        safely: calls something that must not hurt the session.
        turned: called when it is the client's turn again although it has said nothing, with the time.

    Attributes:
        wanted: whether anybody wants to know; else progress in reading is not watched.
    """

    __slots__ = (
        "_loop",
        "_not_before",
        "_safely",
        "_sampler",
        "_sockets",
        "_stuffed",
        "_tracker",
        "_turned",
        "_unread",
        "wanted",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        tracker: Tracker,
        sockets: Sockets,
        safely: Callable[[Callable[[], None]], None],
        turned: Callable[[float], None],
    ) -> None:
        self._loop = loop
        self._tracker = tracker
        self._sockets = sockets
        self._safely = safely
        self._turned = turned
        self._unread = Unread()
        self._sampler: Timer | None = None
        self._stuffed = False  # our buffer for the client is full
        self._not_before = 0.0  # until then it was not the client's fault
        self.wanted = True

    def client_stuffed(self) -> None:
        """Our buffer for the client is full, and the server has to wait: the client may have stopped reading."""
        self._stuffed = True
        self._unread.forget()  # until now the server did not wait
        self._watch_reading()

    def client_took(self) -> None:
        """There is room for the server's next bytes again."""
        self._stuffed = False

    def server_took(self) -> None:
        """The server has taken what it had not: from here on it is the client's turn again."""
        self._not_before = self._loop.time()
        self._turned(self._not_before)

    def now(self, now: float) -> Hold | None:
        """What is held."""
        hold = self._tracker.hold()
        if self._sockets.unread() and self._tracker.in_transaction:
            self._watch_reading()
            # With room left in the buffer, and without the client's turn, it is the server that works.
            return self._unread.hold if self._stuffed or hold else None
        if hold is None:
            return None
        if self._sockets.unsent():
            self._not_before = now
        return hold if hold.since >= self._not_before else Hold(hold.kind, self._not_before)

    def stop(self) -> None:
        """Nobody asks any more."""
        self.wanted = False
        if self._sampler is not None:
            self._sampler.cancel()
            self._sampler = None

    def _watch_reading(self) -> None:
        if self._sampler is None and self.wanted:
            self._safely(self._sample)

    def _sample(self) -> None:
        now = self._loop.time()
        if self._sockets.unread():
            self._unread.sample(*self._sockets.taken(), now)
            self._sampler = self._loop.call_later(SAMPLE_EVERY, lambda: self._safely(self._sample))
        else:
            self._unread.forget()
            self._not_before = now  # only now the last message has left for the client
            self._sampler = None
            self._turned(now)
