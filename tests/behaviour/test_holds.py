"""The nine ways of holding in a transaction: each is flagged, and terminated when told to, in time."""

import contextlib
from collections.abc import Callable

import psycopg
import pytest

from proxy.demo.postgres import Postgres
from proxy.report.events import LeakFlagged, LeakTerminated
from tests import messages as m
from tests.conftest import StartProxy
from tests.harness import dsn, until
from tests.rawclient import RawClient, fields, now

FLAG, TERMINATE = 0.15, 0.35
LATE = 0.1

Hold = Callable[[RawClient], None]


def idle(client: RawClient) -> None:
    client.query("BEGIN")
    client.query("SELECT 987654")


def failed(client: RawClient) -> None:
    client.query("BEGIN")
    client.query("SELECT 987654/0")


def under_a_savepoint(client: RawClient) -> None:
    client.query("BEGIN")
    client.query("SAVEPOINT a")
    client.query("SELECT 987654/0")


def suspended_portal(client: RawClient) -> None:
    client.query("BEGIN")
    client.send(m.parse("SELECT generate_series(1, 987654)") + m.bind() + m.execute(rows=1) + m.SYNC)
    assert "s" in {message.kind for message in client.receive_until("Z")}


def flush_inside(client: RawClient) -> None:
    client.query("BEGIN")
    client.send(m.run("SELECT 987654") + m.FLUSH)
    client.receive_until("C")


def flush_outside(client: RawClient) -> None:
    client.send(m.run("SELECT 987654") + m.FLUSH)
    client.receive_until("C")


def copy_inside(client: RawClient) -> None:
    client.query("BEGIN")
    client.query("CREATE TEMP TABLE copied (a int)")
    client.send(m.query("COPY copied FROM STDIN"))
    client.receive_until("G")
    client.send(m.copy_data(b"987654\n"))


def copy_outside(client: RawClient) -> None:
    client.query("CREATE TEMP TABLE copied (a int)")
    client.send(m.query("COPY copied FROM STDIN"))
    client.receive_until("G")


def unread(client: RawClient) -> None:
    client.query("BEGIN")
    client.send(m.query("SELECT repeat('x', 1000), 987654 FROM generate_series(1, 50000)"))
    client.receive_until("D")


WAYS = {
    "idle": (idle, "idle_in_transaction", "SELECT ?"),
    "failed": (failed, "idle_in_failed_transaction", "SELECT ?/?"),
    "under a savepoint": (under_a_savepoint, "idle_in_failed_transaction", "SELECT ?/?"),
    "suspended portal": (suspended_portal, "idle_in_transaction", "SELECT generate_series(?)"),
    "flush inside": (flush_inside, "stalled_pipeline", "SELECT ?"),
    "flush outside": (flush_outside, "stalled_pipeline", "SELECT ?"),
    "copy inside": (copy_inside, "stalled_copy", "COPY copied FROM STDIN"),
    "copy outside": (copy_outside, "stalled_copy", "COPY copied FROM STDIN"),
    "unread": (unread, "unread_results", "SELECT repeat(?), ? FROM generate_series(?)"),
}


@pytest.mark.protocol(14, 15, 16, 27)
@pytest.mark.parametrize("way", WAYS)
def test_a_hold_is_flagged_and_terminated_in_time(postgres: Postgres, start_proxy: StartProxy, way: str) -> None:
    hold, kind, last = WAYS[way]
    # To look for the client's process takes its time, and what is told waits for it.
    proxy = start_proxy(flag_after=f"{FLAG}s", terminate_after=f"{TERMINATE}s", attribution__processes="false")
    with RawClient(dsn(proxy, postgres, application_name=f"way {way}")) as client, postgres.connect() as judge:
        hold(client)
        began = now()
        flagged_at, flagged = proxy.recorder.wait_timed(LeakFlagged)
        terminated_at, terminated = proxy.recorder.wait_timed(LeakTerminated)

        assert FLAG - 0.02 <= flagged_at - began <= FLAG + LATE
        assert TERMINATE - 0.02 <= terminated_at - began <= TERMINATE + LATE
        for leak in (flagged.leak, terminated.leak):
            assert leak.hold == kind
            assert leak.transaction.last == last
            assert "987654" not in str(leak)
            assert leak.client.application_name == f"way {way}"
            assert (leak.client.user, leak.client.database) == ("postgres", "postgres")
            assert leak.client.address == "127.0.0.1"
            assert leak.session.backend_pid == client.backend_pid
        assert flagged.leak.id == terminated.leak.id
        assert flagged.leak.limit_s == FLAG
        assert terminated.leak.limit_s == TERMINATE

        gone = "SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = %s"
        until(lambda: bool(judge.execute(gone, [client.backend_pid]).fetchone() == (True,)), 2.0, "the backend is left")
        if kind != "unread_results":  # there a FATAL would stand in the middle of a row
            fatal = client.everything()[-1]
            assert fields(fatal)["C"] == "25P03"
            assert flagged.leak.id in fields(fatal)["H"]
    proxy.settle()


