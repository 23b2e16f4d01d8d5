"""One client: transaction after transaction through one driver, as its plans say."""

import asyncio
from collections.abc import Iterator

from tests.promises.attempt import Attempt
from tests.promises.drivers import Door, Driver
from tests.promises.ledger import Fate, Ticket
from tests.promises.plans import Plan, dice, plan
from tests.promises.tally import Tally

HUNG = 20.0  # seconds for a whole transaction: its pauses take three at most


class Client:
    """One client.

    Args:
        door: how to reach the proxy.
        driver: which kind.
        seed: of all its decisions.
        numbers: of its tickets.
        tally: counts what happens.

    Attributes:
        tickets: what it knows of its transactions.
    """

    def __init__(self, door: Door, driver: type[Driver], seed: str, numbers: Iterator[int], tally: Tally) -> None:
        self._door = door
        self._make = driver
        self._dice = dice(seed)
        self._numbers = numbers
        self._tally = tally
        self._driver: Driver | None = None
        self.tickets: list[Ticket] = []

    async def work(self, until: float) -> None:
        """Transaction after transaction, until the loop's time is `until`."""
        loop = asyncio.get_running_loop()
        while loop.time() < until:
            driver = await self._connected()
            planned = plan(self._dice, driver)
            ticket = Ticket(next(self._numbers), planned.account)
            self.tickets.append(ticket)
            await self._attempt(driver, planned, ticket)
            self._tally.fate(driver.name, ticket)
        if self._driver and not self._driver.lost:
            await self._driver.close()

    async def _connected(self) -> Driver:
        if self._driver is None or self._driver.lost:
            driver = self._make(f"{self._dice.random()}")
            await driver.connect(self._door)
            self._driver = driver
        return self._driver

    async def _attempt(self, driver: Driver, planned: Plan, ticket: Ticket) -> None:
        try:
            async with asyncio.timeout(HUNG):
                await Attempt(driver, planned, ticket, self._tally, self._dice).run()
        except Exception as error:  # noqa: BLE001 - whatever a driver was confused by, the others go on
            self._tally.broke("a driver was confused", f"{driver.name}: {error!r}, {ticket}, {planned}")
            ticket.fate = Fate.UNKNOWN
            driver.abort()
            self._driver = None
