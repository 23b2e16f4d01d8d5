"""SQLAlchemy: the tags arrive, statements are prepared as before, and a transaction begins once."""

from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy
from psycopg.conninfo import conninfo_to_dict
from sqlalchemy import Connection, Engine, text

from proxy.attribution.tags import merged
from proxy.demo.postgres import Postgres
from tests.callsite.python import billing
from tests.callsite.python.callsite.place import doing
from tests.callsite.python.callsite.with_sqlalchemy import tell
from tests.callsite.support import CREATE, PREPARED, TRACE, expecting, flagged, place_of
from tests.conftest import StartProxy
from tests.harness import Proxy, dsn

BILLING = "python/billing.py"
ROUTE = {"route": "/hooks/{partner}", "traceparent": TRACE.format(1)}
EXECUTIONS = 20
THRESHOLD = 5  # executions after which psycopg prepares, unless it is told otherwise


@pytest.fixture(autouse=True)
def idle() -> Iterator[None]:
    before = doing.set({})
    yield
    doing.reset(before)


@pytest.fixture(autouse=True)
def _invoices(postgres: Postgres) -> Iterator[None]:
    with postgres.connect() as connection:
        connection.execute(CREATE)
        yield
        connection.execute("DROP TABLE invoices")


def engine_of(proxy: Proxy, postgres: Postgres, driver: str = "psycopg") -> Engine:
    engine = sqlalchemy.create_engine(
        f"postgresql+{driver}://", connect_args=conninfo_to_dict(dsn(proxy, postgres)), poolclass=sqlalchemy.NullPool
    )
    tell(engine)
    return engine


def test_the_place_arrives(start_proxy: StartProxy, postgres: Postgres) -> None:
    place = {"source_location": place_of(BILLING, "marks"), "function": "mark_sent"}
    proxy = expecting(start_proxy, **place, **ROUTE)
    doing.set(ROUTE)
    with engine_of(proxy, postgres).connect() as connection:
        billing.mark_sent(connection)
        leak = flagged(proxy)
    assert leak.transaction.statements == 2
    assert leak.transaction.opener == "UPDATE invoices SET status = $1 WHERE id = $2"


def test_the_transaction_says_what_it_is_for(start_proxy: StartProxy, postgres: Postgres) -> None:
    proxy = expecting(start_proxy, **ROUTE)
    doing.set(ROUTE)
    with engine_of(proxy, postgres).connect() as connection, connection.begin():
        assert flagged(proxy).transaction.opener == "BEGIN"


def test_psycopg2_says_all_of_it_everywhere(start_proxy: StartProxy, postgres: Postgres) -> None:
    proxy = expecting(start_proxy, source_location=place_of(BILLING, "counts"), function="count", **ROUTE)
    doing.set(ROUTE)
    with engine_of(proxy, postgres, "psycopg2").connect() as connection:
        billing.count(connection)
        flagged(proxy)


def test_as_many_statements_are_prepared_as_there_are_places(start_proxy: StartProxy, postgres: Postgres) -> None:
    with engine_of(start_proxy(), postgres).connect() as connection:
        for number in range(EXECUTIONS):
            doing.set({"traceparent": TRACE.format(number)})
            billing.mark_sent(connection)
            billing.mark_paid(connection)
            connection.commit()
        prepared = [(merged([row.statement.encode()]), row.plans) for row in connection.execute(text(PREPARED))]
    assert prepared == [
        ({"source_location": place_of(BILLING, end), "function": function}, EXECUTIONS - THRESHOLD)
        for end, function in (("marks", "mark_sent"), ("marks, too", "mark_paid"))
    ]


def test_a_statement_that_is_prepared_says_its_place_still(start_proxy: StartProxy, postgres: Postgres) -> None:
    proxy = expecting(start_proxy, source_location=place_of(BILLING, "marks"), function="mark_sent")
    with engine_of(proxy, postgres).connect() as connection:
        for _ in range(EXECUTIONS):
            billing.mark_sent(connection)
            connection.commit()
        billing.mark_sent(connection)
        flagged(proxy)


def test_a_transaction_begins_once_and_as_it_was_meant_to(start_proxy: StartProxy, postgres: Postgres) -> None:
    engine = engine_of(start_proxy(), postgres)
    doing.set(ROUTE)
    with engine.connect() as connection:
        warnings: list[str | None] = []
        driver_of(connection).add_notice_handler(lambda diagnostic: warnings.append(diagnostic.message_primary))
        assert shown(connection, "transaction_isolation", "transaction_read_only") == ["read committed", "off"]
        connection.rollback()
        strict = connection.execution_options(
            isolation_level="SERIALIZABLE", postgresql_readonly=True, postgresql_deferrable=True
        )
        names = ("transaction_isolation", "transaction_read_only", "transaction_deferrable")
        assert shown(strict, *names) == ["serializable", "on", "on"]
        assert warnings == []  # such as 25001: there is already a transaction in progress


def test_autocommit_stays_as_it_is(start_proxy: StartProxy, postgres: Postgres) -> None:
    doing.set(ROUTE)
    with engine_of(start_proxy(), postgres).connect() as connection:
        connection.execution_options(isolation_level="AUTOCOMMIT")
        billing.mark_sent(connection)
        assert driver_of(connection).info.transaction_status.name == "IDLE"


def driver_of(connection: Connection) -> Any:
    return connection.connection.driver_connection


def shown(connection: Connection, *settings: str) -> list[str]:
    return [connection.execute(text(f"SHOW {setting}")).scalar_one() for setting in settings]
