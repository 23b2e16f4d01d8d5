"""Where connections and cancel requests go, and when: the server's name is resolved for each session anew."""

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from proxy.demo.postgres import Postgres
from proxy.wire.messages import CANCEL_REQUEST_CODE, SSL_REQUEST_CODE
from tests import messages as m
from tests.conftest import StartProxy
from tests.harness import Proxy, settings_for, until
from tests.life.support import FakeServer, PlainClient, connected, exactly, never_answers, read_startup
from tests.life.test_endings import waits_for
from tests.rawclient import fields, now

NAME = "db.example:5432"
KEY = b"\x01\x02\x03\x04"  # of the session that m.STARTED begins, with this process id
PID = 4711
STARTUP = m.startup(user="postgres")


class Resolver(asyncio.SelectorEventLoop):
    """A loop to which every name is the address that the test says, as soon as it says one."""

    def __init__(self) -> None:
        super().__init__()
        self.port = 0
        self.asked = 0

    async def getaddrinfo(self, *_: Any, **__: Any) -> Any:
        self.asked += 1
        while not self.port:  # noqa: ASYNC110 - the test has a thread of its own
            await asyncio.sleep(0.01)
        return [(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", ("127.0.0.1", self.port))]


class Recording(FakeServer):
    """Begins sessions, and keeps what comes: first packets, and what comes behind them."""

    def __init__(self) -> None:
        super().__init__(self._keep)
        self.cancels: list[bytes] = []
        self.rest = b""

    def _keep(self, connection: socket.socket) -> None:
        packet = read_startup(connection)
        if packet.startswith(CANCEL_REQUEST_CODE.to_bytes(4, "big")):
            self.cancels.append(packet[4:])
            return
        connection.sendall(m.STARTED)
        while data := connection.recv(65_536):
            self.rest += data


@pytest.fixture
def resolver() -> Resolver:
    return Resolver()


@pytest.fixture
def proxy(resolver: Resolver) -> Iterator[Proxy]:
    with Proxy(settings_for(NAME, upstream_tls__mode="disable"), resolver) as proxy:
        yield proxy


def cancel(proxy: Proxy, key: bytes = KEY) -> None:
    """Send a cancel request, and wait until it has been dealt with."""
    with PlainClient(proxy.address, m.cancel_request(PID, key)) as canceller:
        assert canceller.byte() == b""


@pytest.mark.protocol("a name that is never resolved again")
def test_a_server_that_moves_is_found(resolver: Resolver, proxy: Proxy) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        resolver.port = nobody.getsockname()[1]
        with PlainClient(proxy.address, STARTUP) as client:
            assert client.refused()["C"] == "08001"
    for _ in range(2):
        with Recording() as server:
            resolver.port = server.port
            connected(proxy.address).close()
            proxy.settle()
            assert server.accepted == 1


@pytest.mark.protocol(5, "a cancel request for somebody else")
def test_a_cancel_request_goes_where_its_session_is(resolver: Resolver, proxy: Proxy) -> None:
    with Recording() as old, Recording() as new:
        resolver.port = old.port
        with connected(proxy.address):
            resolver.port = new.port
            cancel(proxy)
            assert (old.cancels, new.cancels) == ([PID.to_bytes(4, "big") + KEY], [])
            cancel(proxy, b"unknown!")
            assert (len(old.cancels), new.cancels) == (1, [PID.to_bytes(4, "big") + b"unknown!"])
        proxy.settle()
        cancel(proxy)  # the session is over: its backend's process id may be somebody else's by now, its key is not
        assert (len(old.cancels), len(new.cancels)) == (1, 2)


@pytest.mark.protocol(5, 7)
def test_a_cancel_request_while_its_session_still_connects_harms_nobody(resolver: Resolver, proxy: Proxy) -> None:
    with Recording() as server, PlainClient(proxy.address, STARTUP) as client:
        until(lambda: resolver.asked == 1)
        client.send(m.query("SELECT 'early'"))  # it stays behind the startup packet
        with PlainClient(proxy.address, m.cancel_request(PID, KEY)) as canceller:
            until(lambda: resolver.asked == 2)
            resolver.port = server.port
            assert canceller.byte() == b""
        assert server.cancels == [PID.to_bytes(4, "big") + KEY]
        client.logged_in()
        until(lambda: server.rest == m.query("SELECT 'early'"), what="it did not arrive")


@pytest.mark.protocol(7, 27)
def test_what_is_sent_while_the_server_does_not_accept_yet_stays_behind_the_startup_packet(
    start_proxy: StartProxy,
) -> None:
    """A client that is not paused would be forwarded to nobody; in uvloop, not every way of pausing pauses."""
    with socket.socket() as server, contextlib.ExitStack() as others:
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        server.settimeout(10)
        for _ in range(2):  # they fill the queue; the kernel lets the next one try again after a second
            other = others.enter_context(socket.socket())
            other.setblocking(False)  # noqa: FBT003 - its only argument
            other.connect_ex(server.getsockname())
        proxy = start_proxy(upstream=f"127.0.0.1:{server.getsockname()[1]}", upstream_tls__mode="disable")
        with PlainClient(proxy.address, STARTUP + m.query("SELECT 1")) as client:
            until(lambda: proxy.ask(lambda: len(proxy.server.sessions)) == 1)
            for _ in range(100):
                client.send(m.query("SELECT 2"))
            others.close()
            whole = STARTUP + m.query("SELECT 1") + m.query("SELECT 2") * 100
            assert first_words(server, len(whole)) == whole


def first_words(server: socket.socket, length: int) -> bytes:
    """So many bytes of the first client that says anything."""
    while True:
        client, _ = server.accept()
        with client, contextlib.suppress(ConnectionResetError):
            return exactly(client, length)


@pytest.mark.protocol(24)
def test_a_client_that_leaves_while_the_name_is_looked_up_leaves_nothing(resolver: Resolver, proxy: Proxy) -> None:
    with Recording() as server:
        client = PlainClient(proxy.address, STARTUP + m.query("SELECT 'early'"))
        until(lambda: resolver.asked == 1)
        client.reset()
        resolver.port = server.port
        proxy.settle(timeout=2.5)


@pytest.mark.protocol(5)
def test_a_cancel_request_is_given_up_in_time(start_proxy: StartProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    """What arrives minutes late stops somebody else's statement."""
    monkeypatch.setattr("proxy.upstream.CANCEL_TIMEOUT", 0.3)
    with FakeServer(never_answers) as server:
        proxy = start_proxy(upstream=server.address)
        began = now()
        cancel(proxy)
        assert 0.28 <= now() - began < 2.0  # not the five seconds that it has otherwise
        assert server.accepted == 1


@pytest.mark.protocol(1, 5)
def test_a_cancel_request_after_encryption_was_refused(trusting: Postgres, start_trusting: StartProxy) -> None:
    proxy = start_trusting()
    with connected(proxy.address) as client, trusting.connect() as judge:
        client.send(m.query("SELECT pg_sleep(60)"))
        waits_for(judge, client.backend_pid, "PgSleep")
        with PlainClient(proxy.address, m.ssl_request(SSL_REQUEST_CODE)) as canceller:
            assert canceller.byte() == b"N"
            canceller.send(m.cancel_request(client.backend_pid, client.cancel_key))
            assert canceller.byte() == b""
        assert "E" in {message.kind for message in client.receive_until("Z")}


@pytest.mark.protocol("a cancel request for a later statement")
def test_a_cancel_request_that_comes_late_does_not_stop_the_next_statement(
    trusting: Postgres, start_trusting: StartProxy
) -> None:
    """Its connection is closed only when the server has acted on it: until then a driver waits with what comes next."""
    proxy = start_trusting()
    with psycopg.connect(host=proxy.address.host, port=proxy.address.port, user=trusting.user) as connection:
        connection.autocommit = True
        for _ in range(100):
            connection.cancel_safe()
            assert connection.execute("SELECT pg_sleep(0.001), 1").fetchone() == ("", 1)


@pytest.mark.protocol("a cancel request for a later statement")
def test_our_own_cancel_request_stops_nothing_but_the_statement_that_is_meant(
    trusting: Postgres, start_trusting: StartProxy
) -> None:
    proxy = start_trusting()
    with trusting.connect() as judge, connected(proxy.address) as other:
        other.send(m.query("SELECT pg_sleep(0.5)"))
        for _ in range(5):
            with connected(proxy.address) as client:
                client.send(m.query("SELECT pg_sleep(60)"))
                waits_for(judge, client.backend_pid, "PgSleep")
                client.reset()
        proxy.settle(1)
        errors = [fields(message) for message in other.receive_until("Z") if message.kind == "E"]
        assert errors == []
