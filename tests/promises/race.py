"""A client that goes on exactly when the limit passes: what it sends runs in its transaction, or it is refused."""

import asyncio
import enum
import random
from collections.abc import Iterator
from typing import Final

from tests import messages as m
from tests.promises.drivers import Told, inline
from tests.promises.drivers.raw import numbers
from tests.promises.ledger import AFTERWARDS, READ, UPDATE, WRITE, Fate, Ticket
from tests.promises.tally import Tally
from tests.promises.wire import Wire, refusal, tags
from tests.rawclient import Message

STEP: Final = 0.0005  # seconds: by so much later it goes on next time if it was in time, or sooner if it was not
JITTER: Final = 0.002  # seconds, to both sides

HUNG: Final = 10.0  # seconds for a whole race

COMMITTED: Final = "committed"
ROLLED_BACK: Final = "rolled back"
TOO_SLOW: Final = "rolled back before it began"  # the machine was busy


class Form(enum.Enum):
    """What is sent when the limit passes."""

    COMMIT = "COMMIT"
    PREPARED = "a COMMIT that was parsed before"
    TWO_QUERIES = "INSERT and COMMIT, each a Query"
    ONE_QUERY = "INSERT and COMMIT in one Query"
    SERIES = "INSERT and COMMIT in one series"
    TWO_SERIES = "INSERT and COMMIT, each a series"
    AND_MORE = "COMMIT and an INSERT in one Query"

    @property
    def writes(self) -> bool:
        """Whether there is another line in it."""
        return self in {Form.TWO_QUERIES, Form.ONE_QUERY, Form.SERIES, Form.TWO_SERIES}

    @property
    def answers(self) -> int:
        """How many ReadyForQuery come back."""
        return 2 if self in {Form.TWO_QUERIES, Form.TWO_SERIES} else 1

    def flight(self, line: str, behind: str) -> bytes:
        """The bytes, with this INSERT in the transaction or that one behind it."""
        run = m.parse(line) + m.bind() + m.execute()
        commit = m.bind("c") + m.execute() + m.SYNC
        return {
            Form.COMMIT: m.query("COMMIT"),
            Form.PREPARED: commit,
            Form.TWO_QUERIES: m.query(line) + m.query("COMMIT"),
            Form.ONE_QUERY: m.query(f"{line}; COMMIT"),
            Form.SERIES: run + commit,
            Form.TWO_SERIES: run + m.SYNC + commit,
            Form.AND_MORE: m.query(f"COMMIT; {behind}"),
        }[self]


class Racer:
    """One client.

    Args:
        wire: its session, with a prepared COMMIT called `c`.
        account: its own: nobody waits for another.
        limit: the length of a hold that is rolled back.
        dice: what to send, and when exactly.
        tally: counts what happens.

    Attributes:
        tickets: what it knows of its transactions.
    """

    def __init__(self, wire: Wire, account: int, limit: float, dice: random.Random, tally: Tally) -> None:
        self._wire = wire
        self._account = account
        self._after = limit
        self._dice = dice
        self._tally = tally
        self.tickets: list[Ticket] = []

    async def run(self, races: Iterator[int]) -> None:
        """Race as long as there are races left."""
        self._wire.send(m.parse("COMMIT", "c") + m.SYNC)
        await self._wire.answers()
        for number in races:
            ticket = Ticket(number, self._account)
            self.tickets.append(ticket)
            form = self._dice.choice(list(Form))
            try:
                async with asyncio.timeout(HUNG):
                    await self._race(ticket, form)
            except (TimeoutError, Told) as error:
                self._tally.broke("a race has no end", f"{form}: {error!r}, {ticket}")
                ticket.fate = Fate.UNKNOWN
                break
        await self._wire.close()

    async def _race(self, ticket: Ticket, form: Form) -> None:
        try:
            await self._begin(ticket)
        except Told as error:
            if not error.ours:
                raise
            self._tally.count(TOO_SLOW)
            await self._query("ROLLBACK")
            return
        line = inline(WRITE, (ticket.number, 2, ticket.account))
        flight = form.flight(line, inline(AFTERWARDS, (ticket.number,)))
        if form.writes:
            ticket.written.add(2)
        await asyncio.sleep(self._after + self._dice.uniform(-JITTER, JITTER))
        self._wire.send(flight)
        answers = [await self._wire.answers() for _ in range(form.answers)]
        self._judge(ticket, form, answers)
        if self._wire.status != "I":
            await self._query("ROLLBACK")

    async def _begin(self, ticket: Ticket) -> None:
        await self._query("BEGIN")
        (row,) = [message for message in await self._query(READ, ticket.account) if message.kind == "D"]
        ticket.began, balance = numbers(row.body)
        await self._query(UPDATE, ticket.account, balance + 1)
        await self._query(WRITE, ticket.number, 1, ticket.account)
        ticket.written.add(1)

    async def _query(self, sql: str, *values: int) -> list[Message]:
        self._wire.send(m.query(inline(sql, values)))
        messages = await self._wire.answers()
        if error := refusal(messages):
            raise Told(error["C"], error["M"])
        return messages

    def _judge(self, ticket: Ticket, form: Form, answers: list[list[Message]]) -> None:
        told = [refusal(answer) for answer in answers]
        done = [tag for answer in answers for tag in tags(answer)]
        if not any(told):
            ticket.fate = Fate.COMMITTED
            committed = "COMMIT" in done
        else:
            # A request that came too late has done nothing, and everything that came with it was refused too.
            committed = bool(done) or any(not error or not Told(error["C"], error["M"]).ours for error in told)
        if committed is not (ticket.fate is Fate.COMMITTED):
            self._tally.broke("a race has ended otherwise than in a COMMIT or an error", f"{form}: {answers}")
        self._after += STEP if ticket.fate is Fate.COMMITTED else -STEP
        self._tally.count_for(form.value, COMMITTED if committed else ROLLED_BACK)
