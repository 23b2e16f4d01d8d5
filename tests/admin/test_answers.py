"""What the admin side tells: of real sessions, real leaks, as they are at that moment."""

import contextlib
import datetime as dt
import json
import threading
from collections.abc import Iterator

import psycopg
import pytest

from proxy.demo.postgres import Postgres
from proxy.report.document import read_document
from proxy.report.events import LeakFlagged, LeakResolved, LeakRolledBack, SessionOpened
from proxy.wire.phase import Phase
from tests import messages as m
from tests.admin.support import Asked, Record, StartAdmin
from tests.behaviour.test_secrets import SECRET, leak_everywhere
from tests.harness import dsn, until
from tests.life.support import PlainClient
from tests.rawclient import RawClient


@pytest.fixture
def asked(start_admin: StartAdmin) -> Asked:
    return start_admin(flag_after="100ms", terminate_after="1h")


@pytest.fixture
def client(asked: Asked, postgres: Postgres) -> Iterator[RawClient]:
    with RawClient(dsn(asked.proxy, postgres, application_name="billing")) as client:
        yield client


def only_session(asked: Asked) -> Record:
    (record,) = asked.sessions()
    return record


# Sessions.


def test_a_session_is_told_with_its_client_and_its_backend(asked: Asked, client: RawClient) -> None:
    record = only_session(asked)
    assert record["client.application_name"] == "billing"
    assert (record["db.user"], record["db.namespace"]) == ("postgres", "postgres")
    assert record["client.address"] == "127.0.0.1"
    assert record["client.port"] == client.socket.getsockname()[1]
    assert record["postgres.backend_pid"] == client.backend_pid
    assert record["session.id"] == asked.proxy.session_of(client.backend_pid).id
    assert (record["session.rule"], record["session.limit_s"]) == ("default", 0.1)


def test_a_session_that_is_idle_shows_its_last_statement(asked: Asked, client: RawClient) -> None:
    client.query("SELECT 'not to be told' AS a")
    record = only_session(asked)
    assert (record["session.state"], record["session.last"]) == ("idle", "SELECT ? AS a")
    assert 0 <= record["session.state_s"] < 5
    assert not any(key.startswith("transaction.") for key in record)


def test_a_session_in_a_transaction_shows_what_that_did(asked: Asked, client: RawClient) -> None:
    for statement in (
        "BEGIN",
        "CREATE TEMP TABLE t (a int)",
        "INSERT INTO t VALUES (4711)",
        "SELECT 1 /* route='/pay' */",
    ):
        client.query(statement)
    first, second = only_session(asked), only_session(asked)
    assert first["session.state"] == "idle_in_transaction"
    assert second["session.state_s"] > first["session.state_s"] - 0.001
    assert second["transaction.age_s"] >= second["session.state_s"]
    assert (first["transaction.statements"], first["transaction.opener"]) == (4, "CREATE TEMP TABLE t (a int)")
    assert (first["transaction.first_write"], first["transaction.last"]) == ("CREATE TEMP TABLE t (a int)", "SELECT ?")
    assert first["transaction.tags"] == {"route": "/pay"}
    assert "session.last" not in first


def test_a_leak_is_named_at_its_session(asked: Asked, client: RawClient) -> None:
    client.query("BEGIN")
    client.query("SELECT nothing_like_this")
    leak = asked.proxy.recorder.wait(LeakFlagged).leak
    record = only_session(asked)
    assert (record["session.state"], record["leak.id"]) == ("idle_in_failed_transaction", leak.id)
    client.query("ROLLBACK")
    record = only_session(asked)
    assert record["session.state"] == "idle"
    assert "leak.id" not in record


def test_a_pipeline_without_its_end_is_stalled(asked: Asked, client: RawClient) -> None:
    client.send(m.run("SELECT 1") + m.FLUSH)
    client.receive_until("C")
    record = only_session(asked)
    assert record["session.state"] == "stalled"
    assert "session.state_s" in record


def test_a_statement_that_runs_makes_its_session_active(asked: Asked, client: RawClient) -> None:
    client.send(m.query("SELECT pg_sleep(30)"))
    until(lambda: only_session(asked)["session.state"] == "active")
    record = only_session(asked)
    assert record["transaction.last"] == "SELECT pg_sleep(?)"
    assert "session.state_s" not in record


def test_a_client_that_has_not_said_its_password_is_starting(asked: Asked) -> None:
    with contextlib.closing(PlainClient(asked.proxy.address, m.startup(user="postgres", database="shop"))) as client:
        assert client.receive() is not None
        record = only_session(asked)
        assert (record["session.state"], record["db.namespace"]) == ("starting", "shop")
        assert "postgres.backend_pid" not in record
        assert asked.proxy.ask(lambda: next(iter(asked.proxy.server.sessions)).tracker.flow.phase) is Phase.STARTUP


