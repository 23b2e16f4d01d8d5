"""The ledger as a document: what is written can be read again, and what is no such document is told."""

import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from proxy.report import events
from proxy.report.document import ledger_document, read_document
from proxy.report.ledger import Ledger
from tests.report.leaks import client, flagged, leak

SINCE = datetime(2026, 11, 20, 8, 0, tzinfo=UTC)
NOW = SINCE + timedelta(minutes=15, seconds=2.1134)
RESOURCE = {"deployment.environment.name": "qa"}


def abandoned(facts: events.Leak) -> events.LeakAbandoned:
    return events.LeakAbandoned(summary="", leak=facts, flagged=False, how="eof", running="")


def document(*recorded: events.LeakEvent, held: tuple[events.Leak, ...] = ()) -> dict[str, Any]:
    ledger = Ledger()
    for event in recorded:
        ledger.record(event)
    return ledger_document(ledger.reports(), held, RESOURCE, NOW, SINCE)


def test_what_is_written_has_the_keys_of_the_log() -> None:
    written = document(flagged(leak("web")), held=(leak("web"),))
    assert written["generated_at"] == "2026-11-20T08:15:02.113+00:00"
    assert written["since"] == "2026-11-20T08:00:00.000+00:00"
    assert written["resource"] == RESOURCE
    assert (
        written["ledger"][0].items() >= {"client.application_name": "web", "report.leaks": 1, "report.open": 1}.items()
    )
    assert written["open"][0].items() >= {"leak.id": "abcdefgh", "leak.held_s": 1.0, "db.user": "u"}.items()


def test_what_is_written_is_read_again() -> None:
    recorded = [
        flagged(leak("web")),
        abandoned(leak("jobs", held=2.5, opener="")),
        abandoned(leak("", opener="COMMIT")),
    ]
    ledger = Ledger()
    for event in recorded:
        ledger.record(event)
    read = read_document(json.dumps(ledger_document(ledger.reports(), [leak()], RESOURCE, NOW, SINCE)))
    assert read.ledger == ledger.reports()
    assert read.ledger[0].client in {client("web"), client("jobs"), client("")}
    assert (read.since, read.resource, len(read.open)) == (SINCE, RESOURCE, 1)
    assert read.generated_at == NOW.replace(microsecond=113_000)


def test_an_hour_elsewhere_is_the_same_time() -> None:
    there = NOW.astimezone(timezone(timedelta(hours=2)))
    assert ledger_document([], [], {}, there, there)["generated_at"] == "2026-11-20T08:15:02.113+00:00"


def test_what_later_versions_add_is_passed_over() -> None:
    written = document(flagged(leak()))
    written["ledger"][0]["report.news"] = 1
    del written["since"]
    read = read_document(json.dumps(written | {"news": []}))
    assert (read.since, read.ledger[0].leaks) == (None, 1)


WRONG = {
    "": "it is not JSON",
    "{": "it is not JSON",
    "[" * 100_000: "it is not JSON",
    "[]": 'it has no "ledger"',
    '{"leaks": []}': 'it has no "ledger"',
    '{"ledger": []}': "generated_at is no time of the form 2026-11-20T08:15:02.113+00:00",
    '{"generated_at": 1, "ledger": []}': "generated_at is no time",
    '{"generated_at": "2026-11-20", "since": "soon", "ledger": []}': "since is no time",
    '{"generated_at": "2026-11-20", "ledger": {}}': "ledger is of the wrong type",
    '{"generated_at": "2026-11-20", "ledger": [1]}': "ledger[0] is of the wrong type",
    '{"generated_at": "2026-11-20", "ledger": [], "open": ["x"]}': "open[0] is of the wrong type",
    '{"generated_at": "2026-11-20", "ledger": [{}]}': "ledger[0] is no account: leaks is missing",
}


@pytest.mark.parametrize(("text", "problem"), WRONG.items(), ids=range(len(WRONG)))
def test_what_is_no_ledger_is_told(text: str, problem: str) -> None:
    with pytest.raises(ValueError, match="no ledger of `pgleash leaks --json` or `pgleash run --ledger`: ") as told:
        read_document(text)
    assert problem in str(told.value)


@pytest.mark.parametrize("value", ["one", 1.5, None, []])
def test_a_count_of_another_type_is_told(value: object) -> None:
    written = document(flagged(leak()))
    written["ledger"][0]["report.leaks"] = value
    with pytest.raises(ValueError, match="leaks is missing or of the wrong type"):
        read_document(json.dumps(written))
