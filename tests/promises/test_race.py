"""Thousands of requests at the moment at which the limit passes."""

import asyncio
import itertools

import pytest
import uvloop

from proxy.demo.postgres import Postgres
from proxy.settings import Address
from tests.promises.conftest import StartProgram, tell
from tests.promises.drivers import Door
from tests.promises.ledger import Ledger, Ticket
from tests.promises.plans import dice
from tests.promises.race import COMMITTED, ROLLED_BACK, TOO_SLOW, Form, Racer
from tests.promises.tally import Tally
from tests.promises.wire import Wire

LIMIT = 0.05
RACERS = 30


async def race(address: Address, races: int, seed: str, tally: Tally) -> list[Ticket]:
    """Let all clients race; returns what they know."""
    numbers = iter(range(1, races + 1))
    team = [
        Racer(
            await Wire.connect(Door(*address, tls=number % 2 == 1), f"racer {number}"),
            number,
            LIMIT,
            dice(seed, number),
            tally,
        )
        for number in range(1, RACERS + 1)
    ]
    await asyncio.gather(*(racer.run(numbers) for racer in team))
    return list(itertools.chain.from_iterable(racer.tickets for racer in team))


@pytest.mark.timeout(0)
def test_a_request_at_the_moment_at_which_the_limit_passes(
    request: pytest.FixtureRequest, trusting: Postgres, start: StartProgram
) -> None:
    races, seed = request.config.getoption("--races"), request.config.getoption("--seed")
    tally = Tally()
    program = start(rollback_after=f"{LIMIT}s")
    address = program.address
    with trusting.connect() as connection, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        ledger = Ledger(connection)
        ledger.open()
        tickets = runner.run(race(address, races, f"{seed}", tally))
        tally.broken += ledger.judge(tickets)
    tally.drain(program)
    tell("\n".join(tally.table()))
    assert tally.broken[:10] == []
    refused = tally.counts[ROLLED_BACK]
    assert len(tickets) == races
    assert tally.counts["leak.rolled_back"] == refused + tally.counts[TOO_SLOW]  # nobody was refused anything otherwise
    assert races * 0.2 < refused < races * 0.8
    assert tally.missing([], [form.value for form in Form], [COMMITTED, ROLLED_BACK]) == []
