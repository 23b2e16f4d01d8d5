"""Whoever borrows the connection next: pools hand out one that is clean, the same one."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, cast

import asyncpg
import psycopg2.pool
import pytest
import sqlalchemy
from sqlalchemy.exc import DBAPIError

from tests.drivers.adapters import address
from tests.drivers.support import INSERT, OURS, Ground
from tests.harness import until

DIALECTS = ["psycopg", "psycopg2", "pg8000"]
SQL = sqlalchemy.text(INSERT)
PID = sqlalchemy.text("SELECT pg_backend_pid()")

GiveBack = Callable[[Any], object]


def at_once(_borrowed: Any) -> None:
    """Nothing was noticed."""


def after_a_statement(borrowed: Any) -> None:
    with pytest.raises(DBAPIError, match="rolled back by pgleash"):
        borrowed.execute(PID)


def after_commit(borrowed: Any) -> None:
    with pytest.raises(DBAPIError, match="rolled back by pgleash"):
        borrowed.commit()


def after_both(borrowed: Any) -> None:
    after_a_statement(borrowed)
    after_commit(borrowed)


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("last", [at_once, after_a_statement, after_commit, after_both], ids=lambda last: last.__name__)
def test_sqlalchemy(ground: Ground, dialect: str, last: GiveBack) -> None:
    url = sqlalchemy.URL.create(f"postgresql+{dialect}", **as_url(ground.through))
    engine = sqlalchemy.create_engine(url, pool_size=1, max_overflow=0, pool_timeout=5)
    with engine.connect() as borrowed:
        borrowed.execute(SQL)
        pid = borrowed.scalar(PID)
        ground.roll_back(pid)
        last(borrowed)
    until(lambda: ground.backend(pid).state == "idle", what="the pool's connection is not idle")
    with engine.begin() as borrowed:
        assert borrowed.scalar(PID) == pid
        borrowed.execute(SQL)
    assert ground.rows() == 1
    engine.dispose()


def as_url(dsn: str) -> dict[str, Any]:
    words = address(dsn)
    return {"username": words.pop("user"), **words}


def test_psycopg2(ground: Ground) -> None:
    pool = psycopg2.pool.ThreadedConnectionPool(1, 1, ground.through)
    borrowed = pool.getconn()
    borrowed.cursor().execute(INSERT)
    pid = borrowed.info.backend_pid
    ground.roll_back(pid)
    pool.putconn(borrowed)
    until(lambda: ground.backend(pid).state == "idle", what="the pool's connection is not idle")
    with pool.getconn() as again, again.cursor() as cursor:
        assert again.info.backend_pid == pid
        cursor.execute(INSERT)
    assert ground.rows() == 1
    pool.closeall()


async def raises(work: Coroutine[Any, Any, object]) -> None:
    with pytest.raises(asyncpg.PostgresError) as raised:
        await work
    assert raised.value.sqlstate == OURS


async def no_more(_borrowed: Any) -> None:
    """Nothing was noticed."""


async def a_statement(borrowed: Any) -> None:
    await raises(borrowed.fetch("SELECT 1"))


async def preparing(borrowed: Any) -> None:
    """Parse, Describe, Flush, and no Sync: the answer has to come all the same."""
    await raises(borrowed.prepare("SELECT 'never prepared'"))


async def a_commit(borrowed: Any) -> None:
    await raises(borrowed.execute("COMMIT"))


async def a_commit_that_is_prepared(borrowed: Any) -> None:
    """Parse, Describe, Flush, and only then Bind, Execute, Sync."""
    await raises(borrowed.fetch("COMMIT"))


async def many(borrowed: Any) -> None:
    await raises(borrowed.executemany("INSERT INTO rolled_back VALUES ($1)", [(1,), (2,), (3,)]))


ASYNCPG = [no_more, a_statement, preparing, a_commit, a_commit_that_is_prepared, many]


@pytest.mark.parametrize("last", ASYNCPG, ids=lambda last: last.__name__)
async def test_asyncpg(ground: Ground, last: Callable[[Any], Any]) -> None:
    async with asyncpg.create_pool(min_size=1, max_size=1, **address(ground.through)) as pool:
        async with pool.acquire() as borrowed:
            await borrowed.execute("BEGIN")
            await borrowed.execute(INSERT)
            pid = cast("asyncpg.Connection", borrowed).get_server_pid()
            await asyncio.to_thread(ground.roll_back, pid)
            async with asyncio.timeout(5):
                await last(borrowed)
        async with asyncio.timeout(5), pool.acquire() as borrowed, borrowed.transaction():
            assert cast("asyncpg.Connection", borrowed).get_server_pid() == pid
            await borrowed.execute(INSERT)
    assert ground.rows() == 1


async def test_asyncpg_s_transaction_raises_at_its_end(ground: Ground) -> None:
    connection = await asyncpg.connect(**address(ground.through))

    async def hold() -> None:
        async with connection.transaction():
            await connection.execute(INSERT)
            await asyncio.to_thread(ground.roll_back, connection.get_server_pid())

    async with asyncio.timeout(5):
        with pytest.raises(asyncpg.PostgresError, match="rolled back by pgleash"):
            await hold()
        async with connection.transaction():
            await connection.execute(INSERT)
        await connection.close()
    assert ground.rows() == 1
