"""A server that is in a failed block, as far as what ends it goes: bytes in, bytes out, without a socket.

It answers what Postgres answers (backend/tcop/postgres.c), but knows no statements other than those that end a block
and BEGIN, and of a Query it runs the first statement alone.
"""

from struct import error as StructError  # noqa: N812 - a class
from struct import unpack_from
from typing import Final

from proxy.wire.exits import Exit
from tests import messages as m
from tests.wire.scan import slow_exit_of, statements

HEADER: Final = 5
NAME_BYTES: Final = 63
KNOWN: Final = "QFPBDECSHXdcfp"
LONGEST: Final = 1 << 30
ABORTED: Final = m.error("25P02")
GARBAGE: Final = m.error("08P01")
IN_USE: Final = m.error("42P05")
MISSING: Final = m.error("26000")
LAST_WORDS: Final = m.error("08P01", "FATAL")


class FailedBackend:
    """One backend.

    Args:
        prepared: the texts of statements that were prepared before.

    Attributes:
        status: as in ReadyForQuery.
        ended: it has said its last words.
        read: how many messages it has taken.
    """

    def __init__(self, prepared: dict[bytes, bytes]) -> None:
        self.status = "E"
        self.ended = False
        self.read = 0
        self._prepared = dict(prepared)
        self._portals: dict[bytes, bytes] = {}
        self._skipping = False
        self._buffer = b""

    def feed(self, data: bytes) -> bytes:
        """Take what was sent; returns the answers."""
        self._buffer += data
        answers: list[bytes] = []
        while len(self._buffer) >= HEADER and not self.ended:
            kind, length = chr(self._buffer[0]), int(unpack_from("!i", self._buffer, 1)[0])
            if kind not in KNOWN or not HEADER - 1 <= length <= LONGEST:
                answers.append(self._die())
            elif len(self._buffer) <= length:
                break
            else:
                body, self._buffer = self._buffer[HEADER : 1 + length], self._buffer[1 + length :]
                self.read += 1
                answers.append(self._answer(kind, body))
        return b"".join(answers)

    def _die(self) -> bytes:
        self.ended = True
        return LAST_WORDS

    def _answer(self, kind: str, body: bytes) -> bytes:
        if kind == "S":
            self._skipping = False
            return m.ready(self.status)
        if kind == "X":
            self.ended = True
        if kind == "p":
            return self._die()
        if kind in "HXdcf" or self._skipping:
            return b""
        if kind in "QF":
            return (self._query(body) if kind == "Q" else self._run(b"SELECT 1")) + m.ready(self.status)
        try:
            answer = {"P": self._parse, "B": self._bind, "E": self._execute, "C": self._close, "D": self._describe}[
                kind
            ](body)
        except (ValueError, StructError):
            answer = GARBAGE
        self._skipping = answer[:1] == b"E"
        return answer

    def _query(self, body: bytes) -> bytes:
        self._prepared.pop(b"", None)
        text, end, rest = body.partition(b"\0")
        return self._run(text) if end and not rest else GARBAGE

    def _run(self, text: bytes) -> bytes:
        way = slow_exit_of(text)
        words = next(iter(statements(text)), [])
        if not text.strip(b" ;"):
            return m.EMPTY_QUERY
        if way is Exit.NONE and self.status == "E":
            return ABORTED
        if way is not Exit.NONE and self.status != "I":
            answer = m.complete("ROLLBACK" if self.status == "E" or way is Exit.ROLLBACK else "COMMIT")
            self.status = "T" if words[-1:] == [b"CHAIN"] else "I"
            self._portals.clear()
            return answer
        if words[:1] == [b"BEGIN"]:
            self.status = "T"
        return m.complete(words[0].decode(errors="replace") if words else "?")

    def _parse(self, body: bytes) -> bytes:
        name, text, rest = body.split(b"\0", 2)
        unpack_from("!h", rest)
        name = name[:NAME_BYTES]
        if not name:
            self._prepared.pop(name, None)
        if self.status == "E" and slow_exit_of(text) is Exit.NONE and text.strip(b" ;"):
            return ABORTED
        if name in self._prepared:
            return IN_USE
        self._prepared[name] = text
        return m.PARSED

    def _bind(self, body: bytes) -> bytes:
        portal, statement, rest = body.split(b"\0", 2)
        unpack_from("!hhh", rest)
        portal, text = portal[:NAME_BYTES], self._prepared.get(statement[:NAME_BYTES])
        if text is None:
            return MISSING
        if self.status == "E" and slow_exit_of(text) is Exit.NONE:
            return ABORTED
        if portal and portal in self._portals:
            return IN_USE
        self._portals[portal] = text
        return m.BOUND

    def _execute(self, body: bytes) -> bytes:
        portal, rows = body.split(b"\0", 1)
        unpack_from("!i", rows)
        text = self._portals.get(portal[:NAME_BYTES])
        return MISSING if text is None else self._run(text)

    def _close(self, body: bytes) -> bytes:
        kind, name = body[:1], body[1:].split(b"\0", 1)[0][:NAME_BYTES]
        if kind not in {b"S", b"P"}:
            return GARBAGE
        (self._prepared if kind == b"S" else self._portals).pop(name, None)
        return m.CLOSED

    def _describe(self, body: bytes) -> bytes:
        kind, name = body[:1], body[1:].split(b"\0", 1)[0][:NAME_BYTES]
        if kind not in {b"S", b"P"}:
            return GARBAGE
        known = name in (self._prepared if kind == b"S" else self._portals)
        return m.NO_DATA if known else MISSING
