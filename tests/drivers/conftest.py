"""A proxy that rolls back when it is told to, and a table to write to."""

from collections.abc import Callable, Iterator

import pytest

from proxy.demo.postgres import Postgres
from tests.conftest import StartProxy
from tests.drivers.adapters import DRIVERS, Driver
from tests.drivers.support import Ground


@pytest.fixture
def ground(postgres: Postgres, start_proxy: StartProxy) -> Iterator[Ground]:
    proxy = start_proxy(flag_after="never")
    with postgres.connect() as judge:
        judge.execute("CREATE TABLE IF NOT EXISTS rolled_back (a int); TRUNCATE rolled_back")
        yield Ground(proxy, postgres, judge)


@pytest.fixture(params=DRIVERS, ids=lambda kind: kind.name)
def connect(request: pytest.FixtureRequest) -> Callable[[str], Driver]:
    """Connects each of the drivers."""
    kind: Callable[[str], Driver] = request.param
    return kind


@pytest.fixture
def driver(connect: Callable[[str], Driver], ground: Ground) -> Iterator[Driver]:
    """A connection through the proxy, of each of the drivers."""
    with connect(ground.through) as driver:
        yield driver
