"""What an ErrorResponse says ("Error and Notice Message Fields")."""

from typing import Final

FATAL: Final = frozenset((b"FATAL", b"PANIC"))


def fields_of(body: bytes) -> dict[bytes, bytes]:
    """Its fields, by their code; a body that was cut has those that are whole, and the beginning of one."""
    return {field[:1]: field[1:] for field in body.split(b"\0") if field}


def severity(body: bytes) -> bytes:
    """The severity that is not localized (field V, since 9.6), else the localized one (field S)."""
    fields = fields_of(body)
    return fields.get(b"V", fields.get(b"S", b"ERROR"))


def sqlstate(body: bytes) -> bytes:
    """Its code."""
    return fields_of(body).get(b"C", b"")


def is_fatal(body: bytes) -> bool:
    """Whether it is the last message of its session."""
    return severity(body) in FATAL