def test_of_a_session_that_is_not_judged_nothing_is_guessed(asked: Asked, postgres: Postgres) -> None:
    address = dsn(asked.proxy, postgres, replication="database")
    with contextlib.closing(psycopg.connect(address, autocommit=True)):
        record = only_session(asked)
    assert record["session.state"] == "unknown"
    assert not {"session.state_s", "session.limit_s", "session.last", "leak.id"} & record.keys()


def test_a_rule_of_its_own_is_told(start_admin: StartAdmin, postgres: Postgres) -> None:
    rules = '[{"name": "jobs", "match": {"application_name": "job*"}, "flag_after": "30m"}]'
    asked = start_admin(rules=rules, flag_after="never")
    for name in ("job-1", "web"):
        with psycopg.connect(dsn(asked.proxy, postgres, application_name=name)):
            (record,) = (each for each in asked.sessions() if each["client.application_name"] == name)
        limit = {"job-1": ("jobs", 1800.0), "web": ("default", None)}[name]
        assert (record["session.rule"], record.get("session.limit_s")) == limit


def test_sessions_come_in_their_order(asked: Asked, postgres: Postgres) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(17):
            stack.enter_context(psycopg.connect(dsn(asked.proxy, postgres)))
        numbers = [int(record["session.id"].removeprefix("s-"), 16) for record in asked.sessions()]
    assert numbers == sorted(numbers)
    assert len(numbers) == 17


# Leaks.


def test_an_open_leak_is_told_as_of_now(asked: Asked, client: RawClient) -> None:
    client.query("BEGIN")
    client.query("LOCK TABLE pg_class IN ACCESS SHARE MODE")
    flagged = asked.proxy.recorder.wait(LeakFlagged).leak
    until(lambda: asked.get("leaks")["open"][0]["leak.held_s"] > flagged.held_s)
    answer = asked.get("leaks")
    (leak,) = answer["open"]
    assert leak["leak.id"] == flagged.id
    assert (leak["leak.class"], leak["leak.hold"]) == ("open_read", "idle_in_transaction")
    assert (leak["leak.limit_s"], leak["leak.rule"], leak["db.system.name"]) == (0.1, "default", "postgresql")
    assert leak["transaction.age_s"] >= leak["leak.held_s"] > flagged.held_s
    assert leak["transaction.opener"] == "LOCK TABLE pg_class IN ACCESS SHARE MODE"
    (account,) = answer["ledger"]
    assert (account["report.leaks"], account["report.open"]) == (1, 1)
    assert account["transaction.fingerprint"] == leak["transaction.fingerprint"]
    document = read_document(json.dumps(answer))  # as `pgleash compare` reads it
    assert abs(document.generated_at - dt.datetime.now(dt.UTC)) < dt.timedelta(seconds=60)
    assert document.since is not None
    assert document.since <= document.generated_at


def test_a_leak_whose_client_goes_on_is_open_until_its_transaction_ends(asked: Asked, client: RawClient) -> None:
    client.query("BEGIN")
    client.query("SELECT 1")
    asked.proxy.recorder.wait(LeakFlagged)
    client.query("SELECT 2, 3")
    (before,) = asked.get("leaks")["open"]
    (after,) = asked.get("leaks")["open"]
    assert before["leak.held_s"] == after["leak.held_s"] >= 0.1
    assert after["transaction.last"] == "SELECT ?, ?"
    client.query("COMMIT")
    asked.proxy.recorder.wait(LeakResolved)
    answer = asked.get("leaks")
    assert answer["open"] == []
    (account,) = answer["ledger"]
    assert (account["report.open"], account["report.committed"]) == (0, 1)
    assert account["report.held_s"] == pytest.approx(after["leak.held_s"], abs=0.002)


def test_a_leak_that_was_rolled_back_is_not_open(start_admin: StartAdmin, postgres: Postgres) -> None:
    asked = start_admin(flag_after="50ms", rollback_after="100ms")
    with RawClient(dsn(asked.proxy, postgres)) as client:
        client.query("BEGIN")
        client.query("SELECT 1")
        leak = asked.proxy.recorder.wait(LeakRolledBack).leak
        answer = asked.get("leaks")
        assert (answer["open"], answer["ledger"][0]["report.rolled_back"]) == ([], 1)
        assert only_session(asked)["leak.id"] == leak.id  # its client does not know yet


