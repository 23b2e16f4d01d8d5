"""What a client says that does not know that its transaction is gone -> what its server gets.

1. A Query that begins with COMMIT, END or PREPARE TRANSACTION is sent as ROLLBACK. Every time: drivers swallow errors.
2. An Execute is sent; what follows it up to Sync is not (Flush is): in a failed block it either ends the block or
   fails, and behind a commit that fails nothing more would be carried out either. Only what is certain to roll back is
   let be with what follows. Certain is what was prepared in the same round, or in one that has not failed: if any of
   that had been refused, nothing would be answered.
3. One request at a time: what comes behind a Query or a Sync waits for its ReadyForQuery. So a COMMIT that belongs to
   the client's next transaction is never taken for one of this.
"""

from collections.abc import Set as AbstractSet
from typing import Final

from proxy.wire import messages as m
from proxy.wire.exits import Exit, exit_of
from proxy.wire.failed_block import FailedBlock, Round
from proxy.wire.replies import message as message_of
from proxy.wire.scanner import HEADER, cut, type_and_length
from proxy.wire.statements import NAME_BYTES

LOOK: Final = 65_536  # bytes of a request that are looked at; a COMMIT behind longer comments is a doubt
MAX_NAMES: Final = 1000  # statements, portals; one that is not remembered counts as a commit

SIMPLE: Final = frozenset((m.QUERY, m.FUNCTION_CALL))
EXTENDED: Final = frozenset((m.PARSE, m.BIND, m.DESCRIBE, m.EXECUTE, m.CLOSE))
LET_BE: Final = frozenset((m.FLUSH, m.TERMINATE, m.COPY_DATA, m.COPY_DONE, m.COPY_FAIL, m.PASSWORD))
LOOKED_AT: Final = frozenset((m.QUERY, *EXTENDED))
ROLLBACK_QUERY: Final = message_of(m.QUERY, b"ROLLBACK\0")


