"""Proxies for clients that are told every byte."""

import pytest

from proxy.demo.postgres import Postgres
from tests.conftest import StartProxy
from tests.harness import Proxy


@pytest.fixture
def start_trusting(trusting: Postgres, start_proxy: StartProxy) -> StartProxy:
    """Starts a proxy in front of the server that trusts everybody."""

    def start(**options: str) -> Proxy:
        return start_proxy(**({"upstream": f"{trusting.host}:{trusting.port}"} | options))

    return start
