"""Which prepared statements roll back for certain: what is remembered of forgotten texts, and what is not believed."""

from collections.abc import Iterable
from typing import Final

import pytest

from proxy.wire.exits import Exit
from proxy.wire.statements import MAX_FORGOTTEN, NAME_BYTES, PREPARED_BYTES, STATEMENT_BYTES, Statements
from proxy.wire.tracker import Tracker
from tests import messages as m
from tests.fuzz.checks import kept
from tests.wire.scan import slow_exit_of

HEADER: Final = 5
LONG: Final = "/* " + "x" * STATEMENT_BYTES + " */ "
TEXTS: Final = (
    "COMMIT",
    "end",
    "PREPARE TRANSACTION 'x'",
    "ROLLBACK",
    "abort work",
    "ROLLBACK TO a",
    "SELECT 1",
    "",
    ";",
)


def parse(statements: Statements, name: str, text: str) -> None:
    statements.parse(m.parse(text, name)[HEADER:])


def close(statements: Statements, name: str, kind: str = "S") -> None:
    statements.close(m.close(name, kind)[HEADER:])


def prepared(*texts: tuple[str, str]) -> Statements:
    statements = Statements()
    for name, text in texts:
        parse(statements, name, text)
    return statements


def crowd_out(statements: Statements, names: Iterable[str] = (), text: str = "SELECT 1") -> None:
    """Prepare so much that whatever was prepared before, and these, are forgotten."""
    for name in names:
        parse(statements, name, text)
    for number in range(PREPARED_BYTES // STATEMENT_BYTES + 1):
        parse(statements, f"filler {number}", "SELECT " + "1" * STATEMENT_BYTES)


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("name", ["a", "x" * NAME_BYTES])
def test_a_statement_is_what_its_text_is(name: str, text: str) -> None:
    certain = slow_exit_of(text.encode()) is Exit.ROLLBACK
    assert prepared((name, text)).rollbacks() == ({name.encode()} if certain else set())


def test_the_statement_without_a_name_is_never_certain() -> None:
    assert prepared(("", "ROLLBACK")).rollbacks() == set()


def test_a_name_that_nobody_has_prepared_is_not_in_it() -> None:
    assert Statements().rollbacks() == set()


def test_a_text_whose_beginning_is_all_comment_is_not_certain() -> None:
    assert prepared(("a", LONG + "ROLLBACK")).rollbacks() == set()


# Names.


@pytest.mark.parametrize("behind", ["", "y", "z" * 500])
def test_as_many_bytes_of_a_name_count_as_the_server_tells_apart(behind: str) -> None:
    statements = prepared(("x" * NAME_BYTES + behind, "ROLLBACK"))
    assert statements.rollbacks() == {b"x" * NAME_BYTES}
    parse(statements, "x" * NAME_BYTES, "COMMIT")  # the server refuses it
    assert statements.rollbacks() == set()


def test_a_name_is_cut_by_bytes_and_not_by_characters() -> None:
    name = "ä" * NAME_BYTES
    assert prepared((name, "ROLLBACK")).rollbacks() == {name.encode()[:NAME_BYTES]}


def test_the_last_byte_of_a_name_counts() -> None:
    first, second = "x" * (NAME_BYTES - 1) + "a", "x" * (NAME_BYTES - 1) + "b"
    assert prepared((first, "COMMIT"), (second, "ROLLBACK")).rollbacks() == {second.encode()}


# Names that once stood for a commit: the server may have refused, or read over, whatever came later.


@pytest.mark.parametrize("between", ["", "close", "forgotten"])
def test_a_name_that_stood_for_a_commit_is_not_certain(between: str) -> None:
    statements = prepared(("a", "COMMIT"), ("b", "ROLLBACK"))
    if between == "close":
        close(statements, "a")
    elif between == "forgotten":
        crowd_out(statements)
    parse(statements, "a", "ROLLBACK")
    assert statements.rollbacks() == {b"b"}
    crowd_out(statements)
    assert statements.rollbacks() == {b"b"}


def test_a_name_whose_commit_begins_with_a_long_comment_is_not_certain() -> None:
    assert prepared(("a", LONG + "COMMIT"), ("a", "ROLLBACK")).rollbacks() == set()


@pytest.mark.parametrize("other", ["ROLLBACK", "SELECT 1", "ABORT"])
def test_what_can_only_fail_is_no_doubt(other: str) -> None:
    assert prepared(("a", other), ("a", "ROLLBACK")).rollbacks() == {b"a"}


def test_to_close_a_portal_of_the_same_name_means_nothing() -> None:
    statements = prepared(("a", "ROLLBACK"))
    close(statements, "a", "P")
    close(statements, "b")
    assert statements.rollbacks() == {b"a"}


def test_beyond_so_many_commits_nothing_is_certain() -> None:
    statements = prepared(("a", "ROLLBACK"))
    for number in range(MAX_FORGOTTEN + 1):
        parse(statements, f"{number}", "COMMIT")
        close(statements, f"{number}")
    assert statements.rollbacks() == set()


# What was forgotten.


def test_of_what_was_forgotten_rollbacks_are_remembered() -> None:
    statements = prepared(*((text, text) for text in TEXTS))
    crowd_out(statements)
    assert statements.rollbacks() == {
        text.encode() for text in TEXTS if text and slow_exit_of(text.encode()) is Exit.ROLLBACK
    }


def test_a_text_that_was_cut_is_not_remembered_as_a_rollback() -> None:
    statements = Statements()
    crowd_out(statements, ["a"], LONG + "ROLLBACK")
    assert statements.rollbacks() == set()


def test_as_many_rollbacks_are_remembered_as_there_is_room_for() -> None:
    statements = Statements()
    crowd_out(statements, (f"s{number}" for number in range(2 * MAX_FORGOTTEN)), "ROLLBACK")
    assert statements.rollbacks() == {f"s{number}".encode() for number in range(MAX_FORGOTTEN)}


def test_what_is_remembered_is_bounded() -> None:
    statements = Statements()
    for number in range(20_000):
        parse(statements, f"{number:>100}", "ROLLBACK" if number % 2 else "COMMIT")
    assert kept(statements) < 3 * PREPARED_BYTES + 400 * MAX_FORGOTTEN


def test_a_forgotten_rollback_that_became_a_commit_is_none() -> None:
    statements = Statements()
    crowd_out(statements, ["a"], "ROLLBACK")  # then DEALLOCATE ALL, which nobody reads
    parse(statements, "a", "COMMIT")
    assert statements.rollbacks() == set()
    crowd_out(statements)
    assert statements.rollbacks() == set()


@pytest.mark.parametrize("name", ["a", ""])
def test_what_the_server_has_discarded_is_not_believed(name: str) -> None:
    tracker = Tracker(lambda _reason, _error: None, lambda: None)
    tracker.backend(m.STARTED, 0.0)
    tracker.frontend(m.query("BEGIN") + m.parse("COMMIT", name) + m.SYNC, 0.0)
    tracker.backend(m.queried("BEGIN", "T") + m.PARSED + m.ready("T"), 0.0)
    tracker.frontend(m.parse("SELEC", "b") + m.close(name) + m.parse("ROLLBACK", name) + m.SYNC, 0.0)
    tracker.backend(m.error() + m.ready("E"), 0.0)
    assert tracker.flow.rollbacks() == set()
