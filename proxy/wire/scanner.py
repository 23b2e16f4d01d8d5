"""Cuts one direction of a session into messages without copying their bodies.

A message is a type byte, a length that counts itself, and a body of up to 1 GB. Only the bodies that somebody wants
are captured, and of those only the first bytes; all others are a number of bytes to skip. So memory stays constant,
whatever passes through.

Where the end of a long body matters too (tools write comments behind a statement), its last bytes are put behind the
first ones.

Rules:
1. A message is announced when its last byte has been seen: half a Query has not been sent yet.
2. However the stream is cut, the same messages are announced with the same bodies.
3. What cannot be a message stops the scanner for good (`lost`); it never raises. The server closes such a session
   itself, and a proxy that guesses would be wrong from there on.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from struct import Struct
from typing import Final

from proxy.wire.messages import MIN_MESSAGE_LENGTH

type_and_length: Final = Struct("!Bi").unpack_from
HEADER: Final = 5

UNKNOWN: Final = -2
SKIP: Final = -1
TAIL_BYTES: Final = 512  # of the end of a body that is longer than what is captured; a comment of tags fits


def capture_limits(wanted: Mapping[int, int]) -> Sequence[int]:
    """Make the table that a Scanner works by.

    Args:
        wanted: for each message type that a direction may carry, how many bytes of its body to capture;
            SKIP for those that nobody wants to hear of. A type that is not in it ends the scanning.
    """
    return tuple(wanted.get(kind, UNKNOWN) for kind in range(256))


def cut(buffer: bytearray, size: int) -> bytes:
    """Take so many bytes off the beginning of a buffer, in time that does not depend on the rest of it."""
    taken = bytes(buffer[:size])
    del buffer[:size]
    return taken


class Scanner:
    """One direction of one session.

    Args:
        limits: what `capture_limits` made; one table serves all sessions.
        announce: called with the type and the captured bytes for each wanted message.
        tailed: the types of whose longer bodies the last TAIL_BYTES, too, are captured.

    Attributes:
        lost: why nothing is scanned any more, or None.
    """

    __slots__ = ("_announce", "_body", "_capture", "_header", "_kind", "_limits", "_skip", "_tail", "_tailed", "lost")

    def __init__(
        self, limits: Sequence[int], announce: Callable[[int, bytes], None], tailed: Collection[int] = ()
    ) -> None:
        self._limits = limits
        self._announce = announce
        self._tailed = tailed
        self._header = b""  # the beginning of a header that was cut
        self._skip = 0  # bytes of the current body that are still to come
        self._kind = 0  # the type of the message whose body was cut, if it is wanted; else 0
        self._body = b""  # what was captured of it so far
        self._capture = 0  # how many more bytes of it to capture
        self._tail = b""  # the last bytes of what was seen of it behind that
        self.lost: str | None = None

    @property
    def at_boundary(self) -> bool:
        """Whether the last byte seen was the last byte of a message."""
        return self._skip == 0 and not self._header and self.lost is None

    def feed(self, data: bytes) -> None:
        """Look at the next bytes of the stream and announce the messages that they complete."""
        if self.lost is not None:
            return
        position = 0
        if self._skip:
            position = self._continue(data)
        elif self._header:
            data = self._header + data
            self._header = b""
        size = len(data)
        limits = self._limits
        announce = self._announce
        while size - position >= HEADER:
            kind, length = type_and_length(data, position)
            limit = limits[kind]
            if limit == UNKNOWN or length < MIN_MESSAGE_LENGTH:
                self._lose(kind, length)
                return
            end = position + 1 + length
            if end > size:
                self._begin(kind, limit, data, position + HEADER)
                self._skip = end - size
                return
            if limit > 0:
                body = position + HEADER
                announce(kind, data[body:end] if end - body <= limit else self._of_long(kind, data, body, end))
            elif limit == 0:
                announce(kind, b"")
            position = end
        if position < size:
            self._header = data[position:]

    def _of_long(self, kind: int, data: bytes, body: int, end: int) -> bytes:
        """What to capture of a body that is longer than its limit."""
        limit = body + self._limits[kind]
        tail = data[max(limit, end - TAIL_BYTES) : end] if kind in self._tailed else b""
        return data[body:limit] + tail

    def _begin(self, kind: int, limit: int, data: bytes, body: int) -> None:
        """Note a message whose end has not come yet; its body begins at `body`."""
        if limit >= 0:
            self._kind = kind
            self._body = data[body : body + limit]
            self._capture = limit - len(self._body)
            self._tail = data[max(body + limit, len(data) - TAIL_BYTES) :] if kind in self._tailed else b""

    def _continue(self, data: bytes) -> int:
        """Take the next bytes of a message that was cut; returns where it ends in `data`."""
        taken = min(self._skip, len(data))
        self._skip -= taken
        if self._kind:
            self._take(data, taken)
            if self._skip == 0:
                kind, body = self._kind, self._body + self._tail
                self._kind, self._body, self._tail = 0, b"", b""
                self._announce(kind, body)
        return taken

    def _take(self, data: bytes, taken: int) -> None:
        """Capture of the first `taken` bytes of `data` what is wanted."""
        captured = min(taken, self._capture)
        if captured:
            self._body += data[:captured]
            self._capture -= captured
        if self._kind in self._tailed and taken > captured:
            self._tail = (self._tail + data[max(captured, taken - TAIL_BYTES) : taken])[-TAIL_BYTES:]

    def _lose(self, kind: int, length: int) -> None:
        if self._limits[kind] == UNKNOWN:
            self.lost = f"a message of unknown type 0x{kind:02x}"
        else:
            self.lost = f"a message of type {chr(kind)!r} with length {length}"
