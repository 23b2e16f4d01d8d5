"""asyncpg: cached statements, unnamed ones and simple Queries. It takes a COMMIT that became ROLLBACK for done."""

import contextlib
from collections.abc import Iterator
from typing import Any, ClassVar, Final, Literal, cast

import asyncpg
from asyncpg.transaction import Transaction

from tests.promises.drivers import USER, Door, Driver, Lost, Row, Told, inline

FAILED: Final = "another operation (2) is in progress"  # it was told FATAL, and has not seen the stream's end

Isolation = Literal["read_committed", "repeatable_read", "serializable"]


class Asyncpg(Driver):
    """One connection; every statement is prepared under a name and kept."""

    name: ClassVar[str] = "asyncpg, prepared"
    cached: ClassVar[int] = 100
    _connection: "asyncpg.Connection[Any]"

    def __init__(self, seed: str) -> None:
        super().__init__(seed)
        self._transactions: list[Transaction] = []

    async def connect(self, door: Door) -> None:
        self._connection = await asyncpg.connect(
            host=door.host,
            port=door.port,
            user=USER,
            database=USER,
            ssl="require" if door.tls else "disable",
            statement_cache_size=self.cached,
            server_settings={"application_name": self.name},
        )

    async def close(self) -> None:
        await self._connection.close()

    def abort(self) -> None:
        self._connection.terminate()

    @property
    def lost(self) -> bool:
        return self._connection.is_closed()

    @property
    def idle(self) -> bool:
        return self.lost or not self._connection.is_in_transaction()

    @contextlib.contextmanager
    def _telling(self) -> Iterator[None]:
        try:
            yield
        except asyncpg.PostgresError as error:
            raise (Lost if self.lost else Told)(error.sqlstate, str(error)) from error
        except (asyncpg.InterfaceError, asyncpg.InternalClientError, OSError) as error:
            if not self.lost and FAILED not in str(error):
                raise
            self.abort()
            raise Lost("", str(error)) from error

    async def _start(self, isolation: str | None = None) -> None:
        level = cast("Isolation", isolation.replace(" ", "_")) if isolation else None
        with self._telling():
            self._transactions.append(self._connection.transaction(isolation=level))
            await self._transactions[-1].start()

    async def begin(self, isolation: str) -> None:
        self._transactions.clear()
        await self._start(isolation)

    async def fetch(self, sql: str, *values: int) -> Row:
        with self._telling():
            row = await self._connection.fetchrow(sql, *values)
        assert row is not None
        return tuple(row)

    async def execute(self, sql: str, *values: int) -> None:
        with self._telling():
            await self._connection.execute(sql, *values)

    async def save(self) -> None:
        await self._start()

    async def release(self) -> None:
        with self._telling():
            await self._transactions.pop().commit()

    async def back(self) -> None:
        with self._telling():
            await self._transactions.pop().rollback()

    async def commit(self) -> None:
        with self._telling():
            await self._transactions[0].commit()

    async def commit_with(self, sql: str, *values: int) -> None:
        await self.execute(sql, *values)
        await self.commit()

    async def rollback(self) -> None:
        with self._telling():
            try:
                await self._transactions[0].rollback()
            except asyncpg.InterfaceError:  # a transaction whose start or end was not answered by a success
                await self._connection.reset()  # as its pool does

    async def cancel(self) -> None:
        """It only cancels calls that are given up."""


class AsyncpgUnnamed(Asyncpg):
    """The same without a cache."""

    name = "asyncpg, unnamed"
    cached = 0


class AsyncpgSimple(Asyncpg):
    """Statements without parameters go out as Query."""

    name = "asyncpg, simple"

    async def execute(self, sql: str, *values: int) -> None:
        await super().execute(inline(sql, values))
