"""docs/events.md lists every event with its level, and every field; and nothing that does not exist."""

import dataclasses
import re
import typing
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxy.report import events
from proxy.report.event import KEY, Event

TEXT = (Path(__file__).parents[2] / "docs" / "events.md").read_text()
ROW = re.compile(r"^\|(?P<cells>.*)\|$", re.MULTILINE)
WORD = re.compile(r"`([a-z0-9_]+(?:\.[a-z0-9_]+)*)`")
SHARED = (events.Client, events.Process, events.Session, events.TransactionFacts, events.Blast, events.Leak)
ALWAYS = {"timestamp", "level", "event"}  # of no event's own (proxy/report/log.py)


def kinds(kind: type[Event] = Event) -> Iterator[type[Event]]:
    """All kinds of events that can be told."""
    for heir in kind.__subclasses__():
        if "level" in vars(heir):
            yield heir
        yield from kinds(heir)


def own_keys(record: type) -> set[str]:
    """The keys of a dataclass, without those of the dataclasses in it."""
    return {field.metadata[KEY] for field in dataclasses.fields(record) if KEY in field.metadata}


def parts(record: type) -> Iterator[type]:
    """A dataclass and those in it."""
    yield record
    for hint in typing.get_type_hints(record).values():
        for part in (hint, *typing.get_args(hint)):
            if dataclasses.is_dataclass(part) and isinstance(part, type):
                yield from parts(part)


def cells(text: str) -> Iterator[list[str]]:
    for row in ROW.finditer(text):
        yield [cell.strip() for cell in row["cells"].split("|")]


def words(text: str) -> set[str]:
    return set(WORD.findall(text))


def row_of(kind: type[Event]) -> list[str]:
    (row,) = (row for row in cells(TEXT) if kind.event in words(row[0]))
    return row


def section(title: str) -> set[str]:
    """The first cells of a section's table."""
    body = TEXT.split(f"## {title}\n")[1].split("\n## ")[0]
    return {word for row in cells(body) for word in words(row[0])}


KINDS = sorted(set(kinds()), key=lambda kind: (kind.event, kind.level))
FACTS = {key for shared in SHARED for key in own_keys(shared)}


def test_there_are_events() -> None:
    assert {"leak.flagged", "client.exhausted", "session.spared"} < {kind.event for kind in KINDS}


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_an_event_is_listed_with_its_level(kind: type[Event]) -> None:
    assert kind.level in re.split(r", ", row_of(kind)[1])


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_its_fields_stand_beside_it(kind: type[Event]) -> None:
    listed = words(row_of(kind)[3])
    if issubclass(kind, events.LeakReport):
        listed |= section("Fields of the ledger")
    if issubclass(kind, events.IdleSession):
        listed |= words(row_of(events.SessionForgotten)[3])
    missing = own_keys(kind) - {"leak.summary", "db.system.name"} - listed
    assert not missing


@pytest.mark.parametrize("shared", SHARED, ids=lambda shared: shared.__name__)
def test_the_fields_of_a_leak_are_listed(shared: type) -> None:
    assert own_keys(shared) <= section("Fields of a leak")


def test_no_field_is_listed_that_does_not_exist() -> None:
    every: set[str] = set()
    for kind in KINDS:
        every |= {key for part in parts(kind) for key in own_keys(part)}
    told = {row[0] for row in cells(TEXT)} | {row[3] for row in cells(TEXT) if len(row) > 3}
    listed = {word for cell in told for word in words(cell) if "." in word}
    assert listed <= every | {kind.event for kind in KINDS}
    assert every >= FACTS
    assert not ALWAYS & every


def test_no_event_is_listed_twice() -> None:
    listed = [word for row in cells(TEXT.split("\n## ")[0]) for word in WORD.findall(row[0])]
    assert len(listed) == len(set(listed))
    assert set(listed) == {kind.event for kind in KINDS}
