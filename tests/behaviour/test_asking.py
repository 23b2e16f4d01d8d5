"""What is asked about a leak, and who does not answer, is in nobody's way: not in the action's, not in a client's."""

import socket
import time
from collections.abc import Iterator

import psycopg
import pytest

from proxy.demo.postgres import Postgres
from proxy.report.events import (
    AttributionUnavailable,
    InternalError,
    LeakEvent,
    LeakFlagged,
    LeakReturned,
    LeakRolledBack,
    LeakTerminated,
)
from tests.conftest import StartProxy
from tests.harness import Proxy, dsn, settings_for
from tests.life.support import FakeServer, never_answers, read_startup

FLAG = 0.15
ACTION = 0.3
SLACK = 0.4  # seconds; an answer is waited for a second


@pytest.fixture
def silent() -> Iterator[str]:
    """How to reach a server that lets who asks it wait."""
    with FakeServer(never_answers) as server:
        yield f"host=127.0.0.1 port={server.port} user=watcher password=hunter2"


def leaking(proxy: Proxy, postgres: Postgres, key: int) -> psycopg.Connection:
    connection = psycopg.connect(dsn(proxy, postgres))
    connection.execute("SELECT pg_advisory_xact_lock(%s)", [key])
    return connection


def when_free(postgres: Postgres, key: int) -> float:
    """Seconds from now until the server has freed a lock."""
    began = time.monotonic()
    with postgres.connect() as other:
        other.execute("SELECT pg_advisory_xact_lock(%s)", [key])
    return time.monotonic() - began


def told(proxy: Proxy) -> list[type[LeakEvent]]:
    return [type(event) for event in proxy.recorder.of(LeakEvent)]


def test_a_rollback_does_not_wait_for_an_answer(postgres: Postgres, start_proxy: StartProxy, silent: str) -> None:
    proxy = start_proxy(
        flag_after=f"{FLAG}s", rollback_after=f"{ACTION}s", attribution__blast_radius_dsn=silent
    )  # fmt: skip
    with leaking(proxy, postgres, 501) as client:
        assert when_free(postgres, 501) < ACTION + SLACK
        assert told(proxy) == []  # it is still being asked
        with pytest.raises(psycopg.errors.IdleInTransactionSessionTimeout):
            client.execute("SELECT 1")
        client.rollback()
        proxy.recorder.wait(LeakReturned)
    assert told(proxy) == [LeakFlagged, LeakRolledBack, LeakReturned]


def test_a_termination_does_not_wait_for_an_answer(postgres: Postgres, start_proxy: StartProxy, silent: str) -> None:
    proxy = start_proxy(
        flag_after=f"{FLAG}s", terminate_after=f"{ACTION}s", attribution__blast_radius_dsn=silent
    )  # fmt: skip
    client = leaking(proxy, postgres, 502)
    assert when_free(postgres, 502) < ACTION + SLACK
    assert told(proxy) == []
    with pytest.raises(psycopg.errors.IdleInTransactionSessionTimeout):
        client.execute("SELECT 1")
    proxy.recorder.wait(LeakTerminated)
    assert told(proxy) == [LeakFlagged, LeakTerminated]


def test_another_server_can_be_named_while_one_does_not_answer(
    postgres: Postgres, start_proxy: StartProxy, silent: str
) -> None:
    options = {"upstream": f"{postgres.host}:{postgres.port}", "flag_after": f"{FLAG}s"}
    proxy = start_proxy(**options, attribution__blast_radius_dsn=silent)
    with leaking(proxy, postgres, 503):
        time.sleep(2 * FLAG)  # it is being asked about
        better = settings_for(**options, attribution__blast_radius_dsn=postgres.dsn())
        proxy.call(lambda: proxy.server.change(better))
        with leaking(proxy, postgres, 504):
            proxy.recorder.wait(LeakFlagged, count=2)
    first, second = proxy.recorder.of(LeakFlagged)
    known, unknown = sorted((first, second), key=lambda event: event.leak.blast is None)
    assert known.leak.blast is not None
    assert known.leak.blast.locks == ("ExclusiveLock on an advisory lock",)
    assert unknown.leak.blast is None
    assert proxy.recorder.of(InternalError) == []


def test_a_server_that_quotes_the_password_does_not_get_it_into_the_log(
    postgres: Postgres, start_proxy: StartProxy
) -> None:
    cleartext = b"R\0\0\0\x08\0\0\0\x03"
    quoting = b'SFATAL\0VFATAL\0C28P01\0Mpassword "hunter2"\r\n\x1b[2J is wrong\0Dhunter2\0\0'

    def talk(connection: socket.socket) -> None:
        read_startup(connection)
        connection.sendall(cleartext)
        assert b"hunter2" in connection.recv(100)
        connection.sendall(b"E" + (len(quoting) + 4).to_bytes(4, "big") + quoting)

    with FakeServer(talk) as server:
        asked = f"host=127.0.0.1 port={server.port} user=watcher password=hunter2 sslmode=disable"
        proxy = start_proxy(flag_after=f"{FLAG}s", attribution__blast_radius_dsn=asked)
        with leaking(proxy, postgres, 505):
            proxy.recorder.wait(LeakFlagged)
    reason = proxy.recorder.wait(AttributionUnavailable).reason
    assert 'password "***"' in reason
    assert "hunter2" not in reason
    assert reason.isprintable()
