"""A rollback that keeps the connection, as the wire shows it: what is gone, what is owed, and what goes on."""

from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest

from proxy.demo.postgres import Postgres
from proxy.report.events import LeakFlagged, LeakResolved, LeakRolledBack, LeakSpared, LeakTerminated
from tests import messages as m
from tests.conftest import StartProxy
from tests.harness import Proxy, dsn, until
from tests.rawclient import Message, RawClient, fields

LIMITS = {"flag_after": "50ms", "rollback_after": "150ms", "actions_per_minute": "1000"}
OWED = "25P03"
ABORTED = "25P02"


@pytest.fixture
def proxy(start_proxy: StartProxy) -> Proxy:
    return start_proxy(**LIMITS)


@pytest.fixture(scope="module", autouse=True)
def _table(postgres: Postgres) -> Iterator[None]:
    with psycopg.connect(postgres.dsn(), autocommit=True) as connection:
        connection.execute("CREATE TABLE rolled (a int PRIMARY KEY)")
        yield
        connection.execute("DROP TABLE rolled")


@pytest.fixture
def client(proxy: Proxy, postgres: Postgres) -> Iterator[RawClient]:
    with RawClient(dsn(proxy, postgres, application_name="shop")) as client:
        yield client


def one(postgres: Postgres, sql: str, *parameters: object) -> Any:
    with psycopg.connect(postgres.dsn(), autocommit=True) as connection:
        row = connection.execute(sql, parameters).fetchone()
        return row[0] if row else None


def kinds(messages: list[Message]) -> str:
    return "".join(message.kind for message in messages)


def states(messages: list[Message]) -> list[str]:
    return [fields(message)["C"] for message in messages if message.kind == "E"]


def status(messages: list[Message]) -> str:
    assert messages[-1].kind == "Z"
    return messages[-1].body.decode()


def leak(client: RawClient, proxy: Proxy, *statements: str) -> LeakRolledBack:
    """Open a transaction with these statements, and sit on it until it has been rolled back."""
    before = len(proxy.recorder.of(LeakRolledBack))
    client.query("BEGIN")
    for statement in statements:
        client.query(statement)
    return proxy.recorder.wait(LeakRolledBack, count=before + 1)


def test_it_is_gone_and_the_client_is_told(proxy: Proxy, client: RawClient, postgres: Postgres) -> None:
    event = leak(client, proxy, "INSERT INTO rolled VALUES (1)")
    activity = "SELECT state || coalesce(backend_xmin::text, '') || coalesce(backend_xid::text, '')"
    of_backend = f"{activity} FROM pg_stat_activity WHERE pid = %s"
    assert one(postgres, of_backend, client.backend_pid) == "idle in transaction (aborted)"
    assert one(postgres, "SELECT count(*) FROM pg_locks WHERE pid = %s", client.backend_pid) == 0
    answer = client.query("INSERT INTO rolled VALUES (2)")
    error = fields(answer[0])
    assert (error["S"], error["V"], error["C"], status(answer)) == ("ERROR", "ERROR", OWED, "E")
    assert error["M"] == "transaction rolled back by pgleash after 0.2 s idle in transaction"
    assert event.leak.id in error["H"]
    assert "the limit is 150ms" in error["D"]
    again = client.query("SELECT 1")
    assert (states(again), status(again)) == ([ABORTED], "E")
    assert kinds(client.query("ROLLBACK")) == "CZ"
    assert kinds(client.query("SELECT 1")) == "TDCZ"
    assert one(postgres, "SELECT count(*) FROM rolled") == 0
    assert one(postgres, "SELECT count(*) FROM pg_stat_activity WHERE pid = %s", client.backend_pid) == 1


