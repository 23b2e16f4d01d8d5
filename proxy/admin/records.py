"""What is told of sessions, leaks and clients: made for whoever asks, from what the guards know anyway.

Keys are those of the log. Nothing here changes what is judged.
"""

import dataclasses
from collections.abc import Iterable, Iterator
from typing import Any, Final

from proxy.ending import Stage
from proxy.report.event import flatten
from proxy.report.events import Client, Leak, LeakReport
from proxy.report.ledger import COUNTS
from proxy.report.now import ACTIVE, ENDING, IDLE, STALLED, STARTING, UNKNOWN, ClientNow, SessionNow
from proxy.session import Session
from proxy.settings import NEVER
from proxy.wire.hold import Hold, HoldKind
from proxy.wire.phase import Phase

Record = dict[str, Any]

_held: Final = {
    HoldKind.IDLE_IN_TRANSACTION: HoldKind.IDLE_IN_TRANSACTION.value,
    HoldKind.IDLE_IN_FAILED_TRANSACTION: HoldKind.IDLE_IN_FAILED_TRANSACTION.value,
}


def session_now(session: Session, now: float) -> SessionNow:
    """A session.

    Args:
        session: the session.
        now: seconds of the loop's clock.
    """
    guard, tracker = session.guard, session.tracker
    hold = guard.holding.now(now) if _is_judged(session) else None
    state, since = _state(session, hold)
    in_transaction = tracker.in_transaction
    held = now - hold.since if hold else 0.0
    rule, limit = _limit(session)
    leak = guard.enforcer.leak
    return SessionNow(
        session=guard.telling.with_process(session.facts()),
        state=state,
        state_s=None if since is None else max(now - since, 0.0),
        limit_s=limit,
        rule=rule,
        last="" if in_transaction or tracker.opaque else guard.describer.text(tracker.flow.last),
        leak_id=leak.facts.id if leak else "",
        transaction=guard.describer.transaction(now, held) if in_transaction else None,
    )


def _is_judged(session: Session) -> bool:
    return session.ending.stage is Stage.RELAYING and session.tracker.opaque is None


def _state(session: Session, hold: Hold | None) -> tuple[str, float | None]:
    """The state, and since when it has been the client's turn."""
    if session.ending.stage is Stage.CONNECTING:
        return STARTING, None
    if session.ending.stage is not Stage.RELAYING:
        return ENDING, None
    if session.tracker.opaque is not None:
        return UNKNOWN, None
    if session.tracker.flow.phase is Phase.STARTUP:
        return STARTING, None
    if hold is not None:
        return _held.get(hold.kind, STALLED), hold.since
    since = session.tracker.idle_since
    return (ACTIVE, None) if since is None else (IDLE, since)


def _limit(session: Session) -> tuple[str, float | None]:
    if not _is_judged(session):
        return "", None
    rule, limits = session.guard.ruling()
    soonest = min(limits.flag_after, limits.rollback_after, limits.terminate_after)
    return rule, None if soonest == NEVER else soonest


def open_leak(session: Session, now: float) -> Leak | None:
    """The leak that a session is in, as of now; None if it is in none, or its transaction has been rolled back."""
    guard, leak = session.guard, session.guard.enforcer.leak
    if leak is None or leak.rolled_back is not None:
        return None
    if leak.held_s is None and not leak.cause.by_age:
        facts = guard.describer.leak(session.facts(), leak.cause, now, leak.facts.id)
    else:  # its client has gone on, with the transaction still open
        hold = guard.holding.now(now)
        transaction = guard.describer.transaction(now, now - hold.since if hold else 0.0)
        held_s = transaction.age_s if leak.held_s is None else leak.held_s
        facts = dataclasses.replace(leak.facts, held_s=held_s, session=session.facts(), transaction=transaction)
    return guard.telling.complete(facts)


def held_for(session: Session, now: float) -> float | None:
    """For how long a session has been waiting for its client in a transaction, seconds; None if it does not."""
    hold = session.guard.holding.now(now) if _is_judged(session) else None
    return max(now - hold.since, 0.0) if hold else None


def client_records(held: Iterable[tuple[Client, float | None]], reports: Iterable[LeakReport]) -> Iterator[Record]:
    """One record for each client that has a session, or has leaked: who holds longest first.

    Args:
        held: the client of each session, and what `held_for` says of that.
        reports: the ledger's.
    """
    sessions: dict[Client, list[float | None]] = {}
    for client, length in held:
        sessions.setdefault(client, []).append(length)
    accounts: dict[Client, list[LeakReport]] = {}
    for report in reports:
        accounts.setdefault(report.client, []).append(report)
    everybody = [_client_now(client, sessions.get(client, [])) for client in {**sessions, **accounts}]
    for each in sorted(everybody, key=lambda each: each.longest_s or 0.0, reverse=True):
        yield dict(flatten(each)) | dict(flatten(_total(each.client, accounts.get(each.client, []))))


def _client_now(client: Client, lengths: list[float | None]) -> ClientNow:
    held = [length for length in lengths if length is not None]
    return ClientNow(client=client, sessions=len(lengths), held=len(held), longest_s=max(held, default=None))


def _total(client: Client, reports: list[LeakReport]) -> LeakReport:
    """What a client has leaked with transactions of any shape."""
    counts = {name: sum(getattr(report, name) for report in reports) for name in COUNTS}
    return LeakReport(
        client=client,
        held_s=sum((report.held_s for report in reports), 0.0),
        longest_s=max((report.longest_s for report in reports), default=0.0),
        last_seen=max((report.last_seen for report in reports), default=""),
        **counts,
    )
