"""Encrypted megabytes, readers that stop, and connections that come and go: memory is flat, on both legs."""

import ssl
from collections.abc import Iterator

import pytest

from proxy.demo.postgres import Postgres
from tests import messages as m
from tests.harness import until
from tests.life.support import FakeServer, Program, serve
from tests.life.traffic import MEGABYTE, Memory, download, pause, upload
from tests.servers.certificates import Certificates
from tests.tls.support import TlsClient, come_and_go, greet_at_once, in_front_of, served_by, trusting

ALLOWED = 12 * MEGABYTE


@pytest.fixture
def program(open_postgres: Postgres, certificates: Certificates) -> Iterator[Program]:
    """The real program, with TLS on both legs."""
    offered = {"client_tls__cert_file": str(certificates.cert_file), "client_tls__key_file": str(certificates.key_file)}
    with (
        FakeServer(in_front_of(open_postgres, served_by(certificates))) as server,
        serve(server.address, upstream_tls__mode="require", client_tls__mode="require", **offered) as program,
    ):
        yield program


@pytest.fixture
def context(certificates: Certificates) -> ssl.SSLContext:
    return trusting(certificates.ca_file)


@pytest.mark.protocol(25)
def test_hundreds_of_megabytes_each_way_with_a_reader_that_pauses(program: Program, context: ssl.SSLContext) -> None:
    with TlsClient(program.address, context) as client:
        client.log_in()
        client.query("CREATE TEMP TABLE taken (a text)")
        download(client, 20)
        upload(client, 20)
        with Memory(program) as memory:
            assert download(client, 200, pauses=2) > 200 * MEGABYTE
            upload(client, 200)
        assert memory.taken < ALLOWED


def test_a_client_that_stops_reading_stops_the_server(
    open_postgres: Postgres, program: Program, context: ssl.SSLContext
) -> None:
    with open_postgres.connect() as judge, TlsClient(program.address, context) as client:
        client.log_in()
        download(client, 20)
        with Memory(program) as memory:
            client.send(m.query(f"SELECT repeat('x', {MEGABYTE}) FROM generate_series(1, 1000)"))  # noqa: S608 - a number
            waits = "SELECT wait_event FROM pg_stat_activity WHERE pid = %s"
            until(lambda: judge.execute(waits, [client.backend_pid]).fetchone() == ("ClientWrite",), what="it goes on")
            pause()
        assert memory.taken < ALLOWED
        client.reset()
        gone = "SELECT count(*) FROM pg_stat_activity WHERE pid = %s"
        until(lambda: judge.execute(gone, [client.backend_pid]).fetchone() == (0,), 2.0, "the backend is left")


def test_connections_that_come_and_go_leave_no_memory(program: Program, context: ssl.SSLContext) -> None:
    come_and_go(program.address, context, 100)
    with Memory(program) as memory:
        come_and_go(program.address, context, 400)
    assert memory.taken < 2 * MEGABYTE


@pytest.mark.protocol(3)
def test_no_client_hello_is_lost_that_comes_right_behind_our_answer(program: Program, context: ssl.SSLContext) -> None:
    """Where TLS begins some turns of the loop later, such a handshake hangs now and then."""
    for _ in range(300):
        assert greet_at_once(program.address, context) == "TLSv1.3"