@pytest.mark.parametrize("hold", [idle, failed, under_a_savepoint], ids=lambda hold: hold.__name__)
def test_psycopg_names_the_timeout(postgres: Postgres, start_proxy: StartProxy, hold: Hold) -> None:
    proxy = start_proxy(flag_after="100ms", terminate_after="200ms")
    with psycopg.connect(dsn(proxy, postgres)) as connection:
        if hold is under_a_savepoint:
            connection.execute("SAVEPOINT a")
        with contextlib.suppress(psycopg.errors.DivisionByZero):
            connection.execute("SELECT 1/0" if hold is not idle else "SELECT 1")
        proxy.recorder.wait(LeakTerminated)
        with pytest.raises(psycopg.errors.IdleInTransactionSessionTimeout, match="idle-in-transaction timeout"):
            connection.execute("SELECT 1")


@pytest.mark.protocol(15)
def test_a_prepare_without_sync_is_flagged_and_never_terminated(postgres: Postgres, start_proxy: StartProxy) -> None:
    """What asyncpg's prepare() leaves for as long as it likes (docs/protocol.md, 15)."""
    proxy = start_proxy(flag_after="100ms", terminate_after="200ms")
    with RawClient(dsn(proxy, postgres)) as client:
        client.send(m.parse("SELECT 1", "p") + m.describe("p") + m.FLUSH)
        client.receive_until("T")
        flagged = proxy.recorder.wait(LeakFlagged)
        assert flagged.leak.transaction.opener == "SELECT ?"
        with pytest.raises(AssertionError):
            proxy.recorder.wait(LeakTerminated, timeout=0.3)
        client.send(m.bind("p") + m.execute() + m.SYNC)
        client.receive_until("Z")


def keep_busy(connection: psycopg.Connection) -> None:
    while True:
        connection.execute("INSERT INTO busy VALUES (1); SELECT pg_sleep(0.02)")


def test_a_transaction_too_old_is_ended_however_busy(postgres: Postgres, start_proxy: StartProxy) -> None:
    proxy = start_proxy(flag_after="never", flag_transaction_after="150ms", terminate_transaction_after="300ms")
    with psycopg.connect(dsn(proxy, postgres)) as connection:
        connection.execute("CREATE TEMP TABLE busy (a int)")
        notices: list[str | None] = []
        connection.add_notice_handler(lambda notice: notices.append(notice.sqlstate))
        with pytest.raises(psycopg.Error) as raised:
            keep_busy(connection)
        # libpq takes a FATAL for a notice where it reads it together with the ReadyForQuery in front of it.
        assert [sqlstate for sqlstate in [raised.value.sqlstate, *notices] if sqlstate] == ["25P04"]
    flagged, terminated = proxy.recorder.wait(LeakFlagged).leak, proxy.recorder.wait(LeakTerminated).leak
    assert flagged.leak_class == terminated.leak_class == "old_transaction"
    assert 0.15 <= flagged.held_s <= 0.25
    assert 0.3 <= terminated.held_s <= 0.4
    assert terminated.transaction.opener == "CREATE TEMP TABLE busy (a int)"


def test_a_running_statement_too_old_is_cancelled(postgres: Postgres, start_proxy: StartProxy) -> None:
    proxy = start_proxy(flag_after="never", terminate_transaction_after="300ms")
    with postgres.connect() as judge, psycopg.connect(dsn(proxy, postgres), autocommit=True) as connection:
        with pytest.raises(psycopg.errors.TransactionTimeout, match="due to transaction timeout"):
            connection.execute("SELECT pg_sleep(30)")
        gone = "SELECT count(*) = 0 FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep(30)%'"
        until(lambda: judge.execute(gone).fetchone() == (True,), 1.0, "the statement runs on")
