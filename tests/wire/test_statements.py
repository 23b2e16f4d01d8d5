"""How prepared statements would end a block: what is remembered when texts are forgotten, and what is not believed."""

from collections.abc import Iterable
from typing import Final

import pytest

from proxy.wire.exits import Exit
from proxy.wire.statements import MAX_ROLLBACKS, NAME_BYTES, PREPARED_BYTES, STATEMENT_BYTES, Statements
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
@pytest.mark.parametrize("name", ["", "a", "x" * NAME_BYTES])
def test_a_statement_is_what_its_text_is(name: str, text: str) -> None:
    assert prepared((name, text)).exits() == {name.encode(): slow_exit_of(text.encode())}


def test_a_name_that_nobody_has_prepared_is_not_in_it() -> None:
    assert Statements().exits() == {}


@pytest.mark.parametrize("text", ["COMMIT", "ROLLBACK", "SELECT 1"])
def test_a_text_whose_beginning_is_all_comment_is_not_certain(text: str) -> None:
    assert prepared(("a", LONG + text)).exits()[b"a"] is Exit.UNKNOWN


# Names.


@pytest.mark.parametrize("behind", ["", "y", "z" * 500])
def test_as_many_bytes_of_a_name_count_as_the_server_tells_apart(behind: str) -> None:
    statements = prepared(("x" * NAME_BYTES + behind, "COMMIT"))
    assert statements.exits() == {b"x" * NAME_BYTES: Exit.COMMIT}
    parse(statements, "x" * NAME_BYTES, "ROLLBACK")  # the server refuses it
    assert statements.exits() == {b"x" * NAME_BYTES: Exit.UNKNOWN}
    close(statements, "x" * NAME_BYTES + "w")
    assert statements.exits() == {}


def test_a_name_is_cut_by_bytes_and_not_by_characters() -> None:
    name = "ä" * NAME_BYTES
    assert list(prepared((name, "COMMIT")).exits()) == [name.encode()[:NAME_BYTES]]


def test_the_last_byte_of_a_name_counts() -> None:
    first, second = "x" * (NAME_BYTES - 1) + "a", "x" * (NAME_BYTES - 1) + "b"
    statements = prepared((first, "COMMIT"), (second, "ROLLBACK"))
    assert statements.exits() == {first.encode(): Exit.COMMIT, second.encode(): Exit.ROLLBACK}


# Doubtful names.


def test_a_name_that_was_given_two_texts_is_not_certain() -> None:
    statements = prepared(("a", "COMMIT"), ("a", "ROLLBACK"), ("b", "COMMIT"))
    assert statements.exits() == {b"a": Exit.UNKNOWN, b"b": Exit.COMMIT}
    parse(statements, "a", "ROLLBACK")  # the server has kept the first text, so this does not make it certain again
    assert statements.exits()[b"a"] is Exit.UNKNOWN


def test_the_same_text_again_is_no_doubt() -> None:
    assert prepared(("a", "ROLLBACK"), ("a", "ROLLBACK")).exits() == {b"a": Exit.ROLLBACK}


def test_the_statement_without_a_name_may_be_another_one_each_time() -> None:
    assert prepared(("", "COMMIT"), ("", "ROLLBACK")).exits() == {b"": Exit.ROLLBACK}


def test_a_closed_name_is_free_again() -> None:
    statements = prepared(("a", "COMMIT"), ("a", "ROLLBACK"))
    close(statements, "a")
    assert statements.exits() == {}
    parse(statements, "a", "ROLLBACK")
    assert statements.exits() == {b"a": Exit.ROLLBACK}


def test_to_close_a_portal_of_the_same_name_means_nothing() -> None:
    statements = prepared(("a", "COMMIT"))
    close(statements, "a", "P")
    close(statements, "b")
    assert statements.exits() == {b"a": Exit.COMMIT}


# What was forgotten.


def test_of_what_was_forgotten_rollbacks_are_remembered() -> None:
    statements = prepared(*((text, text) for text in TEXTS))
    crowd_out(statements)
    rollbacks = {text.encode() for text in TEXTS if slow_exit_of(text.encode()) is Exit.ROLLBACK}
    exits = statements.exits()
    assert {name for name in exits if not name.startswith(b"filler")} == rollbacks
    assert {exits[name] for name in rollbacks} == {Exit.ROLLBACK}


def test_a_rollback_that_was_forgotten_can_be_closed() -> None:
    statements = Statements()
    crowd_out(statements, ["a"], "ROLLBACK")
    close(statements, "a")
    assert b"a" not in statements.exits()


def test_a_doubtful_name_that_was_forgotten_is_unknown() -> None:
    statements = prepared(("a", "ROLLBACK"), ("a", "COMMIT"), ("b", "COMMIT"), ("b", "ROLLBACK"))
    crowd_out(statements)
    assert not {b"a", b"b"} & set(statements.exits())


def test_a_text_that_was_cut_is_not_remembered_as_a_rollback() -> None:
    statements = Statements()
    crowd_out(statements, ["a"], LONG + "ROLLBACK")
    assert b"a" not in statements.exits()


def test_as_many_rollbacks_are_remembered_as_there_is_room_for() -> None:
    statements = Statements()
    crowd_out(statements, (f"s{number}" for number in range(2 * MAX_ROLLBACKS)), "ROLLBACK")
    remembered = {name for name, way in statements.exits().items() if way is Exit.ROLLBACK}
    assert remembered == {f"s{number}".encode() for number in range(MAX_ROLLBACKS)}


def test_what_is_remembered_is_bounded() -> None:
    statements = Statements()
    for number in range(20_000):
        parse(statements, f"{number:>100}", "ROLLBACK" if number % 2 else "COMMIT")
    assert kept(statements) < 3 * PREPARED_BYTES + 400 * MAX_ROLLBACKS


@pytest.mark.xfail(strict=True, reason="a name stays a rollback after another text was prepared under it")
def test_a_forgotten_rollback_that_became_a_commit_is_none() -> None:
    statements = Statements()
    crowd_out(statements, ["a"], "ROLLBACK")  # then DEALLOCATE ALL, which nobody reads
    crowd_out(statements, ["a"], "COMMIT")
    assert statements.exits().get(b"a") is not Exit.ROLLBACK


@pytest.mark.xfail(strict=True, reason="that a name is in use is forgotten with its text")
def test_a_forgotten_commit_does_not_become_a_rollback() -> None:
    statements = Statements()
    crowd_out(statements, ["a"], "COMMIT")
    parse(statements, "a", "ROLLBACK")  # the server refuses it: 42P05
    assert statements.exits()[b"a"] is not Exit.ROLLBACK


@pytest.mark.xfail(strict=True, reason="a Close is believed, though the server has discarded it behind an error")
@pytest.mark.parametrize("name", ["a", ""])
def test_what_the_server_has_discarded_is_not_believed(name: str) -> None:
    tracker = Tracker(lambda _reason, _error: None, lambda: None)
    tracker.backend(m.STARTED, 0.0)
    tracker.frontend(m.query("BEGIN") + m.parse("COMMIT", name) + m.SYNC, 0.0)
    tracker.backend(m.queried("BEGIN", "T") + m.PARSED + m.ready("T"), 0.0)
    tracker.frontend(m.parse("SELEC", "b") + m.close(name) + m.parse("ROLLBACK", name) + m.SYNC, 0.0)
    tracker.backend(m.error() + m.ready("E"), 0.0)
    assert tracker.flow.rolled_back()[name.encode()] is not Exit.ROLLBACK
