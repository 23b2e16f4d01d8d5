"""Which kind of mistake a leak is, by what the wire tells."""

from typing import Final

from proxy.wire.hold import HoldKind

ABANDONED: Final = "abandoned"
OLD_TRANSACTION: Final = "old_transaction"


def leak_class(kind: HoldKind | None, *, by_age: bool, wrote: bool) -> str:
    """The class of a leak.

    Args:
        kind: the hold, if there is one.
        by_age: it is the transaction's age that passed a limit.
        wrote: a statement of the transaction was a write.
    """
    if by_age or kind is None:
        return OLD_TRANSACTION
    if kind is HoldKind.IDLE_IN_FAILED_TRANSACTION:
        return "ignored_error"
    if kind is not HoldKind.IDLE_IN_TRANSACTION:
        return kind.value
    return "uncommitted_write" if wrote else "open_read"
