"""Certificates for every test of TLS, and servers that have it."""

import pytest

from proxy.demo.postgres import Postgres
from tests.conftest import StartProxy
from tests.harness import Proxy
from tests.servers.certificates import Certificates


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="session")
def open_postgres(trusting: Postgres) -> Postgres:
    """A server that asks nobody for a password; `trusting` is what makes a context here."""
    return trusting


@pytest.fixture
def start_tls(open_postgres: Postgres, start_proxy: StartProxy, certificates: Certificates) -> StartProxy:
    """Starts a proxy that offers TLS to its clients, in front of the server that trusts everybody."""

    def start(**options: str) -> Proxy:
        offered = {
            "upstream": f"{open_postgres.host}:{open_postgres.port}",
            "client_tls__mode": "allow",
            "client_tls__cert_file": str(certificates.cert_file),
            "client_tls__key_file": str(certificates.key_file),
        }
        return start_proxy(**(offered | options))

    return start
