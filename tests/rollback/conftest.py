"""A proxy that rolls back soon, and a client that says exactly what it is told to."""

from collections.abc import Iterator

import psycopg
import pytest

from proxy.demo.postgres import Postgres
from tests.conftest import StartProxy
from tests.harness import Proxy, dsn
from tests.rawclient import RawClient
from tests.rollback.support import LIMITS


@pytest.fixture
def proxy(start_proxy: StartProxy) -> Proxy:
    return start_proxy(**LIMITS)


@pytest.fixture(scope="module", autouse=True)
def _table(postgres: Postgres) -> Iterator[None]:
    with psycopg.connect(postgres.dsn(), autocommit=True) as connection:
        connection.execute("CREATE TABLE rolled (a int PRIMARY KEY)")
        yield
        connection.execute("DROP TABLE rolled")


@pytest.fixture
def client(proxy: Proxy, postgres: Postgres) -> Iterator[RawClient]:
    with RawClient(dsn(proxy, postgres, application_name="shop")) as client:
        yield client
