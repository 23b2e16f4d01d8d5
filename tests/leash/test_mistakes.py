"""Mistakes that hold nothing: a connection that is not clean, and a COMMIT that was a ROLLBACK. No false alarms."""

import contextlib

import psycopg
import pytest

from proxy.demo.postgres import Postgres
from proxy.report import events
from tests import messages as m
from tests.conftest import StartProxy
from tests.harness import Proxy, dsn
from tests.leash.fake import FakeSession
from tests.rollback.support import LIMITS

THERE_IS_ONE = m.notice("WARNING", "25001", "there is already a transaction in progress", "BeginTransactionBlock")


def mistakes(session: FakeSession) -> list[events.ClientMistake]:
    return [event for event in session.events if isinstance(event, events.ClientMistake)]


def begin_twice(session: FakeSession) -> None:
    session.client(m.query("BEGIN"))
    session.server(THERE_IS_ONE + m.queried("BEGIN", "T"))


def fail(session: FakeSession, sql: str = "SELECT 1/0") -> None:
    session.client(m.query(sql))
    session.server(m.error() + m.ready("E"))


# BEGIN in a transaction.


def test_a_begin_in_a_transaction_is_told_with_the_one_that_was_open() -> None:
    session = FakeSession()
    session.begin()
    session.ask("UPDATE t SET a = 'secret'", "UPDATE 1", "T")
    session.loop.advance(7.0)
    session.client(m.query("BEGIN /* again */"))
    session.server(THERE_IS_ONE + m.queried("BEGIN", "T"))
    (event,) = mistakes(session)
    assert isinstance(event, events.DirtyCheckout)
    assert event.statement == "BEGIN"
    assert event.transaction.opener == "UPDATE t SET a = ?"
    assert event.transaction.age_s == pytest.approx(7.0)
    assert event.summary == (
        "a (u@d, 127.0.0.1) began a transaction inside of one that had been open for 7.0 s,"
        " opened by UPDATE t SET a = ?"
    )


def test_a_begin_of_the_extended_protocol_is_one_too() -> None:
    session = FakeSession()
    session.begin()
    session.client(m.run("BEGIN") + m.SYNC)
    session.server(m.PARSED + m.BOUND + m.NO_DATA + THERE_IS_ONE + m.complete("BEGIN") + m.ready("T"))
    (event,) = mistakes(session)
    assert (event.statement, event.transaction.statements) == ("BEGIN", 2)


@pytest.mark.parametrize(
    ("severity", "code"), [("WARNING", "25P01"), ("NOTICE", "00000"), ("WARNING", "01000"), ("WARNING", "25P02")]
)
def test_other_warnings_tell_of_nothing(severity: str, code: str) -> None:
    session = FakeSession()
    session.begin()
    session.client(m.query("SELECT 1"))
    session.server(m.notice(severity, code, "25001 is what this text says") + m.queried("SELECT 1", "T"))
    assert mistakes(session) == []


# COMMIT, answered with ROLLBACK.


@pytest.mark.parametrize("commit", ["COMMIT", "end work", "/* now */ Commit;", "PREPARE TRANSACTION 'a'"])
@pytest.mark.parametrize("how", ["query", "series"])
def test_a_commit_that_was_a_rollback_is_told(commit: str, how: str) -> None:
    session = FakeSession()
    session.begin()
    fail(session, "UPDATE t SET a = 'x' / 0")
    if how == "query":
        session.client(m.query(commit))
        session.server(m.queried("ROLLBACK", "I"))
    else:
        session.client(m.run(commit) + m.SYNC)
        session.server(m.ran("ROLLBACK") + m.ready("I"))
    (event,) = mistakes(session)
    assert isinstance(event, events.SilentRollback)
    assert event.statement == " ".join(commit.replace("/* now */ ", "").replace(";", "").replace("'a'", "?").split())
    assert event.transaction.opener == "UPDATE t SET a = ? / ?"
    assert event.summary == (
        "a (u@d, 127.0.0.1) sent COMMIT in a transaction in which a statement had failed,"
        " opened by UPDATE t SET a = ? / ?: the server rolled it back and raised no error"
    )


