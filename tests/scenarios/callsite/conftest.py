"""One server is enough here: what a driver prepares does not depend on its version."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from psycopg.conninfo import conninfo_to_dict

from proxy.demo.postgres import Postgres
from tests.callsite.support import CREATE, HERE
from tests.conftest import postgres
from tests.harness import Proxy, dsn
from tests.kits.machine import Unavailable
from tests.scenarios.mistakes.running import Application

__all__ = ["postgres"]

Start = Callable[..., Application]
Command = Callable[[Path, str], list[str]]
VARIABLES = {"PGHOST": "host", "PGPORT": "port", "PGUSER": "user", "PGPASSWORD": "password", "PGDATABASE": "dbname"}


@pytest.fixture(autouse=True)
def _invoices(postgres: Postgres) -> Iterator[None]:
    with postgres.connect() as connection:
        connection.execute(CREATE)
        yield
        connection.execute("DROP TABLE invoices")


@pytest.fixture
def start(request: pytest.FixtureRequest, postgres: Postgres) -> Iterator[Start]:
    """Starts a module's program with the proxy before it; it has come to rest then, and is ended after the test."""
    running: list[Application] = []

    def start_application(proxy: Proxy, *arguments: str) -> Application:
        try:
            command = request.module.command(HERE)
        except Unavailable as reason:
            pytest.skip(str(reason))
        told = conninfo_to_dict(dsn(proxy, postgres))
        variables = {name: str(told[key]) for name, key in VARIABLES.items()} | {"PGSSLMODE": "disable"}
        running.append(Application([*command, *arguments], variables))
        running[-1].wait_for_rest()
        return running[-1]

    yield start_application
    for application in running:
        application.__exit__()
