"""What goes wrong with one request: cut, cancelled, given up, or preceded by a mistake."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

from tests.promises.drivers import Driver, Lost
from tests.promises.ledger import LONG
from tests.promises.plans import Trouble

Result = TypeVar("Result")
Request = Callable[[], Awaitable[Result]]


class GivenUp(Exception):  # noqa: N818 - the client's own decision
    """A call was cancelled before it was answered."""


class Troubled:
    """Makes requests of a driver's go wrong.

    Args:
        driver: whose.
        dice: when exactly.
    """

    def __init__(self, driver: Driver, dice: random.Random) -> None:
        self._driver = driver
        self._dice = dice

    async def run(self, trouble: Trouble, request: Request[Result], *, commits: bool) -> Result:
        """Run a request with this trouble; one that commits is not made longer for it."""
        match trouble:
            case Trouble.KILLED:
                return await self._killed(request)
            case Trouble.CANCELLED:
                return await self._cancelled(request if commits else self._long(request))
            case Trouble.GIVEN_UP:
                return await self._given_up(request if commits else self._long(request))
            case _:
                return await request()

    async def _killed(self, request: Request[Result]) -> Result:
        task = asyncio.ensure_future(request())
        await asyncio.sleep(self._dice.choice((0.0, 0.0, 0.001, 0.003)))
        self._driver.abort()
        return await task

    def _long(self, request: Request[Result]) -> Request[Result]:
        """With something before it that there is time to cancel."""

        async def run() -> Result:
            await self._driver.fetch(LONG, 1)
            return await request()

        return run

    async def _cancelled(self, request: Request[Result]) -> Result:
        task = asyncio.ensure_future(request())
        await asyncio.sleep(self._dice.choice((0.0, 0.001, 0.02)))
        try:
            await self._driver.cancel()
        finally:
            result = await task
        return result

    async def _given_up(self, request: Request[Result]) -> Result:
        try:
            async with asyncio.timeout(self._dice.choice((0.0005, 0.002, 0.02))):
                return await request()
        except TimeoutError:
            if not self._driver.forgiving:
                self._driver.abort()
            if self._driver.lost:
                raise Lost("", "the call was given up, and its connection with it") from None
            raise GivenUp from None
