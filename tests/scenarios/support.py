"""Two clients that do the same, one directly and one through the proxy, and what they see."""

import contextlib
from collections.abc import Iterator

import psycopg

from proxy.demo.postgres import Postgres
from proxy.settings import Address
from proxy.wire.messages import PROTOCOL_3_0
from tests.harness import Proxy, until
from tests.life.support import PlainClient
from tests.rawclient import Message, fields
from tests.servers.server import RealPostgres

LONG_KEYS = 18  # the first version that knows protocol 3.2


def legs(kind: str, server: RealPostgres) -> dict[str, str]:
    """Options of a proxy: clear text on both legs, or TLS towards the server and for those clients that want it."""
    if kind == "clear":
        return {"upstream_tls__mode": "disable"}
    certificates = server.certificates
    return {
        "upstream_tls__mode": "verify-full",
        "upstream_tls__ca_file": str(certificates.ca_file),
        "client_tls__mode": "allow",
        "client_tls__cert_file": str(certificates.cert_file),
        "client_tls__key_file": str(certificates.key_file),
    }


def address_of(server: Postgres) -> Address:
    return Address(server.host, server.port)


@contextlib.contextmanager
def both(server: Postgres, proxy: Proxy) -> Iterator[tuple[PlainClient, PlainClient]]:
    """A client of the server's and one of the proxy's; neither has said anything."""
    with PlainClient(address_of(server)) as direct, PlainClient(proxy.address) as through:
        yield direct, through


def masked(messages: list[Message]) -> list[Message]:
    """What is the same for every session: without the process id and the key, but with their lengths."""
    return [Message("K", b"*" * len(one.body)) if one.kind == "K" else one for one in messages]


def log_in(client: PlainClient, protocol: int = PROTOCOL_3_0, **parameters: str) -> list[Message]:
    return masked(client.log_in(protocol, **parameters))


def told(messages: list[Message]) -> list[str]:
    """What a server says at the end of a session, in short."""
    errors = [fields(Message("E", one.body)) for one in messages if one.kind in "EN"]
    return [f"{error['V']} {error['C']}" for error in errors]


def asleep(judge: psycopg.Connection, client: PlainClient) -> None:
    """Wait until its statement sleeps."""
    waits = "SELECT wait_event FROM pg_stat_activity WHERE pid = %s"
    until(lambda: judge.execute(waits, [client.backend_pid]).fetchone() == ("PgSleep",), what="it does not sleep")
