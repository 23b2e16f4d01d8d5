"""A rollback of ours, put between what a client and its server say to each other.

`ROLLBACK AND CHAIN` never passes through a moment without a transaction block, in which a late statement of the client
would commit by itself; it works under savepoints and in a failed block. The transaction that it begins is failed at
once, by asking for a portal that does not exist: that takes no snapshot and no lock. The names are our own, since the
client's unnamed statement and portal have to stay, and a Query would drop them.
"""

from typing import Final

from proxy.wire import messages as m
from proxy.wire.error_response import is_fatal, sqlstate
from proxy.wire.replies import message as message_of
from proxy.wire.scanner import HEADER, cut, type_and_length

NAME: Final = b"pgleash "  # and the leak's id
LONGEST: Final = 65_536  # bytes; a longer message is not what was asked for
ASYNCHRONOUS: Final = frozenset((m.NOTICE_RESPONSE, m.NOTIFICATION_RESPONSE, m.PARAMETER_STATUS))

ROLLED_BACK: Final = b"ROLLBACK\0"
UNDEFINED_CURSOR: Final = b"34000"
EXPECTED: Final = (
    m.PARSE_COMPLETE, m.BIND_COMPLETE, m.COMMAND_COMPLETE, m.CLOSE_COMPLETE, m.ERROR_RESPONSE, m.READY_FOR_QUERY,
)  # fmt: skip


def flight(leak_id: str) -> bytes:
    """What to send: one series that ends the transaction and leaves an empty, failed one."""
    name = NAME + leak_id.encode() + b"\0"
    text = b"ROLLBACK AND CHAIN /* pgleash, leak " + leak_id.encode() + b" */\0"
    return b"".join(
        (
            message_of(m.PARSE, name + text + bytes(2)),
            message_of(m.BIND, name + name + bytes(6)),
            message_of(m.EXECUTE, name + bytes(4)),
            message_of(m.CLOSE, b"S" + name),
            message_of(m.EXECUTE, b"pgleash/none\0" + bytes(4)),
            message_of(m.SYNC, b""),
        )
    )


class Answer:
    """The server's answer to the flight; there is only one that is right.

    Attributes:
        over: whether it is complete, or something else came.
        problem: what is wrong with it, or "".
        ended: whether the server has ended the session instead.
    """

    __slots__ = ("_buffer", "_expected", "ended", "over", "problem")

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._expected = list(EXPECTED)
        self.over = False
        self.problem = ""
        self.ended = False

    def feed(self, data: bytes) -> bytes:
        """Take what the server sent; returns what the client is to get of it: what was not said to us."""
        self._buffer += data
        passed = []
        while not self.over and len(self._buffer) >= HEADER:
            kind, length = type_and_length(self._buffer)
            if not m.MIN_MESSAGE_LENGTH <= length <= LONGEST:
                self._wrong("the server sent what is not the protocol")
                break
            if len(self._buffer) <= length:
                break
            message = cut(self._buffer, 1 + length)
            if kind in ASYNCHRONOUS:
                passed.append(message)
            elif kind == m.ERROR_RESPONSE and is_fatal(message[HEADER:]):
                passed.append(message)
                self.over = self.ended = True
            else:
                self._look(message)
        return b"".join(passed)

    def rest(self) -> bytes:
        """What came behind the answer."""
        return cut(self._buffer, len(self._buffer))

    def _look(self, message: bytes) -> None:
        kind, body = message[0], message[HEADER:]
        wanted = self._expected.pop(0)
        if kind == m.ERROR_RESPONSE and sqlstate(body) != UNDEFINED_CURSOR:
            state = sqlstate(body).decode("ascii", "replace")
            self._wrong(f"the server answered with an error, SQLSTATE {state}")
        elif kind != wanted or (kind == m.COMMAND_COMPLETE and body != ROLLED_BACK):
            self._wrong("the server's answer was another one")
        elif kind == m.READY_FOR_QUERY and body != bytes((m.IN_FAILED_TRANSACTION,)):
            self._wrong("the server was left in another state")
        self.over = self.over or not self._expected

    def _wrong(self, problem: str) -> None:
        self.over = True
        self.problem = problem