def test_the_log_says_so_once(proxy: Proxy, client: RawClient) -> None:
    event = leak(client, proxy, "INSERT INTO rolled VALUES (1)")
    assert event.flagged
    assert event.leak.limit_s == 0.15
    assert event.leak.transaction.opener == "INSERT INTO rolled VALUES (?)"
    assert event.summary.startswith("rolled back the transaction of shop (")
    assert proxy.recorder.of(LeakFlagged)[0].leak.id == event.leak.id
    client.query("ROLLBACK")
    leak(client, proxy)
    assert len(proxy.recorder.of(LeakRolledBack)) == 2
    assert proxy.recorder.of(LeakResolved) == []
    assert proxy.recorder.of(LeakTerminated) == []


COMMITS = ["COMMIT", "commit work", "END", "/* a /* b */ */ ; -- c\n COMMIT", "COMMIT AND CHAIN", "COMMIT; SELECT 1",
           "PREPARE TRANSACTION 'x'"]  # fmt: skip


@pytest.mark.parametrize("sql", COMMITS)
def test_a_commit_fails_and_the_block_is_over(proxy: Proxy, client: RawClient, sql: str) -> None:
    leak(client, proxy, "INSERT INTO rolled VALUES (1)")
    answer = client.query(sql)
    assert (kinds(answer), states(answer), status(answer)) == ("EZ", [OWED], "I")
    assert kinds(client.query("COMMIT")) == "NCZ"


@pytest.mark.parametrize("sql", COMMITS)
def test_a_commit_fails_after_the_error_too(proxy: Proxy, client: RawClient, sql: str) -> None:
    leak(client, proxy)
    assert states(client.query("SELECT 1")) == [OWED]
    answer = client.query(sql)
    assert (kinds(answer), states(answer), status(answer)) == ("EZ", [OWED], "I")


@pytest.mark.parametrize("sql", ["ROLLBACK", "ABORT", "rollback and no chain", "ROLLBACK; SELECT 1"])
def test_a_rollback_is_silent(proxy: Proxy, client: RawClient, sql: str) -> None:
    leak(client, proxy)
    answer = client.query(sql)
    assert (states(answer), status(answer)) == ([], "I")


def test_a_rollback_and_what_follows_it_is_the_clients_own(proxy: Proxy, client: RawClient, postgres: Postgres) -> None:
    leak(client, proxy)
    answer = client.query("ROLLBACK; BEGIN; INSERT INTO rolled VALUES (3); COMMIT")
    assert (kinds(answer), status(answer)) == ("CCCCZ", "I")
    leak(client, proxy)
    client.send(m.query("ROLLBACK") + m.query("BEGIN") + m.query("DELETE FROM rolled") + m.query("COMMIT"))
    assert [status(client.receive_until("Z")) for _ in range(4)] == ["I", "T", "T", "I"]
    assert one(postgres, "SELECT count(*) FROM rolled") == 0


def test_a_rollback_and_chain_goes_on(proxy: Proxy, client: RawClient) -> None:
    leak(client, proxy)
    answer = client.query("ROLLBACK AND CHAIN")
    assert (states(answer), status(answer)) == ([], "T")
    assert kinds(client.query("COMMIT")) == "CZ"


@pytest.mark.parametrize("sql", ["ROLLBACK TO SAVEPOINT a", "COMMIT PREPARED 'x'", "ROLLBACK PREPARED 'x'", "nonsense"])
def test_what_does_not_end_the_block_fails_with_what_is_owed(proxy: Proxy, client: RawClient, sql: str) -> None:
    leak(client, proxy)
    answer = client.query(sql)
    assert (states(answer), status(answer)) == ([OWED], "E")


@pytest.mark.parametrize(
    "statements",
    [["SAVEPOINT a"], ["SAVEPOINT a", "SELECT 1/0"], ["SELECT 1/0"]],
    ids=["under", "failed under", "failed"],
)
def test_savepoints_and_failed_blocks(
    proxy: Proxy, client: RawClient, postgres: Postgres, statements: list[str]
) -> None:
    leak(client, proxy, "LOCK TABLE rolled", *statements)
    assert one(postgres, "SELECT count(*) FROM pg_locks WHERE pid = %s", client.backend_pid) == 0
    assert states(client.query("COMMIT")) == [OWED]


