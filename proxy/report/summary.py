"""One sentence for a person: who, what, for how long, and the statement that leads to the code."""

from typing import Final

from proxy.attribution.classify import OLD_TRANSACTION
from proxy.report.events import (
    Client,
    IdleSession,
    Leak,
    Process,
    Session,
    SessionSpared,
    SessionTerminated,
    TransactionFacts,
)
from proxy.settings import duration_text

# What a client has done, behind "has" or "had".
_done: Final = {
    "idle_in_transaction": "been idle for {held} in a transaction",
    "idle_in_failed_transaction": "been idle for {held} in a failed transaction",
    "stalled_pipeline": "sent no Sync for {held} in a transaction",
    "stalled_copy": "sent no COPY data for {held} in a transaction",
    "unread_results": "not read its results for {held} in a transaction",
}
_kept_open: Final = "had a transaction open for {age}"


def who(client: Client, process: Process | None = None) -> str:
    """The client as people call it; a process says more than an address of this machine."""
    account = f"{client.user}@{client.database}"
    where = _place(process) if process else client.address or "local"
    return f"{client.application_name} ({account}, {where})" if client.application_name else f"{account} ({where})"


def named(session: Session) -> str:
    """The client of a session."""
    return who(session.client, session.process)


def _place(process: Process) -> str:
    name = process.executable.rpartition("/")[2]
    return f"{name}, pid {process.pid}" if name else f"pid {process.pid}"


def seconds(length: float) -> str:
    """A length of time with as many digits as matter."""
    return f"{length:.1f} s" if length < 100 else f"{length:.0f} s"  # noqa: PLR2004 - three digits say enough


def _what(leak: Leak) -> str:
    template = _kept_open if leak.leak_class == OLD_TRANSACTION else _done[leak.hold]
    done = template.format(held=seconds(leak.held_s), age=seconds(leak.transaction.age_s))
    opener = leak.transaction.opener
    return f"{done} opened by {opener}" if opener else done


def flagged(leak: Leak) -> str:
    """A limit passed."""
    return f"{named(leak.session)} has {_what(leak)}{_waiting(leak)}"


def _waiting(leak: Leak) -> str:
    blocked = leak.blast.blocked_sessions if leak.blast else 0
    return f"; {blocked} sessions wait for it" if blocked > 1 else "; 1 session waits for it" if blocked else ""


def terminated(leak: Leak, *, rolled_back: bool) -> str:
    """The session was ended, perhaps after its transaction had been rolled back."""
    before = ", rolled back before" if rolled_back else ""
    return f"terminated the session of {named(leak.session)}, which had {_what(leak)}{before}"


def rolled_back(leak: Leak) -> str:
    """The transaction was rolled back."""
    return f"rolled back the transaction of {named(leak.session)}, which had {_what(leak)}; its connection stays"


_due: Final = {
    "rollback": ("its transaction", "rolled back"),
    "terminate": ("its session", "ended"),
}
_spared: Final = {
    "observe": "{whose} would have been {done} (mode is observe)",
    "budget": "{whose} was to be {done}, but actions_per_minute is spent",
    "unsafe": "{whose} was to be {done}, but that is not safe: {detail}",
}


def spared(leak: Leak, action: str, reason: str, detail: str) -> str:
    """An action was due and was not carried out."""
    whose, done = _due[action]
    return f"{named(leak.session)} has {_what(leak)}; {_spared[reason].format(whose=whose, done=done, detail=detail)}"


def resolved(leak: Leak, outcome: str, resumed_with: str) -> str:
    """The transaction ended by itself."""
    ended_by = resumed_with.partition(" ")[0].upper() in {"COMMIT", "END", "ROLLBACK", "ABORT"}
    resumed = f", going on with {resumed_with}" if resumed_with and not ended_by else ""
    did = {"commit": "committed", "rollback": "rolled back"}.get(outcome, "ended its transaction")
    return f"{named(leak.session)} {did} after it had {_what(leak)}{resumed}"


def returned(leak: Leak, returned_with: str, *, would_commit: bool) -> str:
    """The client of a transaction that was rolled back has come back."""
    came = f"came back with {returned_with or 'a statement'} after its transaction had been rolled back"
    return f"{named(leak.session)} {came}: it {'would have' if would_commit else 'would not have'} committed"


def abandoned(leak: Leak, how: str, running: str) -> str:
    """The client went away."""
    went = {"terminate": "said goodbye", "reset": "broke the connection", "timeout": "was lost", "left": "was left"}
    opener = _opened_by(leak.transaction.opener)
    busy = f", while running {running}" if running else ""
    left = f"{went.get(how, 'went away')} in a transaction that was {seconds(leak.transaction.age_s)} old"
    return f"{named(leak.session)} {left}{opener}{busy}"


def limit(length: float | None) -> str:
    """A limit as it is written in the configuration."""
    return duration_text(length) if length is not None else "none"


# Other things that clients do.


def dirty_checkout(session: Session, transaction: TransactionFacts) -> str:
    """BEGIN in a transaction."""
    open_for = f"had been open for {seconds(transaction.age_s)}"
    return f"{named(session)} began a transaction inside of one that {open_for}{_opened_by(transaction.opener)}"


def silent_rollback(session: Session, transaction: TransactionFacts) -> str:
    """COMMIT, answered with ROLLBACK."""
    what = f"a transaction in which a statement had failed{_opened_by(transaction.opener)}"
    return f"{named(session)} sent COMMIT in {what}: the server rolled it back and raised no error"


def exhausted(client: Client, sessions: int, longest: float, opener: str, openers: int) -> str:
    """Every session of a client is held."""
    held = f"all {sessions} sessions of {who(client)} are held in transactions, the first for {seconds(longest)}"
    share = "all" if openers == sessions else f"{openers} of them"
    by = f" ({share} opened by {opener})" if opener else ""
    return f"{held}{by}: its pool is drained and nothing runs"


def of_idle(event: IdleSession) -> str:
    """A session that nobody uses, and what was done about it."""
    behind = f" since {event.last}" if event.last else ""
    others = f"{event.sisters} other sessions" if event.sisters > 1 else "other session"
    left = f"{named(event.session)} has left a session idle for {seconds(event.idle_s)}{behind}"
    if isinstance(event, SessionTerminated):
        return f"{left}, and it was ended"
    if isinstance(event, SessionSpared):
        return f"{left}; it {_not_ended[event.reason]}"
    return f"{left}, although its {others} went on: taken from a pool and not returned?"


_not_ended: Final = {
    "observe": "would have been ended (mode is observe)",
    "budget": "was to be ended, but actions_per_minute is spent",
}


def _opened_by(opener: str) -> str:
    return f", opened by {opener}" if opener else ""
