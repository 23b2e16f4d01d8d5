"""What the comparison has found, as small as it gets."""

import socket

import pytest

from proxy.report.events import InternalError
from proxy.wire.messages import PROTOCOL_3_0
from tests import messages as m
from tests.conftest import StartProxy
from tests.life.support import FakeServer, PlainClient, connected, read_startup


def until_terminate(connection: socket.socket) -> None:
    """Begin a session, and close it when the client says goodbye."""
    read_startup(connection)
    connection.sendall(m.STARTED)
    while not connection.recv(65_536).endswith(m.TERMINATE):
        pass


def test_what_comes_behind_a_terminate_is_no_fault_of_ours(
    start_proxy: StartProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("proxy.ending.END_WITHIN", 0.2)
    with FakeServer(until_terminate) as server:
        proxy = start_proxy(upstream=server.address)
        with connected(proxy.address) as client:
            client.send(m.TERMINATE)
            assert client.everything() == []
            client.send(m.query("SELECT 1"))
            proxy.settle()
    assert proxy.recorder.of(InternalError) == []


HALF = m.error("53300", "FATAL")[:20]


def says_half(connection: socket.socket) -> None:
    """Refuse a session, and end in the middle of the word."""
    read_startup(connection)
    connection.sendall(HALF)


def heard(client: PlainClient) -> bytes:
    data = b""
    while more := client.socket.recv(65_536):
        data += more
    return data


@pytest.mark.parametrize(
    "protocol",
    [PROTOCOL_3_0, PROTOCOL_3_0 | 99],
)
def test_half_a_message_arrives(start_proxy: StartProxy, protocol: int) -> None:
    with FakeServer(says_half) as server:
        proxy = start_proxy(upstream=server.address, upstream_tls__mode="disable")
        with PlainClient(proxy.address, m.startup(protocol, user="u")) as client:
            assert heard(client) == HALF
