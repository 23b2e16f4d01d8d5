"""psycopg: Queries, series, prepared ones and pipelines. It takes a COMMIT that became ROLLBACK for done."""

import asyncio
import contextlib
import os
import re
import socket
from collections.abc import Iterator
from typing import ClassVar, Final

import psycopg
from psycopg import IsolationLevel
from psycopg.conninfo import make_conninfo
from psycopg.pq import PipelineStatus, TransactionStatus
from psycopg.types.numeric import Int8

from tests.promises.drivers import USER, Door, Driver, Lost, Row, Told, inline

INSERTED: Final = re.compile(r"INSERT INTO (lines \(.*\)) VALUES")
LEVELS = {level.name.replace("_", " ").lower(): level for level in IsolationLevel}


class Psycopg(Driver):
    """One connection; statements with parameters, never prepared."""

    name: ClassVar[str] = "psycopg, extended"
    prepare_threshold: ClassVar[int | None] = None
    _connection: psycopg.AsyncConnection

    def __init__(self, seed: str) -> None:
        super().__init__(seed)
        self._savepoints = 0

    async def connect(self, door: Door) -> None:
        self._connection = await psycopg.AsyncConnection.connect(
            make_conninfo(
                host=door.host,
                port=door.port,
                user=USER,
                dbname=USER,
                application_name=self.name,
                sslmode="require" if door.tls else "disable",
            ),
            cursor_factory=psycopg.AsyncRawCursor,
            prepare_threshold=self.prepare_threshold,
        )

    async def close(self) -> None:
        await self._connection.close()

    def abort(self) -> None:
        with (
            contextlib.suppress(psycopg.Error, OSError),
            socket.socket(fileno=os.dup(self._connection.fileno())) as own,
        ):
            own.shutdown(socket.SHUT_RDWR)

    @property
    def lost(self) -> bool:
        return self._connection.closed

    @property
    def idle(self) -> bool:
        return self._connection.info.transaction_status is TransactionStatus.IDLE

    @contextlib.contextmanager
    def _telling(self) -> Iterator[None]:
        try:
            yield
        except psycopg.Error as error:
            raise (Lost if self.lost else Told)(error.sqlstate, str(error)) from error

    async def begin(self, isolation: str) -> None:
        self._savepoints = 0
        with self._telling():
            await self._connection.set_isolation_level(LEVELS[isolation])  # BEGIN comes with the first statement

    async def _run(self, sql: str, values: tuple[int, ...]) -> psycopg.AsyncCursor:
        # Parameters of one type: else the first statement that is prepared would decide.
        return await self._connection.execute(sql, [Int8(value) for value in values])

    async def fetch(self, sql: str, *values: int) -> Row:
        with self._telling():
            row = await (await self._run(sql, values)).fetchone()
        assert row is not None
        return row

    async def execute(self, sql: str, *values: int) -> None:
        with self._telling():
            await self._run(sql, values)

    async def save(self) -> None:
        self._savepoints += 1
        await self.execute(f"SAVEPOINT s{self._savepoints}")

    async def release(self) -> None:
        self._savepoints -= 1
        await self.execute(f"RELEASE s{self._savepoints + 1}")

    async def back(self) -> None:
        await self.execute(f"ROLLBACK TO s{self._savepoints}")
        await self.release()

    async def commit(self) -> None:
        with self._telling():
            await self._connection.commit()

    async def commit_with(self, sql: str, *values: int) -> None:
        with self._telling():
            await self._run(sql, values)
            await self._connection.commit()

    async def rollback(self) -> None:
        with self._telling():
            await self._connection.rollback()

    async def cancel(self) -> None:
        with self._telling():
            await self._connection.cancel_safe()


class PsycopgCopy(Psycopg):
    """What is written, is copied; and sometimes waits with the data."""

    name = "psycopg, copy"

    async def execute(self, sql: str, *values: int) -> None:
        if not (inserted := INSERTED.match(sql)):
            await super().execute(sql, *values)
            return
        with self._telling():
            async with self._connection.cursor() as cursor, cursor.copy(f"COPY {inserted[1]} FROM STDIN") as copy:
                if self._random.random() < 0.1:
                    await asyncio.sleep(self._random.choice((0.05, 0.2, 0.6)))
                await copy.write_row(values)


class PsycopgPrepared(Psycopg):
    """Every statement is prepared at once, and used again in later transactions."""

    name = "psycopg, prepared"
    prepare_threshold = 0


class PsycopgSimple(Psycopg):
    """Statements without parameters go out as Query."""

    name = "psycopg, simple"

    async def _run(self, sql: str, values: tuple[int, ...]) -> psycopg.AsyncCursor:
        return await self._connection.execute(inline(sql, values))


class PsycopgPipeline(Psycopg):
    """The last write and its COMMIT go out together. A pipeline that is given up is sometimes not left."""

    name = "psycopg, pipeline"
    together = True
    forgiving = False

    async def begin(self, isolation: str) -> None:
        assert self._connection.pgconn.pipeline_status == PipelineStatus.OFF, "its last pipeline was not left"
        await super().begin(isolation)

    async def commit_with(self, sql: str, *values: int) -> None:
        with self._telling():
            async with self._connection.pipeline():
                await self._run(sql, values)
                await self._connection.commit()
