"""One transaction of a client's, from BEGIN to whatever its end is, and what the client learns of it."""

import asyncio
import random
from typing import Final

from tests.promises.drivers import READ_COMMITTED, Driver, Lost, SilentRollback, Told
from tests.promises.ledger import AFTERWARDS, READ, READ_FOR_UPDATE, UPDATE, WRITE, WRONG, Fate, Ticket
from tests.promises.plans import Ending, Plan, Trouble
from tests.promises.tally import REFUSED, Tally
from tests.promises.trouble import GivenUp, Request, Result, Troubled

CUTS: Final = (Trouble.KILLED, Trouble.GIVEN_UP)
QUERY_CANCELED: Final = "57014"


class Attempt:
    """One transaction.

    Args:
        driver: through which.
        planned: what is meant to be done.
        ticket: takes down what the client is told.
        tally: counts what happens.
        dice: for what the plan leaves open.
    """

    def __init__(self, driver: Driver, planned: Plan, ticket: Ticket, tally: Tally, dice: random.Random) -> None:
        self._driver = driver
        self._plan = planned
        self._ticket = ticket
        self._tally = tally
        self._troubled = Troubled(driver, dice)
        self._step = 0

    async def run(self) -> None:
        """Do what is planned, and leave the connection as a pool wants it back."""
        try:
            await self._body()
            self._step = self._plan.end
            await self._paused(self._roll_back if self._plan.ending is Ending.ROLLBACK else self._commit)
            if not self._driver.lost and not self._driver.idle:
                self._broke("a connection is not idle after its transaction")
        except Lost as error:
            self._tally.told(self._driver.name, error)
            if self._driver.attentive and not error.nothing and self._plan.trouble not in CUTS:
                self._broke(f"a connection was lost, and its client not told why: {error!r}")
        except (Told, GivenUp):
            await self._roll_back()

    # The steps.

    async def _body(self) -> None:
        balance = await self._swallowing(self._begin) or 0
        self._step = 1
        await self._swallowing(lambda: self._paused(lambda: self._update(balance + 1)))
        for line in range(1, self._plan.lines + (self._plan.ending is not Ending.TOGETHER)):
            self._step = line + 1
            await self._swallowing(lambda line=line: self._line(line))  # type: ignore[misc]  # bound at once

    async def _begin(self) -> int:
        await self._driver.begin(self._plan.isolation)
        read = READ_FOR_UPDATE if self._plan.isolation == READ_COMMITTED else READ
        began, balance = await self._request(lambda: self._driver.fetch(read, self._plan.account))
        self._ticket.began = began
        return balance

    async def _update(self, balance: int) -> None:
        await self._request(lambda: self._driver.execute(UPDATE, self._plan.account, balance))

    async def _line(self, line: int) -> None:
        if line not in self._plan.nested:
            await self._paused(lambda: self._write(line))
            return
        self._tally.count("savepoints")
        await self._driver.save()
        await self._write(line)
        if self._plan.nested[line]:
            await self._paused(self._driver.release)
        else:
            await self._regret(line)

    async def _write(self, line: int) -> None:
        ticket = self._ticket
        await self._request(lambda: self._driver.execute(WRITE, ticket.number, line, ticket.account))
        ticket.written.add(line)

    async def _regret(self, line: int) -> None:
        """An error under a savepoint, which the transaction survives: its outer locks are held all the while."""
        try:
            await self._driver.execute(WRONG, self._plan.account)
        except Lost:
            raise
        except Told as error:
            self._note(error, fatal=False)
        await self._paused(self._driver.back)
        self._ticket.written.discard(line)

    # The end.

    async def _commit(self) -> None:
        ticket = self._ticket
        if self._fails_now():
            await self._swallowing(self._mistake)
        ticket.fate = Fate.UNKNOWN
        try:
            await self._request(self._committing)
        except Lost as error:
            ticket.fate = Fate.NOTHING if error.nothing else Fate.UNKNOWN
            raise
        except Told as error:
            ticket.fate = Fate.NOTHING
            await self._refused(error)
        except SilentRollback as error:
            ticket.fate = Fate.NOTHING
            if ticket.ours or not ticket.failed:
                self._broke(f"a COMMIT was answered by {error}")
        else:
            if ticket.ours:
                self._broke("a COMMIT succeeded after its client was told of the rollback")
            ticket.fate = Fate.NOTHING if ticket.failed else Fate.COMMITTED

    async def _committing(self) -> None:
        ticket, last = self._ticket, self._plan.lines
        match self._plan.ending:
            case Ending.TOGETHER:
                ticket.written.add(last)  # if it is committed, and nothing if not
                await self._driver.commit_with(WRITE, ticket.number, last, ticket.account)
            case Ending.TRAILING:
                await self._driver.commit_before(AFTERWARDS, ticket.number)
            case _:
                await self._driver.commit()

    async def _refused(self, error: Told) -> None:
        self._note(error)
        if error.ours:
            self._tally.count_for(self._driver.name, REFUSED)
        if not self._driver.idle:
            if self._plan.ending is not Ending.TOGETHER:  # there the write may have failed, and COMMIT was skipped
                self._broke("a COMMIT that failed has left a transaction")
            await self._roll_back()

    async def _roll_back(self) -> None:
        try:
            await self._driver.rollback()
        except Lost as error:
            self._tally.told(self._driver.name, error)
        except Told as error:
            if error.sqlstate == QUERY_CANCELED:  # the client's own request, late
                await self._roll_back()
            else:
                self._broke(f"a ROLLBACK failed: {error}")
        else:
            if not self._driver.idle:
                self._broke("a ROLLBACK has left a transaction")

    # What goes wrong.

    async def _paused(self, request: Request[Result]) -> Result:
        """Be idle before a request, if that is planned for its step."""
        if pause := self._plan.pauses.get(self._step):
            self._tally.count("pauses")
            await asyncio.sleep(pause)
        return await request()

    async def _swallowing(self, request: Request[Result]) -> Result | None:
        """Run a step; an error is raised again, unless the client is one that goes on."""
        try:
            return await request()
        except Lost:
            raise
        except Told as error:
            self._note(error)
            idle = self._driver.idle
            if idle and error.ours and not self._driver.lost:
                self._broke("a rollback of ours has ended a transaction block")
            if idle or not self._plan.swallows:  # psycopg would begin another transaction
                raise
            self._tally.count("errors swallowed")
            return None

    def _fails_now(self) -> bool:
        return self._plan.trouble is Trouble.FAILS and self._plan.at == self._step

    async def _mistake(self) -> None:
        self._tally.count(Trouble.FAILS.value)
        await self._driver.execute(WRONG, self._plan.account)

    async def _request(self, request: Request[Result]) -> Result:
        """One request of a step, with the trouble that is planned for it."""
        if self._step != self._plan.at or self._plan.trouble is Trouble.NONE:
            return await request()
        commits = self._step == self._plan.end
        if self._fails_now():
            if not commits:
                await self._swallowing(self._mistake)
            return await request()
        self._tally.count(f"{self._plan.trouble.value}{' in COMMIT' if commits else ''}")
        return await self._troubled.run(self._plan.trouble, request, commits=commits)

    def _note(self, error: Told, *, fatal: bool = True) -> None:
        self._tally.told(self._driver.name, error)
        self._ticket.failed |= fatal
        self._ticket.ours |= error.ours

    def _broke(self, promise: str) -> None:
        self._tally.broke(promise, f"{self._driver.name}, {self._plan}, {self._ticket}")
