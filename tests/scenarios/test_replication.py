"""Replication in all its ways lasts much longer than any limit, and is never flagged, let alone ended.

The programs are those of the newest version: they replicate from every older one.
"""

import contextlib
import hashlib
import json
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from proxy.demo import binaries
from proxy.report.events import LeakEvent, LeakFlagged
from tests.behaviour.support import understanding
from tests.conftest import StartProxy
from tests.harness import PATIENCE, Proxy, dsn, until
from tests.rawclient import RawClient
from tests.scenarios.conftest import Differs, running
from tests.scenarios.support import legs
from tests.servers.server import RealPostgres, Standby

GROUP = "replication"
LIMIT = 0.2
MANY = 20_000  # rows; more than a replication slot decodes in memory


@pytest.fixture(params=["clear", "TLS"])
def proxy(request: pytest.FixtureRequest, postgres: RealPostgres, start_proxy: StartProxy) -> Iterator[Proxy]:
    limit = f"{LIMIT}s"
    limits = {"flag_after": limit, "terminate_after": limit}
    limits |= {"flag_transaction_after": limit, "terminate_transaction_after": limit}
    with understanding(start_proxy(**limits, **legs(request.param, postgres))) as proxy:
        yield proxy
        assert proxy.recorder.of(LeakEvent) == []


@pytest.fixture
def judge(postgres: RealPostgres) -> Iterator[psycopg.Connection]:
    """A direct connection; what a test has left to be replicated goes with it."""
    with postgres.connect() as connection:
        connection.execute("CREATE TABLE replicated (a int, b text)")
        yield connection
        connection.execute("DROP TABLE replicated")
        free = "SELECT count(*) = 0 FROM pg_replication_slots WHERE active"
        until(lambda: connection.execute(free).fetchone() == (True,), what="a slot is in use")
        connection.execute("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots")


def outlast_the_limit(proxy: Proxy) -> None:
    with pytest.raises(AssertionError):
        proxy.recorder.wait(LeakFlagged, timeout=3 * LIMIT)


def start(program: str, postgres: RealPostgres, proxy: Proxy, *arguments: str) -> subprocess.Popen[str]:
    """Start one of Postgres's own programs as a client of the proxy's."""
    command = [str(binaries.program(program)), "--no-password", *arguments]
    through = {"PGHOST": proxy.address.host, "PGPORT": str(proxy.address.port)}
    return subprocess.Popen(command, env=postgres.environment() | through, stderr=subprocess.PIPE, text=True)


@contextlib.contextmanager
def following(program: str, postgres: RealPostgres, proxy: Proxy, *arguments: str) -> Iterator[None]:
    """Let a program follow the server until it is told to stop; it has to stop in good order."""
    with start(program, postgres, proxy, *arguments) as process:
        try:
            yield
            assert process.poll() is None, "it has ended by itself"
            process.send_signal(signal.SIGINT)
            _, said = process.communicate(timeout=PATIENCE)
            assert process.returncode == 0, said
        finally:
            process.kill()


def make_slot(judge: psycopg.Connection, name: str, plugin: str = "") -> None:
    if plugin:
        judge.execute("SELECT pg_create_logical_replication_slot(%s, %s)", [name, plugin])
    else:
        judge.execute("SELECT pg_create_physical_replication_slot(%s)", [name])


def await_slot(judge: psycopg.Connection, name: str) -> None:
    used = "SELECT active FROM pg_replication_slots WHERE slot_name = %s"
    until(lambda: judge.execute(used, [name]).fetchone() == (True,), what="nobody uses the slot")


def back_up(postgres: RealPostgres, proxy: Proxy, directory: Path) -> None:
    """Long enough to be flagged, if that were a transaction."""
    options = (
        f"--pgdata={directory}",
        "--manifest-checksums=sha256",
        "--checkpoint=fast",
        "--max-rate=16M",
        "--no-sync",
    )
    with start("pg_basebackup", postgres, proxy, *options) as process:
        _, said = process.communicate(timeout=60)
        assert process.returncode == 0, said


def test_pg_basebackup(postgres: RealPostgres, proxy: Proxy, tmp_path: Path) -> None:
    backup = tmp_path / "backup"
    back_up(postgres, proxy, backup)
    files = json.loads((backup / "backup_manifest").read_text())["Files"]
    assert len(files) > 500
    for file in files:
        assert hashlib.sha256((backup / file["Path"]).read_bytes()).hexdigest() == file["Checksum"], file["Path"]


