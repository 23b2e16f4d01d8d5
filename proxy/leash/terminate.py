"""The last words to a client whose session is ended: so that its log leads to ours."""

from proxy.report.events import Leak
from proxy.report.summary import limit, seconds
from proxy.wire import replies


def last_words(leak: Leak, *, by_age: bool) -> bytes:
    """A FATAL as Postgres's own timeouts send it, with the figures, and the id that our log has too."""
    limited = f"the limit is {limit(leak.limit_s)}"
    hint = f"The log of pgleash has more about leak {leak.id}."
    if by_age:
        return replies.fatal(
            replies.TRANSACTION_TIMEOUT,
            "terminating connection due to transaction timeout",
            detail=f"The transaction has been open for {seconds(leak.transaction.age_s)}; {limited}.",
            hint=hint,
        )
    return replies.fatal(
        replies.IDLE_IN_TRANSACTION_TIMEOUT,
        "terminating connection due to idle-in-transaction timeout",
        detail=f"The transaction was held for {seconds(leak.held_s)} ({leak.hold}); {limited}.",
        hint=hint,
    )
