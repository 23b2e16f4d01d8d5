"""What many tests need: a database, and proxies in front of it."""

from collections.abc import Callable, Iterator

import pytest

from proxy.demo.postgres import Postgres
from tests.compatibility import OPTION
from tests.harness import Proxy, settings_for

StartProxy = Callable[..., Proxy]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(OPTION, action="store_true", help="write docs/compatibility.md, though not everything is run")


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A real server, one for all tests."""
    with Postgres(settings={"max_prepared_transactions": "10", "log_min_messages": "fatal"}) as server:
        yield server


@pytest.fixture
def start_proxy(postgres: Postgres) -> Iterator[StartProxy]:
    """Starts a proxy in front of the server, with options as flags; it is stopped after the test."""
    running: list[Proxy] = []

    def start(**options: str) -> Proxy:
        upstream = options.pop("upstream", f"{postgres.host}:{postgres.port}")
        proxy = Proxy(settings_for(upstream, **options))
        proxy.__enter__()
        running.append(proxy)
        return proxy

    yield start
    for proxy in running:
        proxy.__exit__()