def test_deferrable_does_not_block(proxy: Proxy, client: RawClient, postgres: Postgres) -> None:
    with psycopg.connect(postgres.dsn()) as other:
        other.execute("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE, READ WRITE")
        other.execute("CREATE TEMP TABLE mine ()")  # a transaction that writes makes others wait for a safe snapshot
        client.query("BEGIN ISOLATION LEVEL SERIALIZABLE, READ ONLY, DEFERRABLE")
        event = proxy.recorder.wait(LeakRolledBack)
        assert event.leak.held_s < 1
        assert states(client.query("SELECT 1")) == [OWED]


# Extended requests.


def bound(sql: str) -> bytes:
    return m.parse(sql) + m.bind() + m.execute()


def test_an_executed_commit_fails_and_nothing_behind_it_runs(
    proxy: Proxy, client: RawClient, postgres: Postgres
) -> None:
    leak(client, proxy)
    client.send(bound("COMMIT") + bound("INSERT INTO rolled VALUES (4)") + m.SYNC)
    answer = client.receive_until("Z")
    assert (kinds(answer), states(answer), status(answer)) == ("12EZ", [OWED], "I")
    assert one(postgres, "SELECT count(*) FROM rolled") == 0


@pytest.mark.parametrize("behind", [m.FLUSH, m.FLUSH + m.parse("SELECT 1") + m.FLUSH])
def test_an_executed_commit_is_answered_at_flush(proxy: Proxy, client: RawClient, behind: bytes) -> None:
    leak(client, proxy)
    client.send(bound("COMMIT") + behind)
    assert kinds(client.receive_until("E")) == "12E"
    client.send(m.SYNC)
    assert status(client.receive_until("Z")) == "I"


def test_an_executed_rollback_is_silent_and_what_follows_runs(
    proxy: Proxy, client: RawClient, postgres: Postgres
) -> None:
    leak(client, proxy)
    client.send(bound("ROLLBACK") + bound("INSERT INTO rolled VALUES (5)") + bound("COMMIT") + m.SYNC)
    answer = client.receive_until("Z")
    assert (states(answer), status(answer)) == ([], "I")
    assert one(postgres, "DELETE FROM rolled RETURNING a") == 5


def prepared(client: RawClient, *statements: str) -> None:
    for number, sql in enumerate(statements):
        client.send(m.parse(sql, name=f"s{number}"))
    client.send(m.SYNC)
    client.receive_until("Z")


def test_statements_prepared_long_ago(proxy: Proxy, client: RawClient) -> None:
    prepared(client, "COMMIT", "ROLLBACK", "SELECT 7", "")
    leak(client, proxy)
    assert kinds(client.query("")) == "IZ"  # what some drivers ask to see whether the connection is alive
    client.send(m.bind("s3") + m.execute() + m.SYNC)  # and others so: in a failed block Postgres refuses it
    assert states(client.receive_until("Z")) == [OWED]
    client.send(m.bind("s0") + m.execute() + m.SYNC)
    answer = client.receive_until("Z")
    assert (kinds(answer), states(answer), status(answer)) == ("2EZ", [OWED], "I")
    leak(client, proxy)
    client.send(m.bind("s1") + m.execute() + m.SYNC)
    assert kinds(client.receive_until("Z")) == "2CZ"
    client.send(m.bind("s2") + m.execute() + m.SYNC)
    assert kinds(client.receive_until("Z")) == "2DCZ"