def test_pg_receivewal(postgres: RealPostgres, proxy: Proxy, judge: psycopg.Connection, tmp_path: Path) -> None:
    make_slot(judge, "physical")
    with following("pg_receivewal", postgres, proxy, f"--directory={tmp_path}", "--slot=physical"):
        await_slot(judge, "physical")
        outlast_the_limit(proxy)
        judge.execute("INSERT INTO replicated VALUES (1, 'a row of WAL')")
        row = judge.execute("SELECT pg_walfile_name(pg_switch_wal())").fetchone()
        assert row
        segment = tmp_path / row[0]
        until(segment.exists, what="the segment does not arrive")
        assert b"a row of WAL" in segment.read_bytes()


def test_pg_recvlogical(postgres: RealPostgres, proxy: Proxy, judge: psycopg.Connection, tmp_path: Path) -> None:
    make_slot(judge, "logical", "test_decoding")
    file = tmp_path / "decoded"
    options = ("--slot=logical", "--start", f"--file={file}", "--fsync-interval=0", "--status-interval=1")
    with following("pg_recvlogical", postgres, proxy, "--dbname=postgres", *options):
        await_slot(judge, "logical")
        outlast_the_limit(proxy)
        judge.execute("INSERT INTO replicated SELECT a, 'row ' || a FROM generate_series(1, %s) a", [MANY])
        until(lambda: f"'row {MANY}'" in file.read_text(), what="the last row does not arrive")
        outlast_the_limit(proxy)
    assert file.read_text().count("table public.replicated: INSERT:") == MANY


def rows(connection: psycopg.Connection) -> int:
    row = connection.execute("SELECT count(*) FROM replicated").fetchone()
    assert row
    return int(row[0])


def test_a_subscription(postgres: RealPostgres, proxy: Proxy, judge: psycopg.Connection) -> None:
    judge.execute("INSERT INTO replicated VALUES (0, 'copied')")
    judge.execute("CREATE PUBLICATION published FOR TABLE replicated")
    with running(postgres.version) as subscriber, subscriber.connect() as connection:
        connection.execute("CREATE TABLE replicated (a int, b text)")
        connection.execute(f"CREATE SUBSCRIPTION subscribed CONNECTION '{dsn(proxy, postgres)}' PUBLICATION published")
        until(lambda: rows(connection) == 1, what="the first row is not copied")
        synced = "SELECT srsubstate = 'r' FROM pg_subscription_rel"
        until(lambda: connection.execute(synced).fetchone() == (True,), what="the table is not in step")
        outlast_the_limit(proxy)
        with judge.transaction():
            judge.execute("INSERT INTO replicated SELECT a, 'streamed' FROM generate_series(1, %s) a", [MANY])
        until(lambda: rows(connection) == 1 + MANY, what="the rows do not arrive")
        outlast_the_limit(proxy)
        senders = "SELECT count(*) FROM pg_stat_replication WHERE application_name = 'subscribed'"
        assert judge.execute(senders).fetchone() == (1,)
        connection.execute("DROP SUBSCRIPTION subscribed")
    judge.execute("DROP PUBLICATION published")


def knows_of_promotion(client: RawClient) -> bool:
    """Whether a ParameterStatus has come with the answer to a statement."""
    told = [message.body for message in client.query("SELECT 1") if message.kind == "S"]
    assert told in ([], [b"in_hot_standby\0off\0"])
    return bool(told)


def test_a_hot_standby_that_is_promoted(
    postgres: RealPostgres,
    start_proxy: StartProxy,
    proxy: Proxy,
    judge: psycopg.Connection,
    differs: Differs,
    tmp_path: Path,
) -> None:
    back_up(postgres, proxy, tmp_path / "backup")
    with Standby(postgres, tmp_path / "backup", dsn(proxy, postgres)) as standby, standby.connect() as connection:
        judge.execute("INSERT INTO replicated VALUES (1, 'streamed')")
        until(lambda: rows(connection) == 1, what="the row does not arrive")
        outlast_the_limit(proxy)
        front = start_proxy(upstream=f"{standby.host}:{standby.port}")
        with psycopg.connect(dsn(front, standby)) as reader:
            status = reader.info.parameter_status("in_hot_standby")
        assert status == ("on" if postgres.version >= 14 else None)
        differs("in_hot_standby", "reported" if status else "not reported")
        with RawClient(dsn(front, standby)) as client:
            connection.execute("SELECT pg_promote()")
            if status:
                until(lambda: knows_of_promotion(client), what="the promotion is not told")
