"""asyncpg."""

import asyncio
import io

import asyncpg

from tests.interop.clients.python.script import COPIED, LARGE_ROWS, Script, environment, main


async def _connect() -> asyncpg.Connection:
    # Of libpq's variables it does not know PGAPPNAME.
    return await asyncpg.connect(server_settings={"application_name": environment("PGAPPNAME")})


class Asyncpg(Script):
    driver = "asyncpg"
    version = asyncpg.__version__

    async def connect(self) -> object:
        self.connection = await _connect()
        return await self.connection.fetchval("SELECT current_setting('application_name')")

    async def _count(self, step: str) -> object:
        return await self.connection.fetchval("SELECT count(*) FROM items WHERE step = $1", step)

    async def _insert(self, step: str) -> None:
        await self.connection.execute("INSERT INTO items VALUES ($1)", step)

    async def parameters(self) -> object:
        row = await self.connection.fetchrow("SELECT $1::int + 1, $2::text", 41, "naïve 'quoted'")
        assert row
        return list(row)

    async def prepared(self) -> object:
        double = await self.connection.prepare("SELECT $1::int * 2")
        return [await double.fetchval(21), await double.fetchval(4)]

    async def commit(self) -> object:
        async with self.connection.transaction():
            await self._insert("commit")
        return await self._count("commit")

    async def rollback(self) -> object:
        try:
            async with self.connection.transaction():
                await self._insert("rollback")
                await self.connection.execute("SELECT 1 / 0")
        except asyncpg.DivisionByZeroError as error:
            return [error.sqlstate, await self._count("rollback")]
        return None

    async def savepoint(self) -> object:
        async with self.connection.transaction():
            await self._insert("savepoint")
            try:
                async with self.connection.transaction():
                    await self._insert("savepoint")
                    await self.connection.execute("SELECT 1 / 0")
            except asyncpg.DivisionByZeroError:
                pass
        return await self._count("savepoint")

    async def copy(self) -> object:
        rows = [(number, "copied") for number in range(COPIED)]
        copied = io.BytesIO()
        await self.connection.copy_records_to_table("copied", records=rows)
        await self.connection.copy_from_table("copied", output=copied)
        return copied.getvalue().count(b"\n")

    async def large(self) -> object:
        return len(await self.connection.fetch(LARGE_ROWS))

    async def cancel(self) -> object:
        sleeping = asyncio.create_task(self.connection.execute("SELECT pg_sleep(60)"))
        other = await _connect()
        await other.execute("SELECT wait_for_sleeper()")
        await other.close()
        sleeping.cancel()
        try:
            await sleeping
        except asyncio.CancelledError:
            # Its next statement waits for the cancel request to be carried out.
            return await self.connection.fetchval("SELECT 1")
        return None

    async def notify(self) -> object:
        heard = asyncio.get_running_loop().create_future()
        await self.connection.add_listener("news", lambda *event: heard.set_result(event[-1]))
        other = await _connect()
        await other.execute("NOTIFY news, 'hello'")
        await other.close()
        return await asyncio.wait_for(heard, 30)

    async def begin_leak(self) -> None:
        self.transaction = self.connection.transaction()
        await self.transaction.start()
        await self._insert("leak")

    async def use_leaked(self) -> None:
        await self.connection.execute("SELECT 1")

    async def commit_leaked(self) -> None:
        await self.transaction.commit()

    async def again(self) -> object:
        await self.connection.close()
        self.connection = await _connect()
        return await self.connection.fetchval("SELECT 1")

    async def go_on(self) -> object:
        async with self.connection.transaction():
            await self._insert("after")
            return await self.connection.fetchval("SELECT pg_backend_pid()")

    async def close(self) -> None:
        await self.connection.close()


if __name__ == "__main__":
    main(Asyncpg())