def test_a_rollback_of_a_failed_transaction_is_what_it_should_be() -> None:
    session = FakeSession()
    for sql in ("ROLLBACK", "ABORT", "ROLLBACK AND CHAIN"):
        session.begin()
        fail(session)
        session.ask(sql, "ROLLBACK", "I")
    assert mistakes(session) == []


@pytest.mark.parametrize(
    ("sql", "tags"),
    [
        ("COMMIT; BEGIN; SELECT 1; ROLLBACK", ["COMMIT", "BEGIN", "SELECT 1", "ROLLBACK"]),
        ("END; BEGIN; SAVEPOINT a; ROLLBACK TO a; END", ["COMMIT", "BEGIN", "SAVEPOINT", "ROLLBACK", "COMMIT"]),
        ("COMMIT; ROLLBACK", ["COMMIT", "ROLLBACK"]),
        ("SAVEPOINT a; ROLLBACK TO a; COMMIT", ["SAVEPOINT", "ROLLBACK", "COMMIT"]),
    ],
)
def test_the_rollback_of_another_statement_in_the_same_text_is_none(sql: str, tags: list[str]) -> None:
    session = FakeSession()
    session.begin()
    session.ask("SAVEPOINT s", "SAVEPOINT", "T")
    fail(session)
    session.ask("ROLLBACK TO s", "ROLLBACK", "T")
    session.client(m.query(sql))
    session.server(b"".join(map(m.complete, tags)) + m.ready("I"))
    assert mistakes(session) == []


def test_a_commit_in_a_savepoint_that_was_rolled_back_to_is_a_commit() -> None:
    session = FakeSession()
    session.begin()
    session.ask("SAVEPOINT s", "SAVEPOINT", "T")
    fail(session)
    session.ask("ROLLBACK TO s", "ROLLBACK", "T")
    session.ask("COMMIT", "COMMIT", "I")
    assert mistakes(session) == []


# How often.


def test_who_makes_it_with_every_transaction_is_told_of_once_a_second_with_a_count() -> None:
    session = FakeSession()
    for _ in range(100):
        session.begin()
        begin_twice(session)
        session.ask("COMMIT", "COMMIT", "I")
    assert [event.repeated for event in mistakes(session)] == [None]
    session.loop.advance(1.0)
    session.begin()
    begin_twice(session)
    first, second = mistakes(session)
    assert second.repeated in {99, 100}
    assert first.event == "client.dirty_checkout"


def test_one_mistake_does_not_hide_another_one() -> None:
    session = FakeSession()
    session.begin()
    begin_twice(session)
    fail(session)
    session.ask("COMMIT", "ROLLBACK", "I")
    assert session.names() == ["client.dirty_checkout", "client.silent_rollback"]


# With a real server.


def clean(proxy: Proxy) -> bool:
    return proxy.recorder.of(events.ClientMistake) == []


def test_a_connection_that_was_not_clean(start_proxy: StartProxy, postgres: Postgres) -> None:
    proxy = start_proxy()
    with psycopg.connect(dsn(proxy, postgres, application_name="pool"), autocommit=True) as connection:
        connection.execute("BEGIN")
        connection.execute("SELECT 'a secret'")
        connection.execute("BEGIN")  # as if another borrower had it now
        event = proxy.recorder.wait(events.DirtyCheckout)
        pid = connection.info.backend_pid
    assert (event.session.backend_pid, event.session.client.application_name) == (pid, "pool")
    assert (event.statement, event.transaction.opener) == ("BEGIN", "SELECT ?")


