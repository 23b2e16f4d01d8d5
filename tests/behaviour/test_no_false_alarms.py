"""What honest clients do, for longer than the limit: never flagged."""

import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest

from proxy.demo import binaries
from proxy.demo.postgres import Postgres
from proxy.report.events import LeakAbandoned, LeakEvent, ProtocolViolation
from tests.conftest import StartProxy
from tests.harness import PATIENCE, Proxy, dsn, until

LIMIT = 0.3


@pytest.fixture
def proxy(start_proxy: StartProxy) -> Iterator[Proxy]:
    proxy = start_proxy(flag_after=f"{LIMIT}s", terminate_after=f"{2 * LIMIT}s")
    yield proxy
    assert proxy.recorder.of(LeakEvent) == []
    assert proxy.recorder.of(ProtocolViolation) == []


def test_a_busy_transaction_and_a_long_statement(postgres: Postgres, proxy: Proxy) -> None:
    with psycopg.connect(dsn(proxy, postgres)) as connection:
        for _ in range(20):
            connection.execute("SELECT pg_sleep(0.05)")
        connection.execute("SELECT pg_sleep(%s)", [4 * LIMIT])


@pytest.mark.protocol(26, "timers on the wrong clock")
def test_a_statement_longer_than_the_limit_and_then_a_short_pause(postgres: Postgres, start_proxy: StartProxy) -> None:
    """`begin; pg_sleep(2 limits); half a limit; select`, a hundred times, in many clients (docs/protocol.md, 26)."""
    limit = 2 * LIMIT
    proxy = start_proxy(flag_after=f"{limit}s", terminate_after=f"{2 * limit}s")

    def client(_number: int) -> None:
        with psycopg.connect(dsn(proxy, postgres)) as connection:
            for _ in range(2):
                connection.execute("SELECT pg_sleep(%s)", [2 * limit])
                time.sleep(limit / 2)  # the pause is what is tested
                connection.execute("SELECT 1")
                connection.commit()

    with ThreadPoolExecutor(50) as clients:
        list(clients.map(client, range(50)))
    assert proxy.recorder.of(LeakEvent) == []


def test_a_pipeline(postgres: Postgres, proxy: Proxy) -> None:
    with psycopg.connect(dsn(proxy, postgres)) as connection, connection.pipeline():
        results = [connection.execute("SELECT pg_sleep(0.005), %s", [number]) for number in range(200)]
        assert [result.fetchone() for result in results][-1] == ("", 199)


@pytest.mark.protocol(26)
def test_a_copy_that_flows_in_both_directions(postgres: Postgres, proxy: Proxy) -> None:
    with psycopg.connect(dsn(proxy, postgres)) as connection, connection.cursor() as cursor:
        cursor.execute("CREATE TEMP TABLE copied (a int)")
        with cursor.copy("COPY copied FROM STDIN") as copy:
            for _ in range(6):
                copy.write("1\n" * 8192)  # as much as libpq does not keep to itself
                time.sleep(LIMIT / 2)  # slower than anybody would like, but it flows
        with cursor.copy("COPY (SELECT a, pg_sleep(0.1) FROM copied LIMIT 8) TO STDOUT") as copy:
            assert len(list(copy.rows())) == 8


@pytest.mark.protocol(26)
def test_a_result_that_is_read_slowly(postgres: Postgres, proxy: Proxy) -> None:
    with psycopg.connect(dsn(proxy, postgres)) as connection, connection.cursor() as cursor:
        # What the kernel keeps for the client counts as read: at this pace, no more than a tenth of the limit's worth.
        with socket.socket(fileno=os.dup(connection.fileno())) as own:
            own.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 18)
        rows = cursor.stream("SELECT repeat('x', 100000) FROM generate_series(1, 200)")
        for number, _ in enumerate(rows):
            if number % 4 == 0:
                time.sleep(0.02)


@pytest.mark.protocol(17, "a notification that an idle client does not get")
def test_listen_and_a_pool_of_idle_connections(postgres: Postgres, proxy: Proxy) -> None:
    connections = [psycopg.connect(dsn(proxy, postgres), autocommit=True) for _ in range(10)]
    listener = connections[0]
    listener.execute("LISTEN news")
    threading.Timer(3 * LIMIT, lambda: connections[1].execute("NOTIFY news, 'x'")).start()
    assert [notify.payload for notify in listener.notifies(timeout=10, stop_after=1)] == ["x"]
    for connection in connections:
        connection.execute("SELECT 1")
        connection.close()


def test_a_prepared_statement_that_waits_with_its_sync(postgres: Postgres, proxy: Proxy) -> None:
    with psycopg.connect(dsn(proxy, postgres), autocommit=True) as connection:
        connection.execute("SELECT %s::int", [1], prepare=True)
        time.sleep(2 * LIMIT)
        assert connection.execute("SELECT %s::int", [2], prepare=True).fetchone() == (2,)


def start(program: str, postgres: Postgres, proxy: Proxy, *arguments: str) -> subprocess.Popen[bytes]:
    """Start one of Postgres's own programs as a client of the proxy's."""
    through = {"PGHOST": proxy.address.host, "PGPORT": str(proxy.address.port)}
    command = [str(binaries.program(program)), *arguments]
    return subprocess.Popen(command, env=postgres.environment() | through, stdout=subprocess.PIPE)


def test_pg_dump(postgres: Postgres, start_proxy: StartProxy) -> None:
    """One transaction for all of it; where each row takes a while, several limits long."""
    proxy = start_proxy(flag_after=f"{LIMIT}s", terminate_after=f"{2 * LIMIT}s")
    with postgres.connect() as connection:
        connection.execute("CREATE TABLE dumped AS SELECT number FROM generate_series(1, 1000) AS number")
        connection.execute("ALTER TABLE dumped ENABLE ROW LEVEL SECURITY")
        connection.execute("CREATE POLICY slow ON dumped USING (pg_sleep(0.001) IS NOT NULL)")
        connection.execute("CREATE ROLE dumper")
        connection.execute("GRANT SELECT ON dumped TO dumper")
        began = time.monotonic()
        options = ("--table=dumped", "--data-only", "--enable-row-security", "--role=dumper")
        with start("pg_dump", postgres, proxy, *options) as process:
            dumped, _ = process.communicate(timeout=PATIENCE)
        took = time.monotonic() - began
        connection.execute("DROP TABLE dumped")
        connection.execute("DROP ROLE dumper")
    assert process.returncode == 0
    assert b"\n1000\n" in dumped
    assert took > 3 * LIMIT
    proxy.settle()
    # It ends its session without COMMIT: that is told, but nothing was held.
    (told,) = proxy.recorder.of(LeakEvent)
    assert isinstance(told, LeakAbandoned)
    assert (told.flagged, told.how) == (False, "terminate")


def test_a_replication_client(postgres: Postgres, proxy: Proxy, tmp_path: Path) -> None:
    streaming = (
        "SELECT count(*) FROM pg_stat_replication WHERE application_name = 'pg_receivewal' AND state = 'streaming'"
    )
    with (
        postgres.connect() as connection,
        start("pg_receivewal", postgres, proxy, f"--directory={tmp_path}", "--no-loop") as process,
    ):
        until(lambda: connection.execute(streaming).fetchone() == (1,), what="it does not stream")
        time.sleep(3 * LIMIT)  # there is nothing to stream
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE) == 0
