"""A rollback that keeps the connection, as the wire shows it: what is gone, what is owed, and what goes on."""

import psycopg
import pytest

from proxy.demo.postgres import Postgres
from proxy.report.events import LeakFlagged, LeakResolved, LeakRolledBack, LeakTerminated
from tests import messages as m
from tests.harness import Proxy
from tests.rawclient import Message, RawClient, fields
from tests.rollback.support import ABORTED, OWED, kinds, leak, one, states, status


def test_it_is_gone_and_the_client_is_told(proxy: Proxy, client: RawClient, postgres: Postgres) -> None:
    event = leak(client, proxy, "INSERT INTO rolled VALUES (1)")
    activity = "SELECT state || coalesce(backend_xmin::text, '') || coalesce(backend_xid::text, '')"
    of_backend = f"{activity} FROM pg_stat_activity WHERE pid = %s"
    assert one(postgres, of_backend, client.backend_pid) == "idle in transaction (aborted)"
    assert one(postgres, "SELECT count(*) FROM pg_locks WHERE pid = %s", client.backend_pid) == 0
    answer = client.query("INSERT INTO rolled VALUES (2)")
    error = fields(answer[0])
    assert (error["S"], error["V"], error["C"], status(answer)) == ("ERROR", "ERROR", OWED, "E")
    assert error["M"] == "transaction rolled back by pgleash after 0.1 s idle in transaction"
    assert event.leak.id in error["H"]
    assert "the limit is 60ms" in error["D"]
    again = client.query("SELECT 1")
    assert (states(again), status(again)) == ([ABORTED], "E")
    assert kinds(client.query("ROLLBACK")) == "CZ"
    assert kinds(client.query("SELECT 1")) == "TDCZ"
    assert one(postgres, "SELECT count(*) FROM rolled") == 0
    assert one(postgres, "SELECT count(*) FROM pg_stat_activity WHERE pid = %s", client.backend_pid) == 1


def test_the_log_says_so_once(proxy: Proxy, client: RawClient) -> None:
    event = leak(client, proxy, "INSERT INTO rolled VALUES (1)")
    assert event.flagged
    assert event.leak.limit_s == 0.06
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
