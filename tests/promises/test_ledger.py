"""The ledger of promises: whatever clients do, what they were told of their transactions is what is in the tables."""

import asyncio
import itertools
from collections.abc import Iterator

import psycopg
import pytest
import uvloop

from proxy.demo.postgres import Postgres
from proxy.settings import Address
from tests.harness import until
from tests.life.support import Program
from tests.promises.client import Client
from tests.promises.conftest import VERSIONS, StartProgram, tell
from tests.promises.drivers import Door, Driver
from tests.promises.drivers.asyncpg import Asyncpg, AsyncpgSimple, AsyncpgUnnamed
from tests.promises.drivers.psycopg3 import Psycopg, PsycopgCopy, PsycopgPipeline, PsycopgPrepared, PsycopgSimple
from tests.promises.drivers.raw import RawExtended, RawHalting, RawSimple, RawStalling
from tests.promises.ledger import Fate, Ledger
from tests.promises.monitor import Monitor
from tests.promises.plans import FLAG_AFTER, ROLLBACK_AFTER, TERMINATE_AFTER, Trouble
from tests.promises.tally import REFUSED, TOLD, Tally

DRIVERS: tuple[type[Driver], ...] = (
    *(Psycopg, PsycopgPrepared, PsycopgSimple, PsycopgPipeline, PsycopgCopy),
    *(Asyncpg, AsyncpgUnnamed, AsyncpgSimple),
    *(RawSimple, RawExtended, RawHalting, RawStalling),
)
EACH = 6  # clients of each
ROUND = 15.0  # seconds after which the tables are judged
GONE_WITHIN = 2.0  # seconds after the last client's end
ALLOWED = 0.2  # seconds beyond a limit

PATHS = (
    *(f"{trouble}{when}" for trouble in ("killed", "cancelled", "given up") for when in ("", " in COMMIT")),
    Trouble.FAILS.value,
    *("pauses", "savepoints", "errors swallowed"),
    *("connection lost: 25P03", "error: 25P03 of a rollback", "error: 22012", "error: 40001", "error: 57014"),
    *("leak.flagged", "leak.rolled_back", "leak.terminated", "leak.resolved", "leak.abandoned", "leak.spared, unsafe"),
)
EACH_PATH = (*(fate.value for fate in Fate), TOLD, REFUSED)


def clients(address: Address, seed: str, numbers: Iterator[int], tally: Tally) -> list[Client]:
    return [
        Client(Door(*address, tls=number % 2 == 1), kind, f"{seed} {kind.name} {number}", numbers, tally)
        for kind in DRIVERS
        for number in range(EACH)
    ]


def limit_of(application: str) -> float:
    """Half a COMMIT is not safe to be rolled back behind: it is only terminated."""
    return (TERMINATE_AFTER if application == RawHalting.name else ROLLBACK_AFTER) + ALLOWED


async def work(team: list[Client], seconds: float) -> None:
    end = asyncio.get_running_loop().time() + seconds
    await asyncio.gather(*(client.work(end) for client in team))


def left(connection: psycopg.Connection) -> int:
    """Backends that serve a client other than this one."""
    query = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
    row = connection.execute(query).fetchone()
    assert row
    return int(row[0])


def one_round(postgres: Postgres, program: Program, address: Address, seed: str, seconds: float, tally: Tally) -> None:
    with postgres.connect() as connection:
        ledger = Ledger(connection)
        ledger.open()
        through = postgres.dsn(host=address.host, port=address.port)
        team = clients(address, seed, itertools.count(1), tally)
        with (
            Monitor(postgres.dsn(), through, limit_of) as monitor,
            asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
        ):
            runner.run(work(team, seconds))
        try:
            until(lambda: left(connection) == 0, GONE_WITHIN)
        except AssertionError:
            tally.broke("backends are left without a client", str(left(connection)))
        tally.broken += [*ledger.judge([ticket for client in team for ticket in client.tickets]), *monitor.broken]
        longest = max(idle for name, idle in monitor.longest.items() if name != RawHalting.name)
        tell(
            f"{seed}: {tally.counts['transactions']} transactions, {len(tally.broken)} broken promises; idle in a "
            f"transaction for {longest:.3f} s, behind half a COMMIT for {monitor.longest[RawHalting.name]:.3f} s; "
            f"the monitor looked {monitor.looks} times, and waited {monitor.late:.3f} s at most"
        )
    tally.drain(program)


@pytest.mark.timeout(0)
def test_what_clients_were_told_is_what_is_in_the_tables(
    request: pytest.FixtureRequest, trusting: Postgres, start: StartProgram
) -> None:
    tally = Tally()
    limits = {"flag_after": FLAG_AFTER, "rollback_after": ROLLBACK_AFTER, "terminate_after": TERMINATE_AFTER}
    program = start(**{name: f"{limit}s" for name, limit in limits.items()})
    address = program.address
    rounds = max(1, round(request.config.getoption("--minutes") * 60 / ROUND / len(VERSIONS)))
    for number in range(rounds):
        seed = f"seed {request.config.getoption('--seed')}, round {number}"
        one_round(trusting, program, address, seed, ROUND, tally)
    tell("\n".join(tally.table()))
    assert tally.broken[:10] == []
    assert tally.missing(PATHS, [driver.name for driver in DRIVERS], EACH_PATH) == []
