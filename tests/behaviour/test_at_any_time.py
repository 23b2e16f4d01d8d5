"""What a server says without being asked, what a driver does without saying so, and two clocks that nobody mixes."""

import socket
import threading
from collections.abc import Iterator
from typing import Any

import asyncpg
import psycopg
import pytest

from proxy.demo.postgres import Postgres
from proxy.report.events import LeakFlagged, LeakTerminated, ProtocolViolation
from tests import messages as m
from tests.behaviour.test_transparency import connect
from tests.conftest import StartProxy
from tests.harness import dsn, until
from tests.life.support import FakeServer, connected, read_startup
from tests.rawclient import RawClient, fields, now

FLAG = 0.3
SOON = 0.5  # seconds in which what is relayed at once has arrived, on a busy machine


@pytest.fixture
def judge(postgres: Postgres) -> Iterator[psycopg.Connection]:
    with postgres.connect() as connection:
        yield connection


class Told(FakeServer):
    """A server that says what the test tells it to, when it does."""

    def __init__(self) -> None:
        super().__init__(self._talk)
        self._session: socket.socket | None = None
        self._begun = threading.Event()

    def _talk(self, connection: socket.socket) -> None:
        read_startup(connection)
        connection.sendall(m.STARTED)
        connection.recv(1000)
        connection.sendall(m.queried("BEGIN", "T"))
        self._session = connection
        self._begun.set()
        while connection.recv(1000):
            pass

    def say(self, data: bytes) -> None:
        assert self._begun.wait(5)
        assert self._session
        self._session.sendall(data)


UNASKED = {
    "NotificationResponse": m.NOTIFICATION,
    "NoticeResponse": m.NOTICE,
    "ParameterStatus": m.parameter_status("application_name", "another"),
    "a parameter that we do not know": m.parameter_status("in_hot_standby", "on"),
}


@pytest.mark.protocol(17)
@pytest.mark.parametrize("kind", UNASKED)
def test_what_comes_unasked_arrives_at_once_and_does_not_move_the_clock(start_proxy: StartProxy, kind: str) -> None:
    with Told() as server:
        proxy = start_proxy(upstream=server.address, flag_after=f"{FLAG}s", attribution__processes="false")
        with connected(proxy.address) as client:
            began = now()
            client.query("BEGIN")
            while now() - began < 0.8 * FLAG:
                sent = now()
                server.say(UNASKED[kind])
                assert client.receive_until(UNASKED[kind][:1].decode())[-1].body == UNASKED[kind][5:]
                assert now() - sent < SOON
                threading.Event().wait(0.05)
            flagged_at, _ = proxy.recorder.wait_timed(LeakFlagged)
            assert FLAG <= flagged_at - began <= 1.7 * FLAG  # and not from the last message


@pytest.mark.protocol(17, "a notification that an idle client does not get")
def test_a_notification_reaches_a_client_that_only_listens_at_once(
    postgres: Postgres, start_proxy: StartProxy, judge: psycopg.Connection
) -> None:
    proxy = start_proxy(flag_after="100ms", terminate_after="200ms")
    with RawClient(dsn(proxy, postgres)) as client:
        client.query("LISTEN news")
        for number in range(20):
            sent = now()
            judge.execute("SELECT pg_notify('news', %s)", [f"{number} " + "x" * 7000])
            assert client.receive_until("A")[-1].body[4:].startswith(b"news\0%d " % number)
            assert now() - sent < SOON
    assert proxy.recorder.of(LeakFlagged) == []
    assert proxy.recorder.of(ProtocolViolation) == []


@pytest.mark.protocol(17)
def test_the_name_that_an_application_gives_itself_later_is_the_one_that_is_told(
    postgres: Postgres, start_proxy: StartProxy
) -> None:
    proxy = start_proxy(flag_after="50ms")
    with psycopg.connect(dsn(proxy, postgres, application_name="first")) as connection:

        def told() -> str:
            connection.execute("SELECT 1")
            flagged = proxy.recorder.wait(LeakFlagged, count=len(proxy.recorder.of(LeakFlagged)) + 1)
            connection.rollback()
            return flagged.leak.client.application_name

        assert told() == "first"
        connection.execute("SET application_name TO 'gone by rollback'")
        connection.rollback()
        assert told() == "first"
        connection.execute("SET application_name TO 'second'")
        connection.commit()
        assert told() == "second"
        connection.execute("SET LOCAL application_name TO 'only here'")
        assert told() == "only here"
        assert told() == "second"
        connection.execute("SELECT set_config('application_name', 'näme', false)")
        connection.commit()
        assert told() == "n\\xc3\\xa4me"  # what the server makes of it
        connection.execute("RESET application_name")
        connection.commit()
        assert told() == "first"


