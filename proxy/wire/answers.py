"""What a server says in a failed block whose client does not know of it -> what the client gets.

1. The first ErrorResponse of severity ERROR is replaced by the error that is owed.
2. A CommandComplete is replaced by it, too, where the client may have asked for a commit; ReadyForQuery follows, as
   when Postgres itself fails to commit.
3. In a failed block nothing has a CommandComplete but what ends it. Whatever does not fit is a doubt.
"""

from typing import Final

from proxy.wire import messages as m
from proxy.wire.error_response import is_fatal
from proxy.wire.failed_block import FailedBlock, Round
from proxy.wire.rollback import ROLLED_BACK
from proxy.wire.scanner import HEADER, cut, type_and_length

LONGEST: Final = 1 << 20  # bytes of a message that has to be whole
WHOLE: Final = frozenset((m.ERROR_RESPONSE, m.COMMAND_COMPLETE, m.READY_FOR_QUERY))
# What no request in a failed block is answered with.
IMPOSSIBLE: Final = frozenset(
    (m.COPY_IN_RESPONSE, m.COPY_OUT_RESPONSE, m.COPY_BOTH_RESPONSE, m.PORTAL_SUSPENDED, m.FUNCTION_CALL_RESPONSE)
)


class Answers:
    """The server's stream.

    Args:
        block: what is known of the block.
        error: the ErrorResponse that is owed.
    """

    __slots__ = ("_block", "_buffer", "_error", "_skip", "_told")

    def __init__(self, block: FailedBlock, error: bytes) -> None:
        self._block = block
        self._error = error
        self._buffer = bytearray()
        self._skip = 0  # bytes of a message that is passed on as it comes
        self._told = False

    def feed(self, data: bytes) -> bytes:
        """Take what the server sent; returns what the client is to get now."""
        self._buffer += data
        passed: list[bytes] = []
        block = self._block
        while self._buffer and not (block.over or block.doubt):
            if self._skip:
                self._take(self._skip, passed)
            elif not self._next(passed):
                break
        if block.over:
            passed.append(cut(self._buffer, len(self._buffer)))
        return b"".join(passed)

    def _take(self, size: int, passed: list[bytes]) -> None:
        part = cut(self._buffer, size)
        self._skip = size - len(part)
        passed.append(part)

    def _next(self, passed: list[bytes]) -> bool:
        """Decide about the next message; false if too little of it is there."""
        if len(self._buffer) < HEADER:
            return False
        kind, length = type_and_length(self._buffer)
        size = 1 + length
        if length < m.MIN_MESSAGE_LENGTH or (kind in WHOLE and size > LONGEST) or kind in IMPOSSIBLE:
            self._block.doubt = "the server's answer cannot be one of a failed transaction"
        elif kind not in WHOLE:
            self._take(size, passed)
        elif len(self._buffer) < size:
            return False
        else:
            message = cut(self._buffer, size)
            passed.append(self._whole(kind, message))
        return True

    def _whole(self, kind: int, message: bytes) -> bytes:
        if kind == m.ERROR_RESPONSE:
            return self._failed(message)
        if kind == m.COMMAND_COMPLETE:
            return self._complete(message)
        return self._ready(message)

    def _failed(self, message: bytes) -> bytes:
        self._block.failed = True
        if is_fatal(message[HEADER:]):
            self._block.over = True
        elif not self._told:
            self._told = True
            return self._error
        return message

    def _complete(self, message: bytes) -> bytes:
        block = self._block
        if message[HEADER:] == ROLLED_BACK and block.round is Round.ROLLS_BACK:
            block.over = True
            return message
        if message[HEADER:] == ROLLED_BACK and block.round is Round.TURNS and not block.failed:
            block.round = Round.TURNED
            self._told = True
            return self._error
        block.doubt = "a statement was answered as if there were no failed transaction"
        return b""

    def _ready(self, message: bytes) -> bytes:
        block, status = self._block, message[HEADER:]
        if status == bytes((m.IN_FAILED_TRANSACTION,)) and _may_go_on(block):
            block.next_round()
        elif status == bytes((m.IDLE,)) and block.round is Round.TURNED:
            block.over = True
        else:
            block.doubt = "the server was left in a state that is not that of a failed transaction"
            return b""
        return message


def _may_go_on(block: FailedBlock) -> bool:
    """Whether the block can be open still: nothing could end it, or what could has failed."""
    return block.round is Round.FAILS or (block.failed and block.round is not Round.TURNED)
