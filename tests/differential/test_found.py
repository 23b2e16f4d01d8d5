"""What the comparison has found, as small as it gets."""

import socket

import pytest

from proxy.report.events import InternalError
from tests import messages as m
from tests.conftest import StartProxy
from tests.life.support import FakeServer, connected, read_startup


def until_terminate(connection: socket.socket) -> None:
    """Begin a session, and close it when the client says goodbye."""
    read_startup(connection)
    connection.sendall(m.STARTED)
    while not connection.recv(65_536).endswith(m.TERMINATE):
        pass


@pytest.mark.xfail(
    strict=True,
    reason="what comes behind a Terminate is written to the server's transport when that is closed, and raises",
)
def test_what_comes_behind_a_terminate_is_no_fault_of_ours(start_proxy: StartProxy) -> None:
    with FakeServer(until_terminate) as server:
        proxy = start_proxy(upstream=server.address)
        with connected(proxy.address) as client:
            client.send(m.TERMINATE)
            assert client.everything() == []
            client.send(m.query("SELECT 1"))
            proxy.settle()
    assert proxy.recorder.of(InternalError) == []