# Two clocks.


@pytest.mark.protocol(26, "timers on the wrong clock")
def test_a_hold_counts_from_the_client_s_turn_and_an_age_from_the_first_request(
    postgres: Postgres, start_proxy: StartProxy
) -> None:
    """The same session passes one limit of each kind, and is told with the length that each of them means."""
    proxy = start_proxy(flag_after="150ms", terminate_transaction_after="1s", attribution__processes="false")
    with RawClient(dsn(proxy, postgres)) as client:
        began = now()
        client.query("BEGIN")
        client.query("SELECT pg_sleep(0.5)")  # more than three times the limit of a hold
        flagged_at, flagged = proxy.recorder.wait_timed(LeakFlagged)
        assert flagged_at - began >= 0.65
        assert 0.15 <= flagged.leak.held_s <= 0.35
        assert 0.65 <= flagged.leak.transaction.age_s <= 0.95
        client.send(m.query("SELECT pg_sleep(30)"))
        terminated_at, terminated = proxy.recorder.wait_timed(LeakTerminated)
        assert 1.0 <= terminated_at - began <= 1.3
        assert terminated.leak.leak_class == "old_transaction"
        assert 1.0 <= terminated.leak.held_s <= 1.3
        assert fields(client.everything()[-1])["C"] == "25P04"


# asyncpg.

LOCKS = "SELECT mode FROM pg_locks WHERE pid = %s AND relation = 'held'::regclass"


@pytest.mark.protocol(15)
async def test_asyncpg_s_prepare_holds_a_lock_is_flagged_and_goes_on(
    postgres: Postgres, start_proxy: StartProxy, judge: psycopg.Connection
) -> None:
    proxy = start_proxy(flag_after="100ms", terminate_after="200ms")
    judge.execute("CREATE TABLE held (a int)")
    connection = await connect(dsn(proxy, postgres))
    try:
        pid = connection.get_server_pid()
        statement = await connection.prepare("SELECT count(*) FROM held")
        flagged = proxy.recorder.wait(LeakFlagged)
        assert flagged.leak.hold == "stalled_pipeline"
        assert flagged.leak.session.backend_pid == pid
        assert judge.execute(LOCKS, [pid]).fetchall() == [("AccessShareLock",)]
        with pytest.raises(AssertionError):
            proxy.recorder.wait(LeakTerminated, timeout=0.3)
        assert await statement.fetchval() == 0
        assert judge.execute(LOCKS, [pid]).fetchall() == []
    finally:
        await connection.close()
        judge.execute("DROP TABLE held")


async def nothing(connection: Any) -> None:
    assert await connection.fetchval("SELECT 1") == 1


async def a_transaction(connection: Any) -> None:
    await connection.execute("BEGIN")


async def a_prepare(connection: Any) -> None:
    await connection.prepare("SELECT 1")


async def a_failed_transaction(connection: Any) -> None:
    await connection.execute("BEGIN")
    with pytest.raises(asyncpg.DivisionByZeroError):
        await connection.fetchval("SELECT 1/0")


@pytest.mark.protocol(24)
@pytest.mark.parametrize("begun", [nothing, a_transaction, a_prepare, a_failed_transaction])
async def test_asyncpg_s_close_does_not_wait(
    postgres: Postgres, start_proxy: StartProxy, judge: psycopg.Connection, begun: Any
) -> None:
    proxy = start_proxy()
    gone = "SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = %s"
    connection = await connect(dsn(proxy, postgres))
    pid = connection.get_server_pid()
    await begun(connection)
    began = now()
    await connection.close()
    assert now() - began < SOON
    until(lambda: judge.execute(gone, [pid]).fetchone() == (True,), 2.0, "the backend is left")
    proxy.settle(timeout=2.5)
