"""What a client is told whose transaction or session is ended: so that its log leads to ours."""

from collections.abc import Mapping

from proxy.report.events import IdleSession, Leak
from proxy.report.summary import limit, seconds
from proxy.wire import replies

DONE: Mapping[str, str] = {
    "idle_in_transaction": "idle in transaction",
    "idle_in_failed_transaction": "idle in a failed transaction",
}


def last_words(leak: Leak, *, by_age: bool) -> bytes:
    """A FATAL as Postgres's own timeouts send it, with the figures, and the id that our log has too."""
    if by_age:
        return replies.fatal(
            replies.TRANSACTION_TIMEOUT,
            "terminating connection due to transaction timeout",
            detail=f"The transaction has been open for {seconds(leak.transaction.age_s)}; {_limited(leak)}.",
            hint=_hint(leak),
        )
    return replies.fatal(
        replies.IDLE_IN_TRANSACTION_TIMEOUT,
        "terminating connection due to idle-in-transaction timeout",
        detail=f"The transaction was held for {seconds(leak.held_s)} ({leak.hold}); {_limited(leak)}.",
        hint=_hint(leak),
    )


def idle_session(event: IdleSession) -> bytes:
    """A FATAL as Postgres's own idle_session_timeout sends it."""
    return replies.fatal(
        replies.IDLE_SESSION_TIMEOUT,
        "terminating connection due to idle-session timeout",
        detail=f"The session was idle for {seconds(event.idle_s)} while others of its client were used; "
        f"the limit is {limit(event.limit_s)}.",
        hint=f"The log of pgleash has more about session {event.session.id}.",
    )


def by_hand(leak: Leak | None) -> bytes:
    """A FATAL for a session that somebody has ended."""
    return replies.fatal(
        replies.ADMIN_SHUTDOWN,
        "terminating connection due to administrator command",
        detail="Somebody ended this session through pgleash.",
        hint=_hint(leak) if leak else "",
    )


def rolled_back(leak: Leak) -> bytes:
    """The ERROR that is owed to a client whose transaction was rolled back."""
    return replies.error(
        replies.IDLE_IN_TRANSACTION_TIMEOUT,
        f"transaction rolled back by pgleash after {seconds(leak.held_s)} {DONE[leak.hold]}",
        detail=f"Nothing of it was kept; {_limited(leak)}.",
        hint=_hint(leak),
    )


def unsure(problem: str, leak: Leak | None = None) -> bytes:
    """A FATAL where nobody can be sure any more what a client would believe of the transaction that was rolled back."""
    return replies.fatal(
        replies.IDLE_IN_TRANSACTION_TIMEOUT,
        "terminating connection due to idle-in-transaction timeout",
        detail=f"pgleash was to roll the transaction back and keep the connection, but {problem}.",
        hint=_hint(leak) if leak else "",
    )


def _limited(leak: Leak) -> str:
    return "it was ended by hand" if leak.limit_s is None else f"the limit is {limit(leak.limit_s)}"


def _hint(leak: Leak) -> str:
    return f"The log of pgleash has more about leak {leak.id}."