def test_the_unnamed_statement_is_left_alone(proxy: Proxy, client: RawClient) -> None:
    prepared(client, "BEGIN", "ROLLBACK")
    client.send(m.parse("SELECT 8") + m.bind("s0", "p") + m.execute("p") + m.SYNC)
    client.receive_until("Z")
    proxy.recorder.wait(LeakRolledBack)
    client.send(m.bind("s1", "q") + m.execute("q") + m.SYNC)
    assert kinds(client.receive_until("Z")) == "2CZ"
    client.send(m.bind() + m.execute() + m.SYNC)
    assert kinds(client.receive_until("Z")) == "2DCZ"


@pytest.mark.parametrize("filler", [0, 100], ids=["known", "forgotten"])
def test_a_statement_whose_text_was_forgotten_counts_as_a_commit(proxy: Proxy, client: RawClient, filler: int) -> None:
    prepared(client, "COMMIT", "ROLLBACK", *[f"SELECT {'1, ' * 600} 1"] * filler)
    leak(client, proxy)
    client.send(m.bind("s0") + m.execute() + m.SYNC)
    assert states(client.receive_until("Z")) == [OWED]
    leak(client, proxy)
    client.send(m.bind("s1") + m.execute() + m.SYNC)
    assert states(client.receive_until("Z")) == []


def test_a_name_that_the_server_has_refused_is_not_believed(proxy: Proxy, client: RawClient) -> None:
    prepared(client, "COMMIT")
    prepared(client, "ROLLBACK")  # 42P05: the name is in use
    leak(client, proxy)
    client.send(m.bind("s0") + m.execute() + m.SYNC)
    assert states(client.receive_until("Z")) == [OWED]
    leak(client, proxy)
    prepared(client, "ROLLBACK")
    client.send(m.bind("s0") + m.execute() + m.SYNC)
    assert states(client.receive_until("Z")) == [OWED]


def test_a_pipeline_meets_a_failed_transaction_with_our_error_first(proxy: Proxy, client: RawClient) -> None:
    leak(client, proxy)
    client.send((m.run("SELECT 1") + m.SYNC) * 3 + m.run("COMMIT") + m.SYNC + m.run("SELECT 1") + m.SYNC)
    answers = [client.receive_until("Z") for _ in range(5)]
    assert [states(answer) for answer in answers] == [[OWED], [ABORTED], [ABORTED], [OWED], []]
    assert [status(answer) for answer in answers] == ["E", "E", "E", "I", "I"]


def test_parse_and_describe_without_sync_do_not_hang(proxy: Proxy, client: RawClient) -> None:
    leak(client, proxy)
    client.send(m.parse("SELECT 1", "a") + m.describe("a") + m.FLUSH)
    assert states([client.receive() or pytest.fail("the end")]) == [OWED]
    client.send(m.SYNC)
    assert status(client.receive_until("Z")) == "E"


# What is kept.


def test_what_a_rollback_keeps_and_reverts(proxy: Proxy, client: RawClient, postgres: Postgres) -> None:
    client.query("SELECT pg_advisory_lock(42)")
    client.query("CREATE TEMP TABLE kept AS SELECT 1")
    client.query("LISTEN here")
    leak(client, proxy, "SET application_name = 'inside'")
    with psycopg.connect(postgres.dsn(), autocommit=True) as other:
        other.execute("NOTIFY here, 'news'")
    assert [fields_of(message) for message in client.receive_until("S")] == [["application_name", "shop"]]
    client.query("ROLLBACK")
    assert kinds(client.query("SELECT * FROM kept; SELECT pg_advisory_unlock(42)")).count("D") == 2


def fields_of(message: Message) -> list[str]:
    return message.body.decode().split("\0")[:2]


# Doubt, and what is not safe.


@pytest.mark.parametrize("how", ["savepoint", "flush"])
def test_a_series_without_sync_is_spared(proxy: Proxy, client: RawClient, how: str) -> None:
    client.query("BEGIN")
    if how == "savepoint":
        client.query("SAVEPOINT a")
    client.send(bound("SELECT 1") + m.FLUSH)
    client.receive_until("C")
    event = proxy.recorder.wait(LeakSpared)
    assert (event.action, event.reason, event.flagged) == ("rollback", "unsafe", True)
    assert event.detail == "messages were sent and no Sync behind them"
    client.send(m.SYNC)
    client.receive_until("Z")
    assert proxy.recorder.wait(LeakRolledBack).leak.id == event.leak.id


