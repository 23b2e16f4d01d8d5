"""Bytes of our own: spellings, series and halves of messages that no library sends."""

import asyncio
from typing import ClassVar, Final

from tests import messages as m
from tests.promises.drivers import Door, Driver, Lost, Row, SilentRollback, Told, inline
from tests.promises.wire import Wire, refusal, tags
from tests.rawclient import Message

COMMIT_SPELLINGS: Final = (
    "COMMIT",
    "END",
    "commit work",
    " ;; -- not yet\n /* a /* b */ COMMIT */ Commit Transaction",
    "COMMIT AND NO CHAIN",
    "/**/END;",
)


class RawSimple(Driver):
    """Query alone, and COMMIT in many spellings."""

    name: ClassVar[str] = "raw, simple"
    together: ClassVar[bool] = True
    trailing: ClassVar[bool] = True
    attentive: ClassVar[bool] = True
    forgiving: ClassVar[bool] = False
    _wire: Wire

    def __init__(self, seed: str) -> None:
        super().__init__(seed)
        self._savepoints = 0

    async def connect(self, door: Door) -> None:
        self._door = door
        self._wire = await Wire.connect(door, self.name)

    async def close(self) -> None:
        if not self.lost:
            self._wire.send(m.TERMINATE)
            await self._wire.close()

    def abort(self) -> None:
        self._wire.reset()

    @property
    def lost(self) -> bool:
        return self._wire.lost

    @property
    def idle(self) -> bool:
        return self._wire.status == "I"

    async def _answers(self) -> list[Message]:
        messages = await self._wire.answers()
        if error := refusal(messages):
            raise Told(error["C"], error["M"])
        return messages

    async def _committed_first(self) -> None:
        """What the COMMIT was answered by; what was behind it may have been cancelled."""
        messages = await self._wire.answers()
        if "COMMIT" in tags(messages):
            return
        if error := refusal(messages):
            raise Told(error["C"], error["M"])
        raise SilentRollback(tags(messages))

    async def _run(self, sql: str, values: tuple[int, ...] = ()) -> list[Message]:
        self._wire.send(m.query(inline(sql, values)))
        return await self._answers()

    async def begin(self, isolation: str) -> None:
        self._savepoints = 0
        await self._run(f"BEGIN ISOLATION LEVEL {isolation}")

    async def fetch(self, sql: str, *values: int) -> Row:
        (row,) = [message.body for message in await self._run(sql, values) if message.kind == "D"]
        return numbers(row)

    async def execute(self, sql: str, *values: int) -> None:
        await self._run(sql, values)

    async def save(self) -> None:
        self._savepoints += 1
        await self._run(f"SAVEPOINT s{self._savepoints}")

    async def release(self) -> None:
        self._savepoints -= 1
        await self._run(f"RELEASE s{self._savepoints + 1}")

    async def back(self) -> None:
        await self._run(f"ROLLBACK TO s{self._savepoints}")
        await self.release()

    def _commit(self) -> str:
        return self._random.choice(COMMIT_SPELLINGS)

    async def commit(self) -> None:
        committed(await self._run(self._commit()))

    async def commit_with(self, sql: str, *values: int) -> None:
        """In one Query: if the first fails, the other is not reached."""
        committed(await self._run(f"{inline(sql, values)}; {self._commit()}"))

    async def commit_before(self, sql: str, *values: int) -> None:
        """In one Query: what follows begins a transaction of its own."""
        self._wire.send(m.query(f"{self._commit()}; {inline(sql, values)}"))
        await self._committed_first()

    async def rollback(self) -> None:
        await self._run(self._random.choice(("ROLLBACK", "ABORT", "rollback work")))

    async def cancel(self) -> None:
        await self._wire.cancel(self._door)


class RawExtended(RawSimple):
    """Series of extended messages; COMMIT is a statement that was parsed when the session began."""

    name = "raw, extended"

    async def connect(self, door: Door) -> None:
        await super().connect(door)
        self._wire.send(m.parse(self._commit(), "c") + m.SYNC)
        await self._answers()

    async def _run(self, sql: str, values: tuple[int, ...] = ()) -> list[Message]:
        if self._random.random() < 0.5:  # as asyncpg: ask first what it is
            self._wire.send(m.parse(sql) + m.describe() + m.FLUSH)
            described = await self._wire.receive_until("nTE")
            self._wire.send(self._bound(values) + m.SYNC)
            return described + await self._answers_after(described)
        self._wire.send(m.parse(sql) + self._bound(values) + m.SYNC)
        return await self._answers()

    def _bound(self, values: tuple[int, ...]) -> bytes:
        return m.bind("", "", *(str(value).encode() for value in values)) + m.execute()

    async def _answers_after(self, before: list[Message]) -> list[Message]:
        messages = await self._answers()
        if error := refusal(before):
            raise Told(error["C"], error["M"])
        return messages

    async def commit(self) -> None:
        self._wire.send(m.bind("c") + m.execute() + m.SYNC)
        committed(await self._answers())

    async def commit_with(self, sql: str, *values: int) -> None:
        """In one series, or in two in one flight."""
        between = self._random.choice((b"", m.SYNC, m.FLUSH))
        self._wire.send(m.parse(sql) + self._bound(values) + between + m.bind("c") + m.execute() + m.SYNC)
        first: list[Message] = await self._wire.answers() if between == m.SYNC else []
        last = await self._answers_after(first)
        committed(last)

    async def commit_before(self, sql: str, *values: int) -> None:
        """In one series: what follows ends with it."""
        self._wire.send(m.bind("c") + m.execute() + m.parse(sql) + self._bound(values) + m.SYNC)
        await self._committed_first()


class RawHalting(RawSimple):
    """Stops in the middle of its COMMIT, for longer than a transaction may be idle, or for good."""

    name = "raw, halting"
    together = False
    trailing = False

    async def commit(self) -> None:
        message = m.query(self._commit())
        half = self._random.randrange(1, len(message))
        self._wire.send(message[:half])
        await asyncio.sleep(self._random.choice((0.0, 0.03, 0.15, 0.3, 0.6)))
        if self._random.random() < 0.2:
            self.abort()
            raise Lost("", "cut off in the middle of COMMIT", unsent=True)
        self._wire.send(message[half:])
        committed(await self._answers())


class RawStalling(RawExtended):
    """Flushes what it executes, and does not say Sync for a while."""

    name = "raw, stalling"
    together = False
    trailing = False

    async def execute(self, sql: str, *values: int) -> None:
        self._wire.send(m.parse(sql) + self._bound(values) + m.FLUSH)
        executed = await self._wire.receive_until("CE")
        if self._random.random() < 0.1:
            await asyncio.sleep(self._random.choice((0.05, 0.2, 0.6)))
        self._wire.send(m.SYNC)
        await self._answers_after(executed)


def committed(messages: list[Message]) -> None:
    """What a client that looks makes of the answer to its COMMIT."""
    if tags(messages)[-1:] != ["COMMIT"]:
        raise SilentRollback(tags(messages))


def numbers(row: bytes) -> Row:
    """The columns of a DataRow, in text."""
    columns, at = [], 2
    for _ in range(int.from_bytes(row[:2])):
        length = int.from_bytes(row[at : at + 4])
        columns.append(int(row[at + 4 : at + 4 + length]))
        at += 4 + length
    return columns
