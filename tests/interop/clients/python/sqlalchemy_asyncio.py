"""SQLAlchemy's asyncio engine on asyncpg."""

import asyncpg
import sqlalchemy
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine

from tests.interop.clients.python.script import LARGE_ROWS, Script, environment, main

INSERT = text("INSERT INTO items VALUES (:step)")


class SqlalchemyAsyncio(Script):
    driver = "SQLAlchemy asyncio"
    version = f"{sqlalchemy.__version__} (asyncpg {asyncpg.__version__})"

    async def connect(self) -> object:
        # Of libpq's variables asyncpg does not know PGAPPNAME.
        names = {"server_settings": {"application_name": environment("PGAPPNAME")}}
        self.engine = create_async_engine("postgresql+asyncpg://", connect_args=names)
        return await self._one("SELECT current_setting('application_name')")

    async def _one(self, query: str, **arguments: object) -> object:
        async with self.engine.connect() as connection:
            row = (await connection.execute(text(query), arguments)).one()
            return row[0] if len(row) == 1 else list(row)

    async def _count(self, step: str) -> object:
        return await self._one("SELECT count(*) FROM items WHERE step = :step", step=step)

    async def parameters(self) -> object:
        query = "SELECT CAST(:number AS int) + 1, CAST(:text AS text)"
        return await self._one(query, number=41, text="naïve 'quoted'")

    async def prepared(self) -> object:
        return [await self._one("SELECT CAST(:number AS int) * 2", number=number) for number in (21, 4)]

    async def commit(self) -> object:
        async with self.engine.begin() as connection:
            await connection.execute(INSERT, {"step": "commit"})
        return await self._count("commit")

    async def rollback(self) -> object:
        try:
            async with self.engine.begin() as connection:
                await connection.execute(INSERT, {"step": "rollback"})
                await connection.execute(text("SELECT 1 / 0"))
        except DBAPIError as error:
            return [self.sqlstate(error), await self._count("rollback")]
        return None

    async def savepoint(self) -> object:
        async with self.engine.begin() as connection:
            await connection.execute(INSERT, {"step": "savepoint"})
            try:
                async with connection.begin_nested():
                    await connection.execute(INSERT, {"step": "savepoint"})
                    await connection.execute(text("SELECT 1 / 0"))
            except DBAPIError:
                pass
        return await self._count("savepoint")

    async def large(self) -> object:
        async with self.engine.connect() as connection:
            result = await connection.stream(text(LARGE_ROWS))
            return sum([1 async for _ in result])

    def sqlstate(self, error: BaseException) -> str | None:
        return getattr(getattr(error, "orig", None), "sqlstate", None)

    async def begin_leak(self) -> None:
        self.leak: AsyncConnection = await self.engine.connect()
        await self.leak.execute(INSERT, {"step": "leak"})

    async def use_leaked(self) -> None:
        await self.leak.execute(text("SELECT 1"))

    async def commit_leaked(self) -> None:
        await self.leak.commit()

    async def again(self) -> object:
        await self.leak.close()
        return await self._one("SELECT 1")

    async def go_on(self) -> object:
        await self.leak.close()
        async with self.engine.begin() as connection:
            await connection.execute(INSERT, {"step": "after"})
            return await connection.scalar(text("SELECT pg_backend_pid()"))

    async def close(self) -> None:
        await self.engine.dispose()


if __name__ == "__main__":
    main(SqlalchemyAsyncio())
