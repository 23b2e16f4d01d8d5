"""How long to go on, and the server and the proxy to go on with."""

import contextlib
from collections.abc import Callable, Iterator

import pytest

from proxy.demo.binaries import DIRECTORIES
from proxy.demo.postgres import Postgres
from tests.life.support import Program, serve, trusting_postgres
from tests.servers.certificates import Certificates
from tests.tls.conftest import certificates

StartProgram = Callable[..., Program]

VERSIONS = sorted(DIRECTORIES, reverse=True)  # each gets its share of the minutes and of the transactions

# No limit but those that are tested.
UNLIMITED = {"actions_per_minute": "100000000"}

__all__ = ["certificates"]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--minutes", type=float, default=1.0, help="of transactions that are rolled back")
    parser.addoption("--races", type=int, default=1_000, help="requests at the moment at which a limit passes")
    parser.addoption("--transactions", type=int, default=20_000, help="honest ones")
    parser.addoption("--seed", type=int, default=0, help="of every client's decisions")


@pytest.fixture(scope="session", params=VERSIONS)
def trusting(request: pytest.FixtureRequest) -> Iterator[Postgres]:
    """A server with room for many clients, and for those that are just going."""
    with trusting_postgres(request.param, max_connections="400") as server:
        yield server


@pytest.fixture
def start(trusting: Postgres, certificates: Certificates) -> Iterator[StartProgram]:
    """Starts `pgleash serve` in front of the server, with options as flags; it offers TLS."""
    offered = {
        "client_tls__mode": "allow",
        "client_tls__cert_file": str(certificates.cert_file),
        "client_tls__key_file": str(certificates.key_file),
    }
    with contextlib.ExitStack() as running:

        def begin(**options: str) -> Program:
            program = running.enter_context(serve(trusting, **UNLIMITED, **offered, **options))
            assert program.address.port
            return program

        yield begin


def tell(line: str) -> None:
    """Say how it goes: it takes long."""
    print(line, flush=True)  # noqa: T201 - pytest -s
