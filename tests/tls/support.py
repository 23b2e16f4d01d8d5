"""Clients that begin TLS themselves, and a server that has it although the embedded one has not."""

import contextlib
import select
import socket
import ssl
from collections.abc import Callable
from pathlib import Path

from proxy.demo.postgres import Postgres
from proxy.settings import Address
from tests import messages as m
from tests.harness import PATIENCE, until
from tests.life.support import PlainClient, exactly
from tests.servers.certificates import Certificates

SSL_REQUEST = m.ssl_request()


def trusting(ca_file: Path) -> ssl.SSLContext:
    """A client's context that checks the server against this authority."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(ca_file)
    context.set_alpn_protocols(["postgresql"])
    return context


class TlsClient(PlainClient):
    """One connection, encrypted from the start of its session on; nothing else is said for it.

    Args:
        address: where to connect.
        context: the client's.
        direct: whether to begin without asking.
    """

    def __init__(self, address: Address, context: ssl.SSLContext, *, direct: bool = False) -> None:
        super().__init__(address, b"" if direct else SSL_REQUEST)
        if not direct:
            assert self.byte() == b"S"
        self.socket = context.wrap_socket(self.socket, server_hostname="localhost")


def come_and_go(address: Address, context: ssl.SSLContext, times: int) -> None:
    """Begin and end sessions, one after the other."""
    for _ in range(times):
        with TlsClient(address, context) as client:
            client.log_in()
            client.send(m.TERMINATE)


def greet_at_once(address: Address, context: ssl.SSLContext) -> str | None:
    """A handshake with a ClientHello that was ready before it was asked for; returns the version agreed on."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    engine = context.wrap_bio(incoming, outgoing, server_hostname="localhost")
    with contextlib.suppress(ssl.SSLWantReadError):
        engine.do_handshake()
    hello = outgoing.read()
    with PlainClient(address, SSL_REQUEST) as client:
        assert exactly(client.socket, 1) == b"S"
        client.send(hello)
        while engine.version() is None or not engine.cipher():
            incoming.write(client.socket.recv(65_536))
            with contextlib.suppress(ssl.SSLWantReadError):
                engine.do_handshake()
    return engine.version()


def until_asleep(postgres: Postgres, pid: int) -> None:
    """Wait until this backend runs its pg_sleep(): a cancel request that comes earlier is lost."""
    asleep = "SELECT count(*) FROM pg_stat_activity WHERE pid = %s AND wait_event = 'PgSleep'"
    with postgres.connect() as judge:
        until(lambda: judge.execute(asleep, [pid]).fetchone() == (1,), what="it does not sleep")


def served_by(certificates: Certificates) -> ssl.SSLContext:
    """A server's context."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates.cert_file, certificates.key_file)
    return context


Talk = Callable[[socket.socket], None]


def in_front_of(postgres: Postgres, context: ssl.SSLContext, seen: list[str] | None = None) -> Talk:
    """What a server with TLS does; `seen` is told `TLS` or `clear` for each connection that was more than asked for."""

    def talk(connection: socket.socket) -> None:
        first = exactly(connection, 8)
        if first == SSL_REQUEST:
            connection.sendall(b"S")
            with context.wrap_socket(connection, server_side=True) as encrypted:
                relay(encrypted, postgres, b"", seen)
        else:
            relay(connection, postgres, first, seen)

    return talk


def relay(client: socket.socket, postgres: Postgres, first: bytes, seen: list[str] | None) -> None:
    """Pass bytes between the client and the embedded server until one of them ends."""
    if seen is not None:
        seen.append("TLS" if isinstance(client, ssl.SSLSocket) else "clear")
    client.settimeout(PATIENCE)
    with socket.create_connection((postgres.host, postgres.port), timeout=PATIENCE) as server:
        server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        server.sendall(first)
        other: dict[socket.socket, socket.socket] = {client: server, server: client}
        with contextlib.suppress(OSError):
            while True:
                waiting = [client] if isinstance(client, ssl.SSLSocket) and client.pending() else []
                for ready in waiting or select.select([client, server], [], [])[0]:
                    data = ready.recv(65_536)
                    if not data:
                        return
                    other[ready].sendall(data)
