"""A hold: a stretch of time in which a transaction is open and the backend waits for the client."""

import enum
from typing import NamedTuple


class HoldKind(enum.StrEnum):
    """The ways of holding a transaction open while the backend waits for the client."""

    IDLE_IN_TRANSACTION = "idle_in_transaction"
    IDLE_IN_FAILED_TRANSACTION = "idle_in_failed_transaction"
    STALLED_PIPELINE = "stalled_pipeline"
    STALLED_COPY = "stalled_copy"
    UNREAD_RESULTS = "unread_results"


class Hold(NamedTuple):
    """The client's turn, in an open transaction.

    Attributes:
        kind: how.
        since: since when, in seconds of the caller's clock.
    """

    kind: HoldKind
    since: float
