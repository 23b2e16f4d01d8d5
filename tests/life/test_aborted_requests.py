"""A request is aborted: its client goes at a moment when nobody listens, and nothing of it may stay."""

import contextlib
import socket

import psycopg
import pytest

from proxy.demo.postgres import Postgres
from proxy.report.events import LeakAbandoned, LeakFlagged
from tests import messages as m
from tests.conftest import StartProxy
from tests.harness import until
from tests.life.support import connected
from tests.life.test_endings import LEAVES, Leave, name
from tests.rawclient import now

GONE = 2.0  # seconds after the client has gone


def backends(judge: psycopg.Connection, application: str) -> int:
    asked = "SELECT count(*) FROM pg_stat_activity WHERE application_name = %s"
    row = judge.execute(asked, [application]).fetchone()
    assert row
    return int(row[0])


@pytest.mark.parametrize("answered", [True, False], ids=["answered", "not answered"])
@pytest.mark.parametrize("leave", LEAVES, ids=name)
def test_begin_and_then_nobody(trusting: Postgres, start_trusting: StartProxy, leave: Leave, *, answered: bool) -> None:
    proxy = start_trusting()
    with trusting.connect() as judge, connected(proxy.address, application_name="aborted") as client:
        client.send(m.query("BEGIN"))
        if answered:
            client.receive_until("Z")
        began = now()
        leave(client)
        until(lambda: backends(judge, "aborted") == 0, max(GONE - (now() - began), 0.0), "a backend is left")
    proxy.settle()
    events = proxy.recorder.of(LeakAbandoned)
    if answered:
        assert [(event.how, event.leak.transaction.opener) for event in events] == [(LEAVES[leave], "BEGIN")]
    else:  # a BEGIN that overtakes nobody: the server may have had no transaction yet
        assert len(events) <= 1


def test_begin_and_a_connection_that_nobody_uses(start_trusting: StartProxy) -> None:
    """The request went while its pool was awaited: its close was told before anybody listened."""
    proxy = start_trusting(flag_after="100ms", rollback_after="200ms")
    with contextlib.closing(
        psycopg.connect(host=proxy.address.host, port=proxy.address.port, user="postgres", application_name="pool")
    ) as connection:
        connection.execute("BEGIN")
        event = proxy.recorder.wait(LeakFlagged)
        assert (event.leak.leak_class, event.leak.transaction.opener) == ("open_read", "BEGIN")
        assert event.leak.client.application_name == "pool"


def test_a_request_that_is_aborted_while_its_connection_is_made(trusting: Postgres, start_trusting: StartProxy) -> None:
    proxy = start_trusting()
    startup = m.startup(user="postgres", application_name="early")
    with trusting.connect() as judge:
        for _ in range(20):
            with contextlib.closing(proxy_socket(proxy.address.host, proxy.address.port)) as client:
                client.sendall(startup)
        proxy.settle()
        until(lambda: backends(judge, "early") == 0, GONE, "a backend is left")
    assert proxy.recorder.of(LeakAbandoned) == []


def proxy_socket(host: str, port: int) -> socket.socket:
    return socket.create_connection((host, port), timeout=10)
