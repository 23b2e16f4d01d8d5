"""SQLAlchemy's asyncio: the place is that of the coroutine which awaits the statement."""

import asyncio

import pytest
from psycopg.conninfo import conninfo_to_dict
from sqlalchemy.ext.asyncio import create_async_engine

from proxy.demo.postgres import Postgres
from tests.callsite.python import billing
from tests.callsite.python.callsite.with_sqlalchemy import tell
from tests.callsite.support import expecting, flagged, place_of
from tests.conftest import StartProxy
from tests.harness import dsn


@pytest.mark.parametrize("driver", ["psycopg", "asyncpg"])
async def test_the_place_arrives(start_proxy: StartProxy, postgres: Postgres, driver: str) -> None:
    pytest.importorskip("greenlet", reason="greenlet comes with SQLAlchemy[asyncio], in the extra `interop`")
    proxy = expecting(start_proxy, source_location=place_of("python/billing.py", "awaits"), function="mark_later")
    arguments: dict[str, object] = dict(conninfo_to_dict(dsn(proxy, postgres)))
    if driver == "asyncpg":
        arguments = {name: arguments[name] for name in ("host", "port", "user", "password")}
        arguments["database"] = "postgres"
    engine = create_async_engine(f"postgresql+{driver}://", connect_args=arguments)
    tell(engine.sync_engine)
    async with engine.connect() as connection:
        await billing.mark_later(connection)
        await asyncio.to_thread(flagged, proxy)
    await engine.dispose()
