"""The only bytes that pgleash authors ("Message Formats", "Error and Notice Message Fields")."""

from collections.abc import Iterable
from typing import Final

from proxy.wire.messages import CANCEL_REQUEST_CODE, ERROR_RESPONSE, SSL_REQUEST_CODE, TERMINATE

REFUSE_ENCRYPTION: Final = b"N"  # the answer to SSLRequest and GSSENCRequest
BEGIN_TLS: Final = b"S"  # the other answer to SSLRequest
SSL_REQUEST: Final = (8).to_bytes(4, "big") + SSL_REQUEST_CODE.to_bytes(4, "big")

# SQLSTATEs ("PostgreSQL Error Codes").
TLS_REQUIRED: Final = "28000"
UNABLE_TO_CONNECT: Final = "08001"
PROTOCOL_VIOLATION: Final = "08P01"
IDLE_SESSION_TIMEOUT: Final = "57P05"
IDLE_IN_TRANSACTION_TIMEOUT: Final = "25P03"
TRANSACTION_TIMEOUT: Final = "25P04"
QUERY_CANCELED: Final = "57014"
TOO_MANY_CONNECTIONS: Final = "53300"
ADMIN_SHUTDOWN: Final = "57P01"


def fatal(sqlstate: str, text: str, *, detail: str = "", hint: str = "") -> bytes:
    """An ErrorResponse of severity FATAL: the last message of a session."""
    return _error("FATAL", sqlstate, text, detail, hint)


def error(sqlstate: str, text: str, *, detail: str = "", hint: str = "") -> bytes:
    """An ErrorResponse of severity ERROR: a statement has failed."""
    return _error("ERROR", sqlstate, text, detail, hint)


def _error(severity: str, sqlstate: str, text: str, detail: str, hint: str) -> bytes:
    fields = (("S", severity), ("V", severity), ("C", sqlstate), ("M", text), ("D", detail), ("H", hint))
    return message(ERROR_RESPONSE, _error_fields(fields))


def terminate() -> bytes:
    """Terminate, for the server."""
    return message(TERMINATE, b"")


def cancel_request(backend_pid: int, cancel_key: bytes) -> bytes:
    """CancelRequest: a connection's only packet."""
    body = CANCEL_REQUEST_CODE.to_bytes(4, "big") + backend_pid.to_bytes(4, "big") + cancel_key
    return (len(body) + 4).to_bytes(4, "big") + body


def _error_fields(fields: Iterable[tuple[str, str]]) -> bytes:
    """Each field is a byte and a string; an empty one is left out."""
    texts = (code + value.replace("\0", " ") + "\0" for code, value in fields if value)
    return "".join(texts).encode("utf-8", "replace") + b"\0"


def message(kind: int, body: bytes) -> bytes:
    """A message of this type."""
    return bytes((kind,)) + (len(body) + 4).to_bytes(4, "big") + body