def test_a_commit_after_an_error_that_was_swallowed(start_proxy: StartProxy, postgres: Postgres) -> None:
    proxy = start_proxy()
    with psycopg.connect(dsn(proxy, postgres)) as connection:
        connection.execute("CREATE TEMP TABLE t (a text)")
        with pytest.raises(psycopg.errors.UndefinedColumn):
            connection.execute("INSERT INTO t (nothing) VALUES ('a secret')")
        connection.commit()  # no error
        event = proxy.recorder.wait(events.SilentRollback)
        assert connection.execute("SELECT to_regclass('t')").fetchone() == (None,)
    assert (event.statement, event.transaction.opener) == ("COMMIT", "CREATE TEMP TABLE t (a text)")


def test_the_same_with_a_prepared_commit(start_proxy: StartProxy, postgres: Postgres) -> None:
    proxy = start_proxy()
    with psycopg.connect(dsn(proxy, postgres), autocommit=True) as connection:
        connection.execute("BEGIN")
        with pytest.raises(psycopg.errors.DivisionByZero):
            connection.execute("SELECT 1 / 0")
        connection.execute("COMMIT", prepare=True)
        assert proxy.recorder.wait(events.SilentRollback).statement == "COMMIT"


QUIET = {
    "a commit": ["BEGIN", "SELECT 1", "COMMIT"],
    "a rollback": ["BEGIN", "SELECT 1 / 0", "ROLLBACK"],
    "several in one text": ["BEGIN", "COMMIT; BEGIN; SELECT 1; ROLLBACK", "END; BEGIN; COMMIT"],
    "a savepoint": ["BEGIN", "SAVEPOINT s", "SELECT 1 / 0", "ROLLBACK TO s", "COMMIT"],
    "a commit outside": ["COMMIT", "ROLLBACK"],
    "chains": ["BEGIN", "COMMIT AND CHAIN", "SELECT 1 / 0", "ROLLBACK AND CHAIN", "COMMIT"],
    "two phases": ["BEGIN", "PREPARE TRANSACTION 'quiet'", "COMMIT PREPARED 'quiet'"],
    "two phases, back": ["BEGIN", "PREPARE TRANSACTION 'quiet'", "ROLLBACK PREPARED 'quiet'"],
    "a procedure": ["DO $$ BEGIN ROLLBACK; COMMIT; END $$"],
    "an error at the commit": [
        "CREATE TEMP TABLE d (a int UNIQUE DEFERRABLE INITIALLY DEFERRED)", "BEGIN", "INSERT INTO d VALUES (1), (1)",
        "COMMIT", "DROP TABLE d",
    ],
    "an implicit block": ["SELECT 1; BEGIN; SELECT 2; COMMIT"],
}  # fmt: skip


@pytest.mark.parametrize("prepare", [False, True])
def test_nothing_else_is_a_mistake(start_proxy: StartProxy, postgres: Postgres, prepare: bool) -> None:
    proxy = start_proxy()
    for name, statements in QUIET.items():
        with psycopg.connect(dsn(proxy, postgres), autocommit=True) as connection:
            for sql in statements:
                with contextlib.suppress(psycopg.errors.DivisionByZero, psycopg.errors.UniqueViolation):
                    connection.execute(sql, prepare=prepare and ";" not in sql)
        assert clean(proxy), name


@pytest.mark.parametrize("statement", ["SELECT 1", None])
def test_what_pgleash_rolled_back_is_no_mistake_of_the_clients(
    start_proxy: StartProxy, postgres: Postgres, statement: str | None
) -> None:
    proxy = start_proxy(**LIMITS)
    with psycopg.connect(dsn(proxy, postgres), autocommit=True) as connection:
        connection.execute("BEGIN")
        proxy.recorder.wait(events.LeakRolledBack)
        for sql in filter(None, (statement, "COMMIT")):
            with pytest.raises(psycopg.errors.IdleInTransactionSessionTimeout):
                connection.execute(sql)
        proxy.recorder.wait(events.LeakReturned)
        assert clean(proxy)
        connection.execute("BEGIN")  # from here on it is the client's doing again
        with pytest.raises(psycopg.errors.DivisionByZero):
            connection.execute("SELECT 1 / 0")
        connection.execute("COMMIT")
        proxy.recorder.wait(events.SilentRollback)
