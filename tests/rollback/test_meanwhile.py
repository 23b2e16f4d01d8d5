"""What a client does while the server, which is held up, has not answered our rollback yet."""

import contextlib
import os
import signal
import socket
from collections.abc import Callable, Iterator

import pytest

from proxy import rollback
from proxy.demo.postgres import Postgres
from proxy.report.events import LeakRolledBack, LeakTerminated
from tests import messages as m
from tests.harness import Proxy, until
from tests.rawclient import RawClient, fields
from tests.rollback.support import OWED, bound, kinds, one, states, status

COMMIT = m.query("COMMIT")
GONE = "SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = %s"


@contextlib.contextmanager
def under_way(proxy: Proxy, client: RawClient) -> Iterator[None]:
    """Leak; the server has been asked for the rollback, and does not answer before the end of this."""
    client.query("BEGIN")
    client.query("INSERT INTO rolled VALUES (1)")
    os.kill(client.backend_pid, signal.SIGSTOP)
    try:
        session = proxy.session_of(client.backend_pid)
        until(lambda: proxy.ask(lambda: session.guard.enforcer.rolling_back))
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(client.backend_pid, signal.SIGCONT)


def names(proxy: Proxy) -> list[str]:
    return [event.event for _, event in proxy.recorder.events if event.event.startswith("leak.")]


@pytest.mark.parametrize("cut", range(1, len(COMMIT) + 1))
def test_a_commit_that_overtakes_the_answer_fails(proxy: Proxy, client: RawClient, cut: int) -> None:
    with under_way(proxy, client):
        client.send(COMMIT[:cut])
    proxy.recorder.wait(LeakRolledBack)
    client.send(COMMIT[cut:])
    answer = client.receive_until("Z")
    assert (kinds(answer), states(answer), status(answer)) == ("EZ", [OWED], "I")


def test_a_pipeline_that_overtakes_the_answer(proxy: Proxy, client: RawClient, postgres: Postgres) -> None:
    with under_way(proxy, client):
        client.send(bound("INSERT INTO rolled VALUES (2)") + m.SYNC)
        client.send(bound("COMMIT") + bound("INSERT INTO rolled VALUES (3)") + m.SYNC)
        client.send(m.query("INSERT INTO rolled VALUES (4)") + m.query("BEGIN") + COMMIT)
    answers = [client.receive_until("Z") for _ in range(5)]
    assert [states(answer) for answer in answers] == [[OWED], [OWED], [], [], []]
    assert [status(answer) for answer in answers] == ["E", "I", "I", "T", "I"]
    assert one(postgres, "DELETE FROM rolled RETURNING a") == 4


def eof(client: RawClient) -> None:
    client.socket.shutdown(socket.SHUT_WR)


def goodbye(client: RawClient) -> None:
    client.send(m.TERMINATE)
    eof(client)


def commit_and_eof(client: RawClient) -> None:
    client.send(COMMIT)
    eof(client)


def half_a_commit(client: RawClient) -> None:
    client.send(COMMIT[:5])
    eof(client)


@pytest.mark.parametrize("leave", [RawClient.reset, eof, goodbye, commit_and_eof, half_a_commit])
def test_a_client_that_leaves_has_been_rolled_back(
    proxy: Proxy, client: RawClient, postgres: Postgres, leave: Callable[[RawClient], None]
) -> None:
    with under_way(proxy, client):
        leave(client)
        proxy.recorder.wait(LeakRolledBack)
    proxy.settle()
    until(lambda: one(postgres, GONE, client.backend_pid), 2.0, "the backend is still there")
    assert names(proxy) == ["leak.flagged", "leak.rolled_back"]
    ((_, account),) = proxy.reporter.ledger
    assert (account.open, account.rolled_back, account.abandoned) == (0, 1, 0)


def test_a_server_that_does_not_answer_is_given_up(
    proxy: Proxy, client: RawClient, postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rollback, "ANSWER_WITHIN", 0.5)
    with under_way(proxy, client):
        client.send(COMMIT)
        (last,) = client.everything()
        assert (fields(last)["S"], fields(last)["C"]) == ("FATAL", OWED)
    assert proxy.recorder.wait(LeakTerminated).detail == "the server did not answer"
    until(lambda: one(postgres, GONE, client.backend_pid), 2.0, "the backend is still there")
    assert one(postgres, "SELECT count(*) FROM rolled") == 0


def test_a_backend_that_is_killed_says_so(proxy: Proxy, client: RawClient, postgres: Postgres) -> None:
    with under_way(proxy, client):
        one(postgres, "SELECT pg_terminate_backend(%s)", client.backend_pid)
    assert "57P01" in states(client.everything())
    client.close()
    proxy.settle()
    ((_, account),) = proxy.reporter.ledger
    assert (account.leaks, account.open) == (1, 0)


def test_a_flood_waits_at_the_client(proxy: Proxy, client: RawClient) -> None:
    """What is kept for the server is bounded; the rest stays where it comes from."""
    with under_way(proxy, client):
        session = proxy.session_of(client.backend_pid)
        received = proxy.ask(lambda: session.client.received)
        client.socket.settimeout(0.3)
        with contextlib.suppress(TimeoutError):
            for _ in range(1000):
                client.socket.send(m.query("SELECT 1") * 5000)
        assert proxy.ask(lambda: session.client.received) - received < 1_000_000
