"""A side that does not take what is sent to it, and a peer that goes away meanwhile."""

import socket
import threading

import pytest

from proxy.demo.postgres import Postgres
from proxy.report.events import LeakAbandoned
from tests import messages as m
from tests.conftest import StartProxy
from tests.harness import dsn, until
from tests.life.support import FakeServer, connected, exactly, read_startup
from tests.rawclient import RawClient

BOUND = 1_000_000  # bytes that a session may keep for one side; two reads and a buffer are half of that

GONE = "SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = %s"


@pytest.mark.protocol(25)
def test_a_client_that_has_said_its_last_and_does_not_read_costs_no_memory(
    postgres: Postgres, start_proxy: StartProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("proxy.ending.END_WITHIN", 0.6)
    proxy = start_proxy()
    with RawClient(dsn(proxy, postgres)) as client:
        session = proxy.session_of(client.backend_pid)
        client.send(m.query("SELECT repeat('x', 1000000) FROM generate_series(1, 10000)"))
        until(lambda: session.unread() > 0)
        client.socket.shutdown(socket.SHUT_WR)
        most = 0
        while proxy.ask(lambda: len(proxy.server.sessions)):
            most = max(most, session.unread())
        assert most < BOUND


@pytest.mark.protocol(24)
def test_a_client_that_breaks_the_connection_while_the_server_does_not_listen(
    postgres: Postgres, start_proxy: StartProxy
) -> None:
    """We do not read from such a client either, so nobody tells us (docs/protocol.md, 24)."""
    proxy = start_proxy()
    with postgres.connect() as judge:
        client = RawClient(dsn(proxy, postgres))
        client.query("CREATE TEMP TABLE slow (a text)")
        client.query("""CREATE FUNCTION pg_temp.wait() RETURNS trigger LANGUAGE plpgsql
                        AS 'BEGIN PERFORM pg_sleep(60); RETURN NEW; END'""")
        client.query("CREATE TRIGGER wait BEFORE INSERT ON slow FOR EACH ROW EXECUTE FUNCTION pg_temp.wait()")
        session = proxy.session_of(client.backend_pid)
        client.send(m.query("COPY slow FROM STDIN"))
        client.receive_until("G")
        row = m.copy_data(b"x" * 100_000 + b"\n")
        client.socket.settimeout(0.5)
        try:
            while True:
                client.send(row)
        except TimeoutError:
            assert session.unsent() > 0
        client.reset()
        assert proxy.recorder.wait(LeakAbandoned, timeout=2.0).how == "reset"
        until(lambda: judge.execute(GONE, [client.backend_pid]).fetchone() == (True,), 2.0, "the backend is left")
    proxy.settle()


def test_a_statement_of_a_client_that_is_cut_by_the_end_of_the_proxy_is_cancelled(
    postgres: Postgres, start_proxy: StartProxy
) -> None:
    proxy = start_proxy(drain_timeout="100ms")
    with postgres.connect() as judge, RawClient(dsn(proxy, postgres)) as client:
        client.send(m.query("SELECT pg_sleep(60)"))
        until(lambda: proxy.session_of(client.backend_pid).tracker.in_transaction)
        draining = threading.Thread(target=proxy.call, args=[proxy.server.drain])
        draining.start()
        assert [message.kind for message in client.everything()] == ["E"]
        draining.join()
        until(lambda: judge.execute(GONE, [client.backend_pid]).fetchone() == (True,), 1.0, "the backend is left")


@pytest.mark.protocol("partial writes that block each other")
def test_much_goes_both_ways_at_the_same_time(postgres: Postgres, start_proxy: StartProxy) -> None:
    """Neither direction waits for the other: what is asked and what is answered is more than all buffers hold."""
    proxy = start_proxy()
    text, times = "x" * 100_000, 300
    request = m.query(f"SELECT '{text}'")
    with RawClient(dsn(proxy, postgres)) as client:
        sending = threading.Thread(target=client.send, args=[request * times])
        sending.start()
        for _ in range(times):
            assert sum(len(message.body) for message in client.receive_until("Z")) > len(text)
        sending.join()


@pytest.mark.protocol(25)
def test_a_client_that_does_not_read_is_still_heard(start_proxy: StartProxy) -> None:
    """The server's direction stands still, the client's does not."""
    heard = threading.Event()

    def flood(connection: socket.socket) -> None:
        read_startup(connection)
        connection.sendall(m.STARTED)
        connection.recv(1000)
        connection.setblocking(False)  # noqa: FBT003 - its only argument
        try:
            while True:
                connection.send(m.row(b"x" * 60_000))
                threading.Event().wait(0.001)
        except BlockingIOError:  # the proxy reads no more
            connection.settimeout(5)
            if exactly(connection, len(SAID)) == SAID:
                heard.set()

    with FakeServer(flood) as server:
        proxy = start_proxy(upstream=server.address)
        with connected(proxy.address) as client:
            client.send(m.query("SELECT 1"))
            until(lambda: proxy.ask(lambda: [session.unread() for session in proxy.server.sessions])[0] > 0)
            client.send(SAID)
            assert heard.wait(5)


SAID = m.query("SELECT 'and this'") * 1000


@pytest.mark.protocol(25, "memory for a reader that is slow")
def test_a_reader_of_a_kilobyte_at_a_time_costs_no_memory(postgres: Postgres, start_proxy: StartProxy) -> None:
    proxy = start_proxy()
    with RawClient(dsn(proxy, postgres)) as client:
        session = proxy.session_of(client.backend_pid)
        client.send(m.query("SELECT repeat('x', 1000000) FROM generate_series(1, 3000)"))
        until(lambda: session.unread() > 0)
        for _ in range(1000):
            assert client.socket.recv(1024)
            assert session.unread() < BOUND
        assert session.tracker.opaque is None
