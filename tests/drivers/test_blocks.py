"""Blocks in blocks, and commits in two phases: each end of one raises, and what is around it can end."""

import asyncio
from collections.abc import Callable
from typing import Any

import asyncpg
import psycopg
import psycopg2
import pytest
import sqlalchemy
from sqlalchemy.exc import DBAPIError

from tests.drivers.adapters import address
from tests.drivers.support import INSERT, MESSAGE, Ground
from tests.drivers.test_pools import SQL, as_url

OURS = MESSAGE.pattern


def test_psycopg(ground: Ground) -> None:
    """The block around it goes on from its savepoint, which is gone."""
    with psycopg.connect(ground.through, autocommit=True) as connection:

        def work() -> None:
            with connection.transaction():
                connection.execute(INSERT)
                with connection.transaction():
                    connection.execute(INSERT)
                    ground.roll_back(connection.info.backend_pid)

        with pytest.raises(psycopg.errors.IdleInTransactionSessionTimeout, match=OURS):
            work()
        with connection.transaction():
            connection.execute(INSERT)
    assert ground.rows() == 1


async def test_asyncpg(ground: Ground) -> None:
    connection = await asyncpg.connect(**address(ground.through))

    async def work() -> None:
        async with connection.transaction():
            await connection.execute(INSERT)
            async with connection.transaction():
                await connection.execute(INSERT)
                await asyncio.to_thread(ground.roll_back, connection.get_server_pid())

    async with asyncio.timeout(5):
        with pytest.raises(asyncpg.IdleInTransactionSessionTimeoutError, match=OURS):
            await work()
        async with connection.transaction():
            await connection.execute(INSERT)
        await connection.close()
    assert ground.rows() == 1


@pytest.mark.parametrize("dialect", ["psycopg", "psycopg2", "pg8000"])
def test_sqlalchemy(ground: Ground, dialect: str) -> None:
    engine = sqlalchemy.create_engine(sqlalchemy.URL.create(f"postgresql+{dialect}", **as_url(ground.through)))

    def work() -> None:
        with engine.begin() as connection:
            connection.execute(SQL)
            with connection.begin_nested():
                connection.execute(SQL)
                ground.roll_back(connection.scalar(sqlalchemy.text("SELECT pg_backend_pid()")))

    with pytest.raises(DBAPIError, match=OURS):
        work()
    with engine.begin() as connection:
        connection.execute(SQL)
    assert ground.rows() == 1
    engine.dispose()


@pytest.mark.parametrize("connect", [psycopg.connect, psycopg2.connect], ids=lambda connect: connect.__module__)
def test_two_phases(ground: Ground, connect: Callable[[str], Any]) -> None:
    """Preparing raises as committing does: nobody is to believe that it can be committed later."""
    connection = connect(ground.through)
    connection.tpc_begin(connection.xid(1, "rolled back", "here"))
    connection.cursor().execute(INSERT)
    ground.roll_back(connection.info.backend_pid)

    with pytest.raises((psycopg.Error, psycopg2.Error), match=OURS):
        connection.tpc_prepare()
    assert ground.judge.execute("SELECT * FROM pg_prepared_xacts").fetchall() == []
    connection.close()
    assert ground.rows() == 0
