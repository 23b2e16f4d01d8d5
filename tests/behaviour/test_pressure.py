"""A side that does not take what is sent to it, and a peer that goes away meanwhile."""

import socket
import threading

from proxy.demo.postgres import Postgres
from proxy.report.events import LeakAbandoned
from tests import messages as m
from tests.conftest import StartProxy
from tests.harness import dsn, until
from tests.rawclient import RawClient

BOUND = 1_000_000  # bytes that a session may keep for one side; two reads and a buffer are half of that

GONE = "SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = %s"


def test_a_client_that_has_said_its_last_and_does_not_read_costs_no_memory(
    postgres: Postgres, start_proxy: StartProxy
) -> None:
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


def test_a_client_that_breaks_the_connection_while_the_server_does_not_listen(
    postgres: Postgres, start_proxy: StartProxy
) -> None:
    """We do not read from such a client either, so nobody tells us (PROTOCOL 24)."""
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
