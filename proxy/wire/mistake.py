"""Mistakes of a client that hold nothing and show in what the server says."""

import enum
from typing import Final

from proxy.wire.error_response import fields_of
from proxy.wire.exits import Exit, exit_of

# Where the server warns of BEGIN in a transaction (xact.c); a function may RAISE what it likes with any code.
ACTIVE_SQL_TRANSACTION: Final = b"25001"
BEGINNING: Final = b"BeginTransactionBlock"


class Mistake(enum.Enum):
    """What a client does wrong without holding anything."""

    DIRTY_CHECKOUT = "dirty_checkout"  # BEGIN in a transaction: it believes its connection to be clean
    SILENT_ROLLBACK = "silent_rollback"  # COMMIT, answered with the tag ROLLBACK: most drivers take it for success


def warned_of(body: bytes) -> Mistake | None:
    """What the beginning of a NoticeResponse tells of."""
    if BEGINNING not in body:
        return None
    fields = fields_of(body)
    begins = fields.get(b"C") == ACTIVE_SQL_TRANSACTION and fields.get(b"R") == BEGINNING
    return Mistake.DIRTY_CHECKOUT if begins else None


def rolled_back_by(statement: bytes) -> Mistake | None:
    """What it tells of that a statement was answered with the tag ROLLBACK."""
    return Mistake.SILENT_ROLLBACK if exit_of(statement) is Exit.COMMIT else None
