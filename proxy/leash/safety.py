"""Whether a rollback of ours may be put between what a client and its server say to each other."""

from typing import Final

from proxy.wire.hold import Hold, HoldKind
from proxy.wire.tracker import Tracker

CHAIN_SINCE: Final = 12  # the first version of Postgres that knows ROLLBACK AND CHAIN
IDLE: Final = (HoldKind.IDLE_IN_TRANSACTION, HoldKind.IDLE_IN_FAILED_TRANSACTION)

_kinds: Final = {
    HoldKind.STALLED_PIPELINE: "messages were sent and no Sync behind them",
    HoldKind.STALLED_COPY: "a COPY is under way",
    HoldKind.UNREAD_RESULTS: "results are still to be read",
}


def unsafe(tracker: Tracker, hold: Hold | None, *, unread: int, unsent: int) -> str:
    """Why it is not safe to roll back now, or "".

    Args:
        tracker: what is known of the session.
        hold: what its client holds.
        unread: bytes that lie in our buffer for the client.
        unsent: bytes that lie in our buffer for the server.
    """
    if hold is None or not tracker.in_transaction:
        return "no transaction is idle"
    if hold.kind not in IDLE:
        return _kinds[hold.kind]
    if unread or unsent:
        return "what was said has not left yet"
    if not tracker.flow.due.certain:
        return "it is not certain what the server still has to say"
    if not (tracker.frontend_at_boundary and tracker.backend_at_boundary):
        return "a message was begun and not ended"
    version = tracker.flow.backend.major
    return "" if version >= CHAIN_SINCE else f"ROLLBACK AND CHAIN needs Postgres {CHAIN_SINCE} or later"