def test_half_a_message_is_spared(proxy: Proxy, client: RawClient) -> None:
    client.query("BEGIN")
    client.send(m.query("SELECT 1")[:7])
    assert proxy.recorder.wait(LeakSpared).detail == "a message was begun and not ended"
    client.send(m.query("SELECT 1")[7:])
    assert kinds(client.receive_until("Z")) == "TDCZ"
    proxy.recorder.wait(LeakRolledBack)


def test_a_chain_that_nobody_saw_coming_ends_the_session(proxy: Proxy, client: RawClient) -> None:
    leak(client, proxy)
    client.send(bound("COMMIT AND CHAIN") + m.SYNC)
    messages = client.everything()
    assert [fields(message)["S"] for message in messages if message.kind == "E"][-1] == "FATAL"
    event = proxy.recorder.wait(LeakTerminated)
    assert event.rolled_back
    assert "state" in event.detail


def test_a_second_limit_ends_a_session_that_stays(start_proxy: StartProxy, postgres: Postgres) -> None:
    proxy = start_proxy(**LIMITS, terminate_after="500ms")
    with RawClient(dsn(proxy, postgres)) as client:
        event = leak(client, proxy)
        (last,) = client.everything()
        assert (fields(last)["S"], fields(last)["C"]) == ("FATAL", OWED)
    terminated = proxy.recorder.wait(LeakTerminated)
    assert (terminated.leak.id, terminated.rolled_back, terminated.flagged) == (event.leak.id, True, False)
    assert 0.5 <= terminated.leak.held_s < 0.7
    (account,) = dict(proxy.reporter.ledger).values()
    assert (account.leaks, account.open, account.rolled_back, account.terminated) == (1, 0, 1, 1)


@pytest.mark.parametrize("how", ["close", "reset"])
def test_a_client_that_leaves_after_it_has_abandoned_nothing(
    proxy: Proxy, client: RawClient, postgres: Postgres, how: str
) -> None:
    leak(client, proxy)
    leave: Callable[[], None] = client.close if how == "close" else client.reset
    leave()
    proxy.settle()
    gone = "SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = %s"
    until(lambda: one(postgres, gone, client.backend_pid), 2.0, "the backend is still there")
    assert [event for _, event in proxy.recorder.events if event.event == "leak.abandoned"] == []


def test_somebody_may_ask_for_it_by_hand(start_proxy: StartProxy, postgres: Postgres) -> None:
    proxy = start_proxy(flag_after="never", mode="observe", actions_per_minute="1")
    with RawClient(dsn(proxy, postgres)) as client:
        session = proxy.session_of(client.backend_pid)
        assert proxy.ask(lambda: proxy.server.find(session.id)) is session
        enforcer = session.guard.enforcer
        assert proxy.ask(lambda: enforcer.roll_back("ann")) == "no transaction is idle"
        for _ in range(2):  # what somebody asks for is not counted
            client.query("BEGIN")
            assert proxy.ask(lambda: enforcer.roll_back("ann")) == ""
            until(lambda: not proxy.ask(lambda: enforcer.rolling_back))
            assert states(client.query("COMMIT")) == [OWED]
        client.query("BEGIN")
        proxy.call(lambda: enforcer.terminate("bob"))
        (last,) = client.everything()
        assert (fields(last)["S"], fields(last)["C"]) == ("FATAL", "57P01")
    assert [event.asked_by for event in proxy.recorder.of(LeakRolledBack)] == ["ann", "ann"]
    assert proxy.recorder.wait(LeakTerminated).asked_by == "bob"
    proxy.settle()
    assert proxy.ask(lambda: proxy.server.find(session.id)) is None
