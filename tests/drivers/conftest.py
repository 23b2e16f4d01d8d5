"""A proxy that rolls back when it is told to, and a table to write to."""

from collections.abc import Callable, Iterator

import psycopg
import pytest

from proxy.demo.postgres import Postgres
from tests.drivers.adapters import DRIVERS, Driver
from tests.drivers.support import Ground
from tests.harness import Proxy, settings_for


@pytest.fixture(scope="module")
def proxy(postgres: Postgres) -> Iterator[Proxy]:
    # Of one client after the other on one proxy, the process is looked for after a rest, and what is told waits for it.
    quick = {"flag_after": "never", "attribution__processes": "false"}
    with Proxy(settings_for(f"{postgres.host}:{postgres.port}", **quick)) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def judge(postgres: Postgres) -> Iterator[psycopg.Connection]:
    """A direct connection."""
    with postgres.connect() as judge:
        yield judge


@pytest.fixture
def ground(proxy: Proxy, postgres: Postgres, judge: psycopg.Connection) -> Ground:
    judge.execute("CREATE TABLE IF NOT EXISTS rolled_back (a int); TRUNCATE rolled_back")
    return Ground(proxy, postgres, judge)


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
