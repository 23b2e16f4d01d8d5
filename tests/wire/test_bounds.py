"""Whatever passes through, what is kept of it is bounded; whatever comes, nothing raises."""

from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.wire.flow import MessageFlow
from proxy.wire.outstanding import Outstanding
from proxy.wire.scanner import SKIP, TAIL_BYTES, Scanner, capture_limits
from proxy.wire.statements import MAX_PENDING, PREPARED_BYTES, STATEMENT_BYTES, Statements
from proxy.wire.tracker import FRONTEND_HANDLERS, Handler, Tracker
from tests import messages as m


@given(st.lists(st.tuples(st.booleans(), st.binary(max_size=60)), max_size=12))
def test_garbage_never_raises(chunks: list[tuple[bool, bytes]]) -> None:
    tracker = Tracker(gave_up=lambda _reason, _error: None, goodbye=lambda: None)
    tracker.backend(m.STARTED, 0.0)
    for from_client, data in chunks:
        (tracker.frontend if from_client else tracker.backend)(data, 1.0)
        tracker.hold()


def test_a_fault_of_ours_makes_the_session_opaque_and_raises_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_flow: MessageFlow, body: bytes) -> None:
        raise ZeroDivisionError(body)

    monkeypatch.setitem(cast("dict[int, Handler]", FRONTEND_HANDLERS), ord("Q"), broken)
    told: list[tuple[str, Exception | None]] = []
    tracker = Tracker(gave_up=lambda reason, error: told.append((reason, error)), goodbye=lambda: None)
    tracker.backend(m.STARTED, 0.0)
    tracker.frontend(m.query("SELECT 1"), 1.0)
    tracker.frontend(m.query("SELECT 1"), 2.0)
    assert [(reason, type(error)) for reason, error in told] == [
        ("ZeroDivisionError while tracking", ZeroDivisionError)
    ]
    assert tracker.hold() is None


KINDS = st.sampled_from("BCDEFHPQSXdcfp123ACDEGHIKNRSTVWZnstv")


@given(st.lists(st.tuples(st.booleans(), KINDS, st.binary(max_size=20)), max_size=20))
def test_messages_in_any_order_never_raise(messages: list[tuple[bool, str, bytes]]) -> None:
    tracker = Tracker(gave_up=lambda _reason, _error: None, goodbye=lambda: None)
    tracker.backend(m.STARTED, 0.0)
    for from_client, kind, body in messages:
        (tracker.frontend if from_client else tracker.backend)(m.message(kind, body), 1.0)
        tracker.hold()


@pytest.mark.protocol(22)
@given(st.lists(st.tuples(st.sampled_from("abz"), st.binary(max_size=30)), max_size=10), st.data())
def test_the_scanner_announces_the_same_however_the_stream_is_cut(
    messages: list[tuple[str, bytes]], data: st.DataObject
) -> None:
    limits = capture_limits({ord("a"): 4, ord("b"): 100, ord("z"): SKIP})
    stream = b"".join(m.message(kind, body) for kind, body in messages)
    places = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=6)))
    heard: list[tuple[str, bytes]] = []
    scanner = Scanner(limits, lambda kind, body: heard.append((chr(kind), body)))
    for begin, end in zip([0, *places], [*places, len(stream)], strict=True):
        scanner.feed(stream[begin:end])
    assert heard == [(kind, body[: limits[ord(kind)]]) for kind, body in messages if kind != "z"]
    assert scanner.at_boundary


@pytest.mark.protocol(22)
def test_a_message_of_a_gigabyte_is_a_number() -> None:
    scanner = Scanner(capture_limits({ord("D"): SKIP, ord("Q"): 8}), lambda _kind, _body: None)
    scanner.feed(b"D" + (1 << 30).to_bytes(4, "big"))
    chunk = bytes(1 << 20)
    for _ in range(1 << 10):
        assert not scanner.at_boundary
        scanner.feed(chunk[: len(chunk) - 4] if _ == (1 << 10) - 1 else chunk)
    assert scanner.at_boundary


@pytest.mark.protocol(12)
def test_a_pipeline_of_thousands_is_a_few_runs() -> None:
    due = Outstanding()
    for _ in range(100_000):
        due.extended()
        due.extended(executes=1)
        due.sync()
    assert len(due._runs) == 2  # noqa: SLF001 - what is bounded is not to be seen from outside
    for _ in range(100_000):
        due.reply()
        due.reply(executes=1)
        due.ready()
    assert due.quiet
    assert not due.confused


def test_unequal_requests_in_flight_have_an_end() -> None:
    due = Outstanding()
    for number in range(10_002):
        due.query() if number % 2 else due.sync()
    assert due.confused


def test_thousands_of_prepared_statements_are_bounded_and_the_oldest_go_first() -> None:
    statements = Statements()
    for number in range(10_000):
        statements.parse(m.parse("SELECT " + "x" * 1000, f"s{number}")[5:])
    statements.bind(m.bind("s9999")[5:])
    statements.execute(m.execute()[5:])
    assert statements.answered().startswith(b"SELECT x")
    statements.bind(m.bind("s0")[5:])
    statements.execute(m.execute()[5:])
    assert statements.answered() == b""
    assert statements._prepared_bytes <= PREPARED_BYTES  # noqa: SLF001
    for number in range(10_000):
        statements.parse(m.parse("", f"s{number}")[5:])
    assert len(statements._prepared) < 1000  # noqa: SLF001


def test_texts_of_a_long_pipeline_are_bounded_and_stay_in_order() -> None:
    statements = Statements()
    for number in range(MAX_PENDING + 10):
        statements.query(f"SELECT {number}".encode())
    assert statements.pending == MAX_PENDING + 10
    texts = [statements.answered() for _ in range(MAX_PENDING + 10)]
    assert texts[MAX_PENDING - 1] == f"SELECT {MAX_PENDING - 1}".encode()
    assert texts[MAX_PENDING:] == [b""] * 10
    assert statements.pending == 0


def test_a_statement_is_kept_only_so_far() -> None:
    tracker = Tracker(gave_up=lambda _reason, _error: None, goodbye=lambda: None)
    tracker.backend(m.STARTED, 0.0)
    tracker.frontend(m.query("SELECT '" + "x" * 100_000 + "'"), 1.0)
    assert len(tracker.flow.last) <= STATEMENT_BYTES + TAIL_BYTES
