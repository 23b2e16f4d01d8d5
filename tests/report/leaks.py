"""Events about leaks, as tests of what becomes of them need them."""

from datetime import UTC, datetime
from typing import Final

from proxy.report import events

NOW: Final = datetime(2026, 11, 20, 8, 15, 2, 113_000, tzinfo=UTC)


def client(name: str = "app", **other: str) -> events.Client:
    return events.Client(**{"user": "u", "database": "d", "application_name": name, "address": "10.0.0.1"} | other)


def leak(
    name: str = "app",
    held: float = 1.0,
    opener: str = "SELECT ?",
    *,
    id: str = "abcdefgh",  # noqa: A002 - what it is called
    fingerprint: str = "f0",
) -> events.Leak:
    return events.Leak(
        id=id,
        leak_class="open_read",
        hold="idle_in_transaction",
        held_s=held,
        limit_s=1.0,
        rule="default",
        session=events.Session(client=client(name), id="s-1", port=1),
        transaction=events.TransactionFacts(
            age_s=held, idle_s=held, statements=1, opener=opener, fingerprint=fingerprint
        ),
    )


def flagged(facts: events.Leak) -> events.LeakFlagged:
    return events.LeakFlagged(summary="", leak=facts, flagged=True)


def resolved(facts: events.Leak, outcome: str = "commit") -> events.LeakResolved:
    return events.LeakResolved(summary="", leak=facts, flagged=True, outcome=outcome, resumed_with="")
