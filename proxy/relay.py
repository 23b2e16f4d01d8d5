"""The two asyncio protocols of a session: what one receives is written to the other, then shown to an observer.

Forward first, look second. When a side does not take what is written to it, the other side is not read from until it
does, so a session's memory is bounded by two buffers, whatever passes through.
"""

import asyncio
from collections.abc import Callable
from typing import Final, cast

from proxy.sockets import unread_of

HIGH_WATER: Final = 65_536  # bytes waiting for a side that make us stop reading from the other one


def nowhere(_data: bytes) -> None:
    """Where bytes go that nobody is left to receive."""


class Leg(asyncio.Protocol):
    """One socket of a session.

    Args:
        loop: whose clock the observer is given.
        ended: called when the peer has sent its last byte, and again when the socket is closed, with its error if any.
        stuffed: called when the peer does not take what is written to it, after reading from the other side stopped.
        took: called when it does again.

    Attributes:
        forward: takes the bytes that come; `transport.write` of the other side.
        observe: is shown them afterwards, with the time.
        other: the other side.
        received: how many bytes have come.
        finished: whether we have ended our stream to the peer.
        silent: whether the peer has ended its stream to us.
        closed: whether there is no socket: it is not connected yet, or closed.
    """

    __slots__ = (
        "_ended", "_stuffed", "_time", "_took", "closed", "finished", "forward", "observe", "other", "received",
        "silent", "transport",
    )  # fmt: skip

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        ended: Callable[[Exception | None], None],
        stuffed: Callable[[], None],
        took: Callable[[], None],
    ) -> None:
        self._time = loop.time
        self._ended = ended
        self._stuffed = stuffed
        self._took = took
        self.forward: Callable[[bytes], None] = nowhere
        self.observe: Callable[[bytes, float], None] = nobody
        self.other = self
        self.transport: asyncio.Transport | None = None
        self.received = 0
        self.finished = False
        self.silent = False
        self.closed = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Asyncio: the socket is connected."""
        transport = cast("asyncio.Transport", transport)  # a stream protocol gets no other; uvloop's are not derived
        transport.set_write_buffer_limits(high=HIGH_WATER)
        self.transport = transport
        self.closed = False

    def data_received(self, data: bytes) -> None:
        """Asyncio: bytes have come."""
        self.received += len(data)
        observe = self.observe  # forwarding may be what changes it
        self.forward(data)
        observe(data, self._time())

    def eof_received(self) -> bool:
        """Asyncio: the peer will send nothing more; it may still read."""
        self.silent = True
        self._ended(None)
        if self.finished:
            self.close()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """Asyncio: the socket is about to be closed, or is."""
        if exc is not None and self.transport is not None and (rest := unread_of(self.transport)):
            self.data_received(rest)  # a write has failed before the peer's last words were read
        self.closed = True
        # A session is a circle of references and waits for the garbage collector; what is behind a socket need not.
        self.transport = None
        self.other.forward = nowhere
        self._ended(exc)

    def pause_writing(self) -> None:
        """Asyncio: the peer does not take what is written to it."""
        self.other.pause_reading()
        self._stuffed()

    def resume_writing(self) -> None:
        """Asyncio: it does again."""
        self.other.resume_reading()
        self._took()

    def pause_reading(self) -> None:
        """Let the peer wait."""
        if self.transport is not None and not self.transport.is_closing():
            self.transport.pause_reading()

    def resume_reading(self) -> None:
        """Let it go on."""
        if self.transport is not None and not self.transport.is_closing():
            self.transport.resume_reading()

    def waiting(self) -> int:
        """Bytes written to this side that are still in our buffer."""
        return 0 if self.transport is None or self.closed else self.transport.get_write_buffer_size()

    def write(self, data: bytes) -> None:
        """Write bytes of ours."""
        if data and self.transport is not None and not self.finished and not self.transport.is_closing():
            self.transport.write(data)

    def finish(self) -> None:
        """Send what waits and then the end of our stream; the peer's own may go on."""
        self.finished = True
        if self.silent:
            self.close()
        elif self.transport is not None and not self.transport.is_closing():
            self.transport.write_eof()

    def discard(self) -> None:
        """Read on for nobody: what would stay unread would make our close a reset."""
        self.forward = nowhere
        self.resume_reading()

    def close(self) -> None:
        """Send what waits, then close."""
        if self.transport is not None:
            self.transport.close()

    def abort(self) -> None:
        """Close now."""
        if self.transport is not None:
            self.transport.abort()


def nobody(_data: bytes, _now: float) -> None:
    """Looks at nothing."""
