"""How leaks end: goodbyes, false alarms, and what a client comes back with after its rollback."""

import psycopg
import pytest

from proxy.demo.postgres import Postgres
from proxy.report import events
from tests import messages as m
from tests.conftest import StartProxy
from tests.harness import Proxy, dsn
from tests.leash.fake import FakeSession
from tests.rollback.support import LIMITS

VERSION = m.parameter_status("server_version", "18.4")


def rolled_back(*statements: str) -> FakeSession:
    """A session whose transaction has been rolled back."""
    session = FakeSession(flag_after=1.0, rollback_after=3.0)
    session.server(VERSION)
    session.begin()
    for sql in statements:
        session.ask(sql, "UPDATE 1", "T")
    session.loop.advance(3.1)
    _, _, told = session.rollbacks.pop()
    session.tracker.flow.rolled_back()
    told("")
    assert session.names() == ["leak.flagged", "leak.rolled_back"]
    return session


# Goodbyes.


def goodbye(how: str, *statements: tuple[str, str, str], **limits: object) -> list[events.LeakAbandoned]:
    """What is told when a client leaves a transaction after these statements."""
    session = FakeSession(**limits)
    session.begin()
    for statement in statements:
        session.ask(*statement)
    session.loop.advance(5.0)
    if how == "terminate":
        session.client(m.TERMINATE)
    else:
        session.guard.client_gone(how, session.loop.now)
    left = [event for event in session.events if isinstance(event, events.LeakAbandoned)]
    assert (list(session.reporter.ledger) == []) == all(isinstance(event, events.LeakLeft) for event in left)
    return left


READ = ("SELECT 1", "SELECT 1", "T")
WROTE = ("UPDATE t SET a = 1", "UPDATE 1", "T")


def test_a_polite_goodbye_that_loses_nothing_is_no_warning() -> None:
    (event,) = goodbye("terminate", READ)
    assert isinstance(event, events.LeakLeft)
    assert (event.event, event.level, event.how, event.flagged) == ("leak.abandoned", "info", "terminate", False)


@pytest.mark.parametrize(
    ("how", "statements", "limits"),
    [
        ("eof", [READ], {}),
        ("reset", [READ], {}),
        ("timeout", [READ], {}),
        ("terminate", [READ, WROTE], {}),
        ("terminate", [("SELECT 1/0", "SELECT 1", "E")], {}),
        ("terminate", [READ], {"flag_after": 1.0}),
    ],
    ids=["no goodbye", "reset", "timeout", "it wrote", "it failed", "flagged"],
)
def test_any_other_goodbye_is_one(how: str, statements: list[tuple[str, str, str]], limits: dict[str, object]) -> None:
    (event,) = goodbye(how, *statements, **limits)
    assert type(event) is events.LeakAbandoned
    assert (event.level, event.how) == ("warning", how)


def test_a_goodbye_while_a_statement_runs_is_a_warning() -> None:
    session = FakeSession()
    session.begin()
    session.client(m.query("SELECT pg_sleep(100)") + m.TERMINATE)
    event = session.last()
    assert type(event) is events.LeakAbandoned
    assert event.running == "SELECT pg_sleep(?)"


# What it goes on with.


@pytest.mark.parametrize("end", [m.SYNC, m.FLUSH], ids=["sync", "flush"])
@pytest.mark.parametrize("name", ["", "s1"])
def test_it_goes_on_with_what_it_prepares(name: str, end: bytes) -> None:
    """Many drivers prepare a statement in a round trip of its own, and execute it in the next."""
    session = FakeSession(flag_after=1.0)
    session.begin()
    session.ask("SELECT 1", "SELECT 1", "T")
    session.loop.advance(5.0)
    session.client(m.parse("UPDATE t SET a = 1", name) + m.describe(name) + end)
    described = m.PARSED + m.message("t", b"\0\0") + m.NO_DATA
    session.server(described + (m.ready("T") if end == m.SYNC else b""))
    session.client(m.bind(name) + m.execute() + m.SYNC)
    session.server(m.BOUND + m.complete("UPDATE 1") + m.ready("T"))
    session.ask("COMMIT", "COMMIT", "I")
    event = session.last()
    assert (event.outcome, event.resumed_with) == ("commit", "UPDATE t SET a = ?")
    assert event.leak.transaction.idle_before == "UPDATE t SET a = ?"


def test_it_goes_on_with_the_first_of_several() -> None:
    session = FakeSession(flag_after=1.0)
    session.begin()
    session.loop.advance(5.0)
    session.client(m.query("SELECT 2") + m.query("COMMIT") + m.query("BEGIN"))
    session.server(m.queried("SELECT 1", "T") + m.queried("COMMIT", "I") + m.queried("BEGIN", "T"))
    event = session.last()
    assert (event.outcome, event.resumed_with) == ("commit", "SELECT ?")


# What a client comes back with.


