"""What is kept of a transaction so that somebody can be named: texts, pauses, mistakes."""

from typing import Any

import pytest

from proxy.wire.mistake import Mistake
from proxy.wire.scanner import TAIL_BYTES
from proxy.wire.statements import STATEMENT_BYTES, beginning, end
from proxy.wire.tracker import Tracker
from tests import messages as m

Told = tuple[Mistake, bytes]

TAG = "/*route='/hooks'*/"
LONG = f"SELECT '{'x' * 5000}' {TAG}"
ALREADY = m.notice("WARNING", "25001", "there is already a transaction in progress", "BeginTransactionBlock")


def tracker(*noticed: list[Told], over: list[Any] | None = None) -> Tracker:
    made = Tracker(gave_up=lambda _reason, _error: None, goodbye=lambda: None)
    made.backend(m.STARTED, 0.0)
    if noticed:
        made.flow.noticed = lambda mistake, statement: noticed[0].append((mistake, statement))
    if over is not None:
        made.flow.transaction.block_over = lambda one, now: over.append((one.outcome, one.longest, now - one.started))
    return made


def begun(*noticed: list[Told], over: list[Any] | None = None) -> Tracker:
    made = tracker(*noticed, over=over)
    made.frontend(m.query("BEGIN"), 1.0)
    made.backend(m.queried("BEGIN", "T"), 1.0)
    return made


@pytest.mark.parametrize("size", [1, 7, TAIL_BYTES - 1, TAIL_BYTES, TAIL_BYTES + 1, STATEMENT_BYTES, 100_000])
@pytest.mark.parametrize("sent", [m.query(LONG), m.run(LONG)], ids=["Query", "Parse"])
def test_the_end_of_a_long_text_is_kept_however_it_is_cut(sent: bytes, size: int) -> None:
    made = begun()
    for at in range(0, len(sent), size):
        made.frontend(sent[at : at + size], 2.0)
    assert beginning(made.flow.last) == LONG[:STATEMENT_BYTES].encode()
    assert end(made.flow.last).endswith(TAG.encode())
    assert LONG.encode().endswith(end(made.flow.last))


def test_a_text_that_is_a_little_too_long_is_whole() -> None:
    text = "SELECT '" + "x" * (STATEMENT_BYTES - 100) + f"' {'y' * 200} {TAG}"
    made = begun()
    made.frontend(m.query(text), 2.0)
    assert made.flow.last.decode() == text


def test_the_statement_that_began_it_is_kept_beside_the_opener() -> None:
    made = begun()
    made.frontend(m.query("UPDATE a SET b = 1"), 2.0)
    made.backend(m.queried("UPDATE 1", "T"), 2.0)
    assert (made.flow.transaction.first, made.flow.opener) == (b"BEGIN", b"UPDATE a SET b = 1")


def test_the_longest_pause_and_the_statements_around_it() -> None:
    made = begun()
    for at, text in ((2.0, "SELECT 1"), (7.0, "SELECT 2"), (9.0, "SELECT 3")):
        made.frontend(m.query(text), at)
        made.backend(m.queried("SELECT 1", "T"), at)
    told = made.flow.transaction
    assert (told.longest, told.idle, told.idle_after, told.idle_before) == (5.0, 8.0, b"SELECT 1", b"SELECT 2")


def test_a_pause_that_is_over_and_whose_statement_runs_has_no_name_yet() -> None:
    made = begun()
    made.frontend(m.query("SELECT 2"), 9.0)
    assert (made.flow.transaction.idle_after, made.flow.transaction.idle_before) == (b"BEGIN", b"")


def test_blocks_are_told_of_when_they_end() -> None:
    over: list[Any] = []
    made = begun(over=over)
    made.frontend(m.query("SELECT 1"), 4.0)
    made.backend(m.queried("SELECT 1", "T"), 4.0)
    made.frontend(m.query("COMMIT AND CHAIN"), 5.0)
    made.backend(m.queried("COMMIT", "T"), 5.0)
    made.frontend(m.query("ROLLBACK"), 7.0)
    made.backend(m.queried("ROLLBACK", "I"), 7.0)
    made.frontend(m.query("SELECT 1"), 8.0)
    made.backend(m.queried("SELECT 1", "I"), 8.0)
    assert over == [("commit", 3.0, 4.0), ("rollback", 2.0, 2.0)]


