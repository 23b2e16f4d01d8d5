"""How a leak ended that pgleash did not end: its events."""

import dataclasses

from proxy.leash.leak import Describer, OpenLeak
from proxy.report import events, summary
from proxy.wire.hold import Hold
from proxy.wire.tracker import Tracker
from proxy.wire.transaction import ROLLBACK


def resolved(
    leak: OpenLeak, tracker: Tracker, describer: Describer, now: float, outcome: str | None
) -> events.LeakResolved:
    """A flagged transaction has ended.

    Args:
        leak: what was flagged.
        tracker: what is known of the session.
        describer: makes its facts.
        now: seconds of the loop's clock.
        outcome: how it ended, if the transaction itself does not tell.
    """
    transaction = tracker.flow.transaction
    same = transaction.number == leak.number
    age = now - leak.started
    facts = dataclasses.replace(
        leak.facts,
        held_s=age if leak.held_s is None else leak.held_s,
        transaction=dataclasses.replace(leak.facts.transaction, age_s=age),
    )
    outcome = outcome or (transaction.outcome if same else transaction.followed_outcome) or ROLLBACK
    resumed_with = describer.text(leak.resumed_with)
    text = summary.resolved(facts, outcome, resumed_with)
    return events.LeakResolved(summary=text, leak=facts, flagged=True, outcome=outcome, resumed_with=resumed_with)


def hold_left(leak: OpenLeak | None, hold: Hold | None) -> Hold | None:
    """What a client held when it went away: also results that it has not read to this day."""
    return hold or (leak.cause.hold if leak is not None and leak.held_s is None else None)


def abandoned(leak: OpenLeak | None, facts: events.Leak, how: str, running: str) -> events.LeakAbandoned:
    """The client went away with a transaction open.

    Args:
        leak: what was flagged, if it was.
        facts: what it left.
        how: `terminate`, `eof`, `reset` or `timeout`.
        running: the statement that the server was working on, sanitized.
    """
    if leak is not None and leak.cause.by_age:
        facts = dataclasses.replace(facts, held_s=facts.transaction.age_s)
    elif leak is not None and leak.held_s is not None:
        facts = dataclasses.replace(facts, hold=leak.facts.hold, held_s=max(facts.held_s, leak.held_s))
    text = summary.abandoned(facts, how, running)
    return events.LeakAbandoned(summary=text, leak=facts, flagged=leak is not None, how=how, running=running)
