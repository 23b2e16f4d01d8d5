"""Mistakes of a client that hold nothing and show in what the server says."""

import enum
from typing import Final

from proxy.wire.error_response import sqlstate
from proxy.wire.exits import Exit, exit_of

ACTIVE_SQL_TRANSACTION: Final = b"25001"  # as a warning it has one cause: BEGIN in a transaction (xact.c)


class Mistake(enum.Enum):
    """What a client does wrong without holding anything."""

    DIRTY_CHECKOUT = "dirty_checkout"  # BEGIN in a transaction: it believes its connection to be clean
    SILENT_ROLLBACK = "silent_rollback"  # COMMIT, answered with the tag ROLLBACK: most drivers take it for success


def warned_of(body: bytes) -> Mistake | None:
    """What the beginning of a NoticeResponse tells of."""
    if ACTIVE_SQL_TRANSACTION in body and sqlstate(body) == ACTIVE_SQL_TRANSACTION:
        return Mistake.DIRTY_CHECKOUT
    return None


def rolled_back_by(statement: bytes) -> Mistake | None:
    """What it tells of that a statement was answered with the tag ROLLBACK."""
    return Mistake.SILENT_ROLLBACK if exit_of(statement) is Exit.COMMIT else None