@pytest.mark.parametrize(
    ("sql", "would_commit"),
    [("COMMIT", True), ("end", True), ("ROLLBACK", False), ("PREPARE TRANSACTION 'a'", True), ("ABORT", False)],
)
def test_who_comes_back_to_commit_was_slow(sql: str, would_commit: bool) -> None:
    session = rolled_back("UPDATE t SET a = 1")
    session.ask(sql, "ROLLBACK", "I")
    event = session.last()
    assert isinstance(event, events.LeakReturned)
    assert event.would_commit is would_commit
    assert event.leak.id == session.events[0].fields()["leak.id"]
    ((_, account),) = session.reporter.ledger
    assert (account.leaks, account.open, account.rolled_back, account.committed) == (1, 0, 1, would_commit)


def test_it_is_told_when_the_block_is_over_and_not_before() -> None:
    session = rolled_back()
    session.client(m.query("SELECT 1"))
    session.server(m.error("25P02") + m.ready("E"))
    session.loop.advance(5.0)
    assert session.names()[-1] == "leak.rolled_back"
    session.ask("ROLLBACK", "ROLLBACK", "I")
    assert session.last().returned_with == "ROLLBACK"
    session.begin()
    session.ask("ROLLBACK", "ROLLBACK", "I")
    assert session.names().count("leak.returned") == 1


@pytest.mark.parametrize("how", ["query", "series"])
def test_what_it_sends_behind_that_is_another_matter(how: str) -> None:
    session = rolled_back()
    if how == "query":
        session.client(m.query("COMMIT") + m.query("BEGIN"))
        session.server(m.queried("ROLLBACK", "I") + m.queried("BEGIN", "T"))
    else:
        session.client(m.run("COMMIT") + m.SYNC + m.run("BEGIN") + m.SYNC)
        session.server(m.ran("ROLLBACK") + m.ready("I") + m.ran("BEGIN") + m.ready("T"))
    assert (session.last().returned_with, session.last().would_commit) == ("COMMIT", True)


@pytest.mark.parametrize("end", ["server_gone", "eof", "terminate", "lost_track"])
def test_who_does_not_come_back_is_not_said_to_have(end: str) -> None:
    session = rolled_back("UPDATE t SET a = 1")
    if end == "server_gone":
        session.client(m.query("COMMIT"))
        session.guard.server_gone(session.loop.now)
    elif end == "lost_track":
        session.server(b"?" * 10)
    else:
        session.guard.client_gone(end, session.loop.now)
    assert session.names() == ["leak.flagged", "leak.rolled_back"]
    ((_, account),) = session.reporter.ledger
    assert (account.open, account.rolled_back, account.committed) == (0, 1, 0)


# With a real server.


def leak(start_proxy: StartProxy, postgres: Postgres) -> tuple[Proxy, psycopg.Connection]:
    """A transaction that was rolled back, and whose client does not know."""
    proxy = start_proxy(**LIMITS)
    connection = psycopg.connect(dsn(proxy, postgres))
    connection.execute("CREATE TEMP TABLE t (a text)")
    proxy.recorder.wait(events.LeakRolledBack)
    return proxy, connection


def test_a_commit_that_comes_late_is_a_false_alarm(start_proxy: StartProxy, postgres: Postgres) -> None:
    proxy, connection = leak(start_proxy, postgres)
    with pytest.raises(psycopg.errors.IdleInTransactionSessionTimeout):
        connection.commit()
    event = proxy.recorder.wait(events.LeakReturned)
    connection.close()
    assert (event.returned_with, event.would_commit) == ("COMMIT", True)
    assert event.leak.id == proxy.recorder.wait(events.LeakRolledBack).leak.id
    ((_, account),) = proxy.ask(lambda: list(proxy.reporter.ledger))
    assert (account.leaks, account.rolled_back, account.committed) == (1, 1, 1)
    assert proxy.recorder.of(events.ClientMistake) == []


def test_a_rollback_that_comes_late_is_none(start_proxy: StartProxy, postgres: Postgres) -> None:
    proxy, connection = leak(start_proxy, postgres)
    with pytest.raises(psycopg.errors.IdleInTransactionSessionTimeout):
        connection.execute("SELECT 1")
    connection.rollback()
    event = proxy.recorder.wait(events.LeakReturned)
    connection.close()
    assert (event.returned_with, event.would_commit) == ("ROLLBACK", False)
    ((_, account),) = proxy.ask(lambda: list(proxy.reporter.ledger))
    assert (account.rolled_back, account.committed) == (1, 0)


def test_a_leak_that_commits_by_itself_is_a_false_alarm(start_proxy: StartProxy, postgres: Postgres) -> None:
    proxy = start_proxy(flag_after="20ms")
    with psycopg.connect(dsn(proxy, postgres)) as connection:
        connection.execute("SELECT 1")
        proxy.recorder.wait(events.LeakFlagged)
        connection.commit()
        assert proxy.recorder.wait(events.LeakResolved).outcome == "commit"
    ((_, account),) = proxy.ask(lambda: list(proxy.reporter.ledger))
    assert (account.leaks, account.open, account.resolved, account.committed) == (1, 0, 1, 1)
