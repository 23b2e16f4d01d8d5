"""How a leak ended that pgleash did not end: its events, made from the facts once these are complete."""

import dataclasses
from collections.abc import Callable
from typing import Final, NamedTuple

from proxy.leash.describer import Describer
from proxy.leash.leak import OpenLeak
from proxy.report import events, summary
from proxy.wire.exits import Exit, exit_of
from proxy.wire.hold import Hold, HoldKind
from proxy.wire.statements import beginning
from proxy.wire.tracker import Tracker
from proxy.wire.transaction import ROLLBACK

IDLE: Final = HoldKind.IDLE_IN_TRANSACTION.value


class Ending(NamedTuple):
    """What is to be told.

    Attributes:
        facts: what is known of the leak.
        make: makes the event from them.
    """

    facts: events.Leak
    make: Callable[[events.Leak], events.LeakEvent]


def over(leak: OpenLeak, tracker: Tracker, describer: Describer, now: float, outcome: str | None) -> Ending | None:
    """The transaction that was flagged has ended, or the failed one that a rollback of ours had left.

    Args:
        leak: what was flagged.
        tracker: what is known of the session.
        describer: makes its facts.
        now: seconds of the loop's clock.
        outcome: how it ended, if the transaction itself does not tell: nobody came back.

    Returns:
        None if there is nothing more to tell.
    """
    if leak.rolled_back is not None:
        return _returned(leak, tracker, describer) if outcome is None else None
    transaction = tracker.flow.transaction
    same = transaction.number == leak.number
    age = now - leak.started
    held = age if leak.held_s is None else leak.held_s
    facts = dataclasses.replace(leak.facts, held_s=held, transaction=_times(leak, describer, now, held, same=same))
    ended = outcome or (transaction.outcome if same else transaction.followed_outcome) or ROLLBACK
    resumed_with = describer.text(leak.resumed_with)
    return Ending(
        facts,
        lambda leak: events.LeakResolved(
            summary=summary.resolved(leak, ended, resumed_with), leak=leak, flagged=True, outcome=ended,
            resumed_with=resumed_with,
        ),
    )  # fmt: skip


def _times(leak: OpenLeak, describer: Describer, now: float, held: float, *, same: bool) -> events.TransactionFacts:
    """What was told of the transaction, with its times as of its end."""
    told, age = leak.facts.transaction, now - leak.started
    if same:
        last = describer.transaction(now)
        idle = min(max(last.idle_s, told.idle_s), age)
        longest, after, before = last.longest_idle_s, last.idle_after, last.idle_before
    else:  # the next one has begun in the meantime: what is known is the hold
        idle = min(told.idle_s + max(held - leak.facts.held_s, 0.0), age)
        longest, after, before = told.longest_idle_s, told.idle_after, told.idle_before
    waited = leak.held_s or 0.0
    if longest is None or longest < waited:
        longest, after, before = waited, told.last, describer.text(leak.resumed_with)
    longest = min(longest, age)
    idle = max(idle, longest)
    return dataclasses.replace(
        told, age_s=age, idle_s=idle, busy_s=age - idle, longest_idle_s=longest, idle_after=after, idle_before=before
    )


def _returned(leak: OpenLeak, tracker: Tracker, describer: Describer) -> Ending:
    transaction = tracker.flow.transaction
    last = transaction.last if transaction.number == leak.number else transaction.followed_last
    returned_with = describer.text(last)
    would_commit = exit_of(beginning(last)) is Exit.COMMIT
    return Ending(
        leak.facts,
        lambda leak: events.LeakReturned(
            summary=summary.returned(leak, returned_with, would_commit=would_commit), leak=leak, flagged=False,
            returned_with=returned_with, would_commit=would_commit,
        ),
    )  # fmt: skip


def hold_left(leak: OpenLeak | None, hold: Hold | None) -> Hold | None:
    """What a client held when it went away: also results that it has not read to this day."""
    return hold or (leak.cause.hold if leak is not None and leak.held_s is None else None)


def abandoned(leak: OpenLeak | None, facts: events.Leak, how: str, running: str) -> Ending:
    """The client went away with a transaction open.

    Args:
        leak: what was flagged, if it was.
        facts: what it left.
        how: `terminate`, `eof`, `reset` or `timeout`.
        running: the statement that the server was working on, sanitized.
    """
    if leak is not None:
        told = leak.facts
        facts = dataclasses.replace(facts, leak_class=told.leak_class, limit_s=told.limit_s, rule=told.rule)
    if leak is not None and leak.cause.by_age:
        facts = dataclasses.replace(facts, held_s=facts.transaction.age_s)
    elif leak is not None and leak.held_s is not None:
        facts = dataclasses.replace(facts, hold=leak.facts.hold, held_s=max(facts.held_s, leak.held_s))
    flagged = leak is not None
    harmless = how == "terminate" and not flagged and not facts.transaction.wrote and facts.hold == IDLE
    kind = events.LeakLeft if harmless else events.LeakAbandoned
    return Ending(
        facts,
        lambda leak: kind(
            summary=summary.abandoned(leak, how, running), leak=leak, flagged=flagged, how=how, running=running
        ),
    )
