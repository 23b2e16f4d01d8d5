"""What a person reads: who does most harm, or holds longest, stands first, and a row fits a wide terminal."""

from collections.abc import Sequence
from typing import Final

from proxy.report.events import Leak, LeakReport
from proxy.report.now import SessionNow
from proxy.report.summary import limit, named
from proxy.report.table import align, ledger_table, length_text, shortened

WIDTH: Final = 140  # characters of a row
CLIENT: Final = 44  # of a client's name
STATEMENT: Final = 20  # of a statement, at least; it gets what the other columns leave

NO_SESSIONS: Final = "no session is open"
NO_LEAKS: Final = "no leak is open"
NO_LEDGER: Final = "nobody has leaked since pgleash was started"

SESSIONS: Final = ("session", "client", "state", "for", "tx age", "stmts", "leak", "statement")
_of_sessions: Final = frozenset({"for", "tx age", "stmts"})
LEAKS: Final = ("leak", "session", "client", "class", "held", "limit", "blocks", "stmts", "opened by")
_of_leaks: Final = frozenset({"held", "limit", "blocks", "stmts"})

OPEN: Final = "Open now"
COUNTED: Final = "Since pgleash was started"

# Shorter words for the two that are longest; a failed transaction is idle, or its session is active.
_states: Final = {"idle_in_transaction": "idle in tx", "idle_in_failed_transaction": "failed tx"}


def sessions_table(sessions: Sequence[SessionNow]) -> str:
    """Every session."""
    if not sessions:
        return NO_SESSIONS
    ranked = sorted(sessions, key=_rank)
    return _fitted(SESSIONS, [_session_row(session) for session in ranked], _of_sessions)


def _rank(session: SessionNow) -> tuple[bool, float, float]:
    """Who holds longest, then whose transaction is oldest, then who is idle longest."""
    transaction = session.transaction
    waiting = session.state_s or 0.0
    held = waiting if transaction else 0.0
    return (transaction is None, -held, -(transaction.age_s if transaction else waiting))


def _session_row(session: SessionNow) -> tuple[str, ...]:
    transaction = session.transaction
    return (
        session.session.id,
        shortened(named(session.session), CLIENT),
        _states.get(session.state, session.state),
        "" if session.state_s is None else length_text(session.state_s),
        length_text(transaction.age_s) if transaction else "",
        str(transaction.statements) if transaction else "",
        session.leak_id,
        (transaction.opener or transaction.fingerprint) if transaction else session.last,
    )


def leaks_table(leaks: Sequence[Leak], reports: Sequence[LeakReport]) -> str:
    """The leaks that are open, those first for which others wait; then the ledger."""
    ranked = sorted(leaks, key=lambda leak: (_blocked(leak), leak.held_s), reverse=True)
    now = f"{OPEN}\n{_fitted(LEAKS, [_leak_row(leak) for leak in ranked], _of_leaks)}" if leaks else NO_LEAKS
    ledger = f"{COUNTED}\n{ledger_table(reports)}" if reports else NO_LEDGER
    return f"{now}\n\n{ledger}"


def _blocked(leak: Leak) -> int:
    """How many sessions waited for it when it was flagged; 0 if nobody asked."""
    return leak.blast.blocked_sessions if leak.blast else 0


def _leak_row(leak: Leak) -> tuple[str, ...]:
    transaction = leak.transaction
    return (
        leak.id,
        leak.session.id,
        shortened(named(leak.session), CLIENT),
        leak.leak_class,
        length_text(leak.held_s),
        limit(leak.limit_s),
        str(_blocked(leak)) if leak.blast else "",
        str(transaction.statements),
        transaction.opener or transaction.fingerprint,
    )


def _fitted(head: Sequence[str], rows: Sequence[Sequence[str]], numbers: frozenset[str]) -> str:
    """A table whose last column, which is a statement, gets what the others leave."""
    others = sum(max(map(len, column)) + len("  ") for column in list(zip(head, *rows, strict=True))[:-1])
    room = max(WIDTH - others, STATEMENT)
    return align(head, [(*row[:-1], shortened(row[-1], room)) for row in rows], numbers)
