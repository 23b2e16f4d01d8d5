"""What the server says before a client is let in, where TLS makes a difference to it.

SCRAM's channel binding (RFC 5802, 6; documentation: "SASL Authentication") ties the proof of the password to the TLS
connection that it travels on. With two connections that only holds if both ends of ours show the same certificate.
Where it cannot hold it must not be offered: a client that is offered SCRAM-SHA-256-PLUS in the clear gives up, and one
that takes the offer proves the wrong thing. The offer is all that can be changed; the client's answer is signed.

    client     server              SCRAM-SHA-256-PLUS
    clear      clear               is not offered
    clear      TLS                 is taken out: works
    TLS        clear               is not offered; a client that insists on it leaves
    TLS        TLS, same           stays: works
    TLS        TLS, another one    is taken out; a client that can do it says so, which the server takes for an attack

Only here are the server's bytes looked at before they are passed on, message by message, until the client is in.
"""

from typing import Final

from proxy.wire.error_response import fields_of, sqlstate
from proxy.wire.messages import (
    AUTHENTICATION,
    ERROR_RESPONSE,
    MIN_MESSAGE_LENGTH,
    NEGOTIATE_PROTOCOL_VERSION,
    NOTICE_RESPONSE,
)
from proxy.wire.replies import message as message_of
from proxy.wire.scanner import HEADER, type_and_length
from proxy.wire.startup import WORD, word

LONGEST: Final = 65_536  # bytes; a longer message is none of those that are looked for here

# Kinds of Authentication messages ("Message Formats").
OK: Final = 0
SASL: Final = 10

PLUS: Final = b"SCRAM-SHA-256-PLUS\0"
# invalid_authorization_specification: no line of pg_hba.conf fits, or channel binding failed.
REJECTED: Final = b"28000"
EXPECTED: Final = frozenset((AUTHENTICATION, ERROR_RESPONSE, NEGOTIATE_PROTOCOL_VERSION, NOTICE_RESPONSE))


def first_message(data: bytes) -> bytes | None:
    """The first message of a stream, or None while it is not whole."""
    if len(data) < HEADER:
        return None
    length = 1 + type_and_length(data)[1]
    return data[:length] if len(data) >= length else None


def answered(data: bytes) -> bool:
    """Whether the server has said enough to tell whether it rejects the client: only an error has to be whole."""
    return bool(data) and (data[0] != ERROR_RESPONSE or first_message(data) is not None or len(data) > LONGEST)


def rejected(data: bytes) -> bool:
    """Whether the server's first message says that this kind of connection is not for this client."""
    message = first_message(data) or b""
    return message[:1] == bytes((ERROR_RESPONSE,)) and sqlstate(message[HEADER:]) == REJECTED


class AuthenticationGate:
    """The server's messages, until it has let the client in.

    Args:
        withhold_plus: whether channel binding cannot hold.
        hint: what to tell a client that the server rejects for that reason.

    Attributes:
        open: whether everything is passed on from here on, unseen.
        offered: whether the server has asked for SASL authentication.
        refused: whether the server has rejected the client because of an offer that was withheld.
        version: the protocol that the server has settled on, if it does not know the one that was asked for.
    """

    __slots__ = ("_buffer", "_hint", "_withheld", "_withhold_plus", "offered", "open", "refused", "version")

    def __init__(self, hint: str, *, withhold_plus: bool) -> None:
        self._buffer = b""
        self._hint = hint
        self._withhold_plus = withhold_plus
        self.open = False
        self.offered = False
        self.refused = False
        self.version: int | None = None
        self._withheld = False

    def feed(self, data: bytes) -> bytes:
        """Take what the server sent; returns what to pass on now."""
        self._buffer += data
        passed = []
        while not self.open and len(self._buffer) >= HEADER:
            kind, length = type_and_length(self._buffer)
            if kind not in EXPECTED or not MIN_MESSAGE_LENGTH <= length <= LONGEST:
                self.open = True
            elif len(self._buffer) <= length:
                break
            else:
                message, self._buffer = self._buffer[: 1 + length], self._buffer[1 + length :]
                passed.append(self._look(kind, message))
        if self.open:
            passed.append(self._buffer)
            self._buffer = b""
        return b"".join(passed)

    def finish(self) -> bytes:
        """The server will say nothing more; returns what it began to say and may not have ended."""
        self.open = True
        rest, self._buffer = self._buffer, b""
        return rest

    def _look(self, kind: int, message: bytes) -> bytes:
        if kind == ERROR_RESPONSE:
            self.open = True
            return self._error(message)
        if kind == NOTICE_RESPONSE or len(message) < HEADER + WORD:
            return message
        code = word(message, HEADER)[0]
        if kind == NEGOTIATE_PROTOCOL_VERSION:  # Postgres 18 sends the whole version, as its documentation does not say
            self.version = code if code >> 16 else 3 << 16 | code
        elif code == SASL:
            return self._offer(message)
        else:
            self.open = code == OK
        return message

    def _offer(self, message: bytes) -> bytes:
        self.offered = True
        offer, others = message[HEADER + WORD :], message[HEADER + WORD :].replace(PLUS, b"")
        if not self._withhold_plus or others in (offer, b"\0"):
            return message
        self._withheld = True
        return message_of(AUTHENTICATION, message[HEADER : HEADER + WORD] + others)

    def _error(self, message: bytes) -> bytes:
        self.refused = self._withheld and sqlstate(message[HEADER:]) == REJECTED
        if not self.refused or b"H" in fields_of(message[HEADER:]):
            return message
        return message_of(ERROR_RESPONSE, message[HEADER:-1] + b"H" + self._hint.encode() + b"\0\0")