def test_a_leak_by_age_is_as_long_as_its_transaction(start_admin: StartAdmin, postgres: Postgres) -> None:
    asked = start_admin(flag_after="never", flag_transaction_after="100ms")
    with RawClient(dsn(asked.proxy, postgres)) as client:
        client.send(m.query("SELECT pg_sleep(30)"))
        asked.proxy.recorder.wait(LeakFlagged)
        (leak,) = asked.get("leaks")["open"]
        assert leak["leak.class"] == "old_transaction"
        assert leak["leak.held_s"] == leak["transaction.age_s"] > 0.1


# Clients, advice.


def test_clients_are_told_with_what_they_hold_and_have_leaked(
    asked: Asked, client: RawClient, postgres: Postgres
) -> None:
    client.query("BEGIN")
    asked.proxy.recorder.wait(LeakFlagged)
    with (
        psycopg.connect(dsn(asked.proxy, postgres, application_name="billing"), autocommit=True) as second,
        psycopg.connect(dsn(asked.proxy, postgres, application_name="web"), autocommit=True),
    ):
        second.execute("SELECT 1")
        billing, web = asked.get("clients")["clients"]
    assert billing["client.application_name"] == "billing"
    assert (billing["client.sessions"], billing["client.sessions_held"]) == (2, 1)
    assert (billing["report.leaks"], billing["report.open"]) == (1, 1)
    assert billing["client.longest_held_s"] >= 0.1
    assert (web["client.sessions"], web["client.sessions_held"], web["report.leaks"]) == (1, 0, 0)
    assert "client.longest_held_s" not in web


def test_a_client_that_is_gone_is_told_of_by_what_it_leaked(asked: Asked, postgres: Postgres) -> None:
    for statement in ("SELECT 1", "SELECT 1, 2"):
        with RawClient(dsn(asked.proxy, postgres, application_name="job")) as client:
            client.query("BEGIN")
            client.query(statement)
            asked.proxy.recorder.wait(LeakFlagged, count=2 if "," in statement else 1)
    asked.proxy.settle()
    (record,) = asked.get("clients")["clients"]
    assert (record["client.application_name"], record["client.sessions"]) == ("job", 0)
    assert (record["report.leaks"], record["report.abandoned"]) == (2, 2)  # of two shapes
    ledger = asked.get("leaks")["ledger"]
    assert record["report.held_s"] == pytest.approx(sum(each["report.held_s"] for each in ledger), abs=0.01)
    assert record["report.longest_s"] == max(each["report.longest_s"] for each in ledger)
    assert record["report.last_seen"] == max(each["report.last_seen"] for each in ledger)


def test_advice_is_that_of_the_habits(asked: Asked, client: RawClient) -> None:
    assert asked.get("advice")["advice"] == []
    for statement in ("BEGIN", "SELECT 1", "COMMIT"):
        client.query(statement)
    (advice,) = asked.get("advice")["advice"]
    assert advice["client"]["application_name"] == "billing"
    assert (advice["transactions"], advice["suggested_s"]) == (1, 2.0)


# Whatever is asked.


def test_no_secret_is_in_any_answer(asked: Asked, client: RawClient) -> None:
    leak_everywhere(client)
    asked.proxy.recorder.wait(LeakFlagged)
    key = asked.proxy.session_of(client.backend_pid).tracker.flow.backend.cancel_key
    told = "".join(str(asked.get(name)) for name in ("sessions", "leaks", "clients", "advice"))
    assert "INSERT INTO kept VALUES" in told
    for secret in (SECRET, SECRET[:6], SECRET.upper(), key.hex(), repr(key)):
        assert secret not in told


def test_asking_while_sessions_come_and_go_is_answered(asked: Asked, postgres: Postgres) -> None:
    over = threading.Event()

    def come_and_go() -> None:
        while not over.is_set():
            with psycopg.connect(dsn(asked.proxy, postgres)) as connection:
                connection.execute("SELECT 1")

    threads = [threading.Thread(target=come_and_go) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(40):
            for name in ("sessions", "leaks", "clients"):
                asked.get(name)
    finally:
        over.set()
        for thread in threads:
            thread.join()
    assert asked.proxy.recorder.of(SessionOpened)


def test_looking_on_changes_nothing_of_what_is_judged(asked: Asked, client: RawClient) -> None:
    client.query("BEGIN")
    client.query("SELECT 1")

    def flagged() -> list[LeakFlagged]:
        for name in ("sessions", "leaks", "clients"):
            asked.get(name)
        return asked.proxy.recorder.of(LeakFlagged)

    until(lambda: bool(flagged()))
    assert 0.1 <= flagged()[0].leak.held_s < 1.0