def test_begin_in_a_transaction_is_a_dirty_checkout() -> None:
    told: list[Told] = []
    made = begun(told)
    made.frontend(m.query("BEGIN"), 2.0)
    made.backend(ALREADY + m.queried("BEGIN", "T"), 2.0)
    assert told == [(Mistake.DIRTY_CHECKOUT, b"BEGIN")]


@pytest.mark.parametrize(
    "notice",
    [
        m.notice("WARNING", "25P01", "there is no transaction in progress"),
        m.notice("NOTICE", "00000", "25001"),
        m.notice("WARNING", "01000", "C25001"),
        m.notice("WARNING", "25001", "raised by a function", "exec_stmt_raise"),
        m.notice("WARNING", "25001", "BeginTransactionBlock", "exec_stmt_raise"),
    ],
)
def test_other_notices_are_none(notice: bytes) -> None:
    told: list[Told] = []
    made = begun(told)
    made.frontend(m.query("SELECT 1"), 2.0)
    made.backend(notice + m.queried("SELECT 1", "T"), 2.0)
    assert told == []


@pytest.mark.parametrize(("statement", "wrong"), [("COMMIT", True), ("end", True), ("ROLLBACK", False)])
def test_commit_of_a_failed_transaction_is_a_silent_rollback(statement: str, *, wrong: bool) -> None:
    told: list[Told] = []
    made = begun(told)
    made.frontend(m.query("SELECT 1/0"), 2.0)
    made.backend(m.error("22012") + m.ready("E"), 2.0)
    made.frontend(m.query(statement), 3.0)
    made.backend(m.queried("ROLLBACK", "I"), 3.0)
    assert told == ([(Mistake.SILENT_ROLLBACK, statement.encode())] if wrong else [])


def test_commit_in_the_extended_protocol_is_named_itself() -> None:
    told: list[Told] = []
    made = begun(told)
    made.frontend(m.query("SELECT 1/0"), 2.0)
    made.backend(m.error("22012") + m.ready("E"), 2.0)
    made.frontend(m.run("COMMIT") + m.SYNC, 3.0)
    made.backend(m.ran("ROLLBACK") + m.ready("I"), 3.0)
    assert told == [(Mistake.SILENT_ROLLBACK, b"COMMIT")]


def test_rollback_behind_a_commit_in_one_text_is_none() -> None:
    told: list[Told] = []
    made = begun(told)
    made.frontend(m.query("COMMIT; BEGIN; SELECT 1; ROLLBACK"), 2.0)
    made.backend(m.complete("COMMIT") + m.complete("BEGIN") + m.complete("SELECT 1") + m.queried("ROLLBACK", "I"), 2.0)
    assert told == []


def test_a_copy_that_waits_for_its_client_is_idle() -> None:
    made = begun()
    made.frontend(m.query("COPY t FROM STDIN"), 2.0)
    made.backend(m.COPY_IN, 2.0)
    made.frontend(m.copy_data(), 32.0)
    made.frontend(m.COPY_DONE, 33.0)
    made.backend(m.queried("COPY 1", "T"), 33.5)
    assert (made.flow.transaction.idle, made.flow.transaction.longest) == (32.0, 30.0)


@pytest.mark.parametrize(("statement", "listens"), [("SELECT 1", False), ("LISTEN a", True)])
def test_it_is_known_whether_a_session_listens(statement: str, *, listens: bool) -> None:
    made = tracker()
    made.frontend(m.query(statement), 5.0)
    made.backend(m.queried(statement.split(maxsplit=1)[0] + (" 1" if "1" in statement else ""), "I"), 5.0)
    assert made.idle_since == 5.0
    assert made.flow.transaction.listens is listens
    made.frontend(m.query("UNLISTEN *"), 6.0)
    made.backend(m.queried("UNLISTEN", "I"), 6.0)
    assert made.idle_since == 6.0
    assert not made.flow.transaction.listens
