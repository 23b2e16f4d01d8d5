"""TLS for as long as one likes: connections that come and go, and handshakes that do not wait."""

from collections.abc import Iterator

import psutil
import pytest

from proxy.demo.postgres import Postgres
from tests.harness import until
from tests.life.support import Program, serve
from tests.life.traffic import MEGABYTE, Memory
from tests.servers.certificates import Certificates
from tests.tls.support import come_and_go, greet_at_once, trusting

PARTS = 10
ALLOWED = MEGABYTE  # for any number of connections, after the first tenth of them

pytestmark = pytest.mark.timeout(0)  # as long as it takes


def tell(line: str) -> None:
    """Say how it goes: it takes long."""
    print(line, flush=True)  # noqa: T201 - pytest -s


@pytest.fixture
def program(trusting: Postgres, certificates: Certificates) -> Iterator[Program]:
    offered = {"client_tls__cert_file": str(certificates.cert_file), "client_tls__key_file": str(certificates.key_file)}
    with serve(trusting, client_tls__mode="require", **offered) as program:
        yield program


def test_connections_through_tls_leave_nothing(program: Program, certificates: Certificates, connections: int) -> None:
    process, context = psutil.Process(program.process.pid), trusting(certificates.ca_file)
    address = program.address
    descriptors = process.num_fds()
    come_and_go(address, context, connections // PARTS)
    with Memory(program) as memory:
        for part in range(2, PARTS + 1):
            come_and_go(address, context, connections // PARTS)
            tell(f"{part * connections // PARTS} connections: {memory.taken / MEGABYTE:.2f} MB since the first tenth")
    until(lambda: process.num_fds() <= descriptors, what="descriptors are left")
    assert memory.taken < ALLOWED


def test_no_client_hello_is_lost(program: Program, certificates: Certificates, connections: int) -> None:
    context, address = trusting(certificates.ca_file), program.address
    for _ in range(connections):
        assert greet_at_once(address, context) == "TLSv1.3"
    tell(f"{connections} handshakes, none lost")