class Requests:
    """The client's stream.

    Args:
        block: what is known of the block.
        rollbacks: the names of statements that the client has prepared before and that roll back for certain.
    """

    __slots__ = (
        "_block", "_held", "_instead", "_new_portals", "_new_rollbacks", "_portals", "_raw", "_rollbacks", "_rounds",
        "_series", "_skip", "_skip_drops",
    )  # fmt: skip

    def __init__(self, block: FailedBlock, rollbacks: AbstractSet[bytes]) -> None:
        self._block = block
        self._rollbacks = set(rollbacks)  # statements that roll back for certain, by name
        self._portals: set[bytes] = set()  # portals of such
        self._rounds = block.rounds
        self._new_rollbacks: set[bytes] = set()  # those of this round
        self._new_portals: set[bytes] = set()
        self._held = bytearray()  # cutting off its beginning does not copy the rest
        self._skip = 0  # bytes of the current message that are still to come
        self._skip_drops = False  # and are not to be sent
        self._instead = b""  # to be sent in place of the current message, when all of it has come
        self._series = False  # extended messages that may fail were sent since the last Sync
        self._raw = False  # up to Sync everything is sent as it is

    @property
    def held(self) -> int:
        """How many bytes wait to be sent."""
        return len(self._held)

    def feed(self, data: bytes) -> bytes:
        """Take what the client sent; returns what the server is to get now."""
        self._held += data
        return self.release()

    def rest(self) -> bytes:
        """What was held, once the block is over."""
        if self._skip and self._skip_drops:  # half of a message was left out: the other half alone means nothing
            self._block.doubt = "the server ended the block before the client had ended its request"
        return cut(self._held, len(self._held))

    def release(self) -> bytes:
        """What the server may get now of what was held."""
        sent: list[bytes] = []
        block = self._block
        if self._rounds != block.rounds:
            self._next_round()
        while self._held and not block.doubt:
            if self._skip:
                self._go_on(sent)
            elif block.over or block.waiting or not self._next(sent):
                break
        return b"".join(sent)

    def _next_round(self) -> None:
        """Where a round has failed, nobody knows what of it was carried out."""
        self._rounds = self._block.rounds
        if self._block.failed_before:
            self._rollbacks -= self._new_rollbacks
            self._portals -= self._new_portals
        self._new_rollbacks.clear()
        self._new_portals.clear()

    def _go_on(self, sent: list[bytes]) -> None:
        part = cut(self._held, self._skip)
        self._skip -= len(part)
        if not self._skip_drops:
            sent.append(part)
        elif not self._skip:
            sent.append(self._instead)

    def _next(self, sent: list[bytes]) -> bool:
        """Decide about the next message; false if too little of it is there."""
        if len(self._held) < HEADER:
            return False
        kind, length = type_and_length(self._held)
        if length < m.MIN_MESSAGE_LENGTH:
            self._block.doubt = "the client sent what is not the protocol"
            return False
        size = 1 + length
        looked_at = min(size, LOOK) if kind in LOOKED_AT else HEADER
        if len(self._held) < looked_at:
            return False
        message = cut(self._held, looked_at)
        self._skip = size - looked_at
        decided = message if self._raw and kind != m.SYNC else self._decide(kind, message, whole=size <= LOOK)
        self._skip_drops = decided is not message
        self._instead = decided
        if not (self._skip and self._skip_drops):
            sent.append(decided)
        return True

    def _decide(self, kind: int, message: bytes, *, whole: bool) -> bytes:
        """What to send in place of a message, or of its beginning; b"" for nothing."""
        if kind == m.SYNC:
            self._series = self._raw = False
            self._block.waiting = True
            return message
        if kind in LET_BE:
            return message
        if self._block.round in {Round.TURNS, Round.TURNED}:  # up to Sync, as the server does behind an error
            return b""
        if kind in SIMPLE:
            return self._simple(kind, message, whole=whole)
        if kind in EXTENDED:
            # A Close is never refused, and pgjdbc puts it in front of a Query.
            self._series = self._series or kind != m.CLOSE
            self._extended(kind, message[HEADER:], whole=whole)
            return message
        self._block.doubt = "the client sent what is not the protocol"
        return b""

    def _simple(self, kind: int, message: bytes, *, whole: bool) -> bytes:
        block = self._block
        if self._series:  # no driver does it, and whether it is answered at all depends on what came before
            block.doubt = "a Query came without a Sync before it"
            return b""
        block.waiting = True
        way = exit_of(message[HEADER:].rstrip(b"\0"), cut=not whole) if kind == m.QUERY else Exit.NONE
        if way is Exit.UNKNOWN:
            block.doubt = "a Query began with more comments than are looked through"
        elif way is Exit.COMMIT:
            block.round = Round.TURNS
            return ROLLBACK_QUERY
        elif way is Exit.ROLLBACK:
            block.round = Round.ROLLS_BACK
        return message

    def _extended(self, kind: int, body: bytes, *, whole: bool) -> None:
        name, _, rest = body.partition(b"\0")
        if kind == m.PARSE:
            text, end, _ = rest.partition(b"\0")
            certain = exit_of(text, cut=not (whole or end)) is Exit.ROLLBACK
            _note(self._rollbacks, self._new_rollbacks, name[:NAME_BYTES], certain=certain)
        elif kind == m.BIND:
            certain = rest.partition(b"\0")[0][:NAME_BYTES] in self._rollbacks
            _note(self._portals, self._new_portals, name[:NAME_BYTES], certain=certain)
        elif kind == m.CLOSE:
            (self._rollbacks if body[:1] == b"S" else self._portals).discard(name[1:][:NAME_BYTES])
        elif kind == m.EXECUTE:
            self._raw = name[:NAME_BYTES] in self._portals
            self._block.round = Round.ROLLS_BACK if self._raw else Round.TURNS


def _note(known: set[bytes], new: set[bytes], name: bytes, *, certain: bool) -> None:
    """Note whether what has this name now rolls back for certain."""
    known.discard(name)
    if certain and len(known) < MAX_NAMES:
        known.add(name)
        new.add(name)
