"""Bytes that come in pieces of one to seven, on both sides of the proxy: the same results as in one piece, directly."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import psycopg
import pytest

from proxy.demo.postgres import Postgres
from tests import messages as m
from tests.behaviour import test_transparency as scripts
from tests.behaviour.support import Script, Splitter, forget_prepared, judging, understanding
from tests.behaviour.test_truth import Play
from tests.conftest import StartProxy
from tests.harness import Proxy
from tests.rawclient import Message, RawClient

SEEDS = range(1, 21)


class Cut:
    """A proxy, and how to reach it through a network that cuts everything."""

    def __init__(self, proxy: Proxy, dsn: str, networks: tuple[Splitter, Splitter]) -> None:
        self.proxy = proxy
        self.dsn = dsn
        self.networks = networks


StartCut = Callable[[int], Cut]


@pytest.fixture
def start_cut(postgres: Postgres, start_proxy: StartProxy) -> Iterator[StartCut]:
    """Starts one; the seed is that of the cuts."""
    with ExitStack() as stack:

        def start(seed: int) -> Cut:
            behind = stack.enter_context(Splitter(postgres.host, postgres.port, seed))
            proxy = start_proxy(upstream=f"{behind.host}:{behind.port}", flag_after="5s")
            before = stack.enter_context(Splitter(proxy.address.host, proxy.address.port, -seed))
            stack.enter_context(understanding(proxy))
            return Cut(proxy, postgres.dsn(host=before.host, port=before.port), (before, behind))

        yield start


@pytest.fixture
def judge(postgres: Postgres) -> Iterator[psycopg.Connection]:
    with judging(postgres) as connection:
        yield connection


@pytest.mark.parametrize(
    "script",
    [
        scripts.parameters,
        scripts.prepared,
        scripts.server_side_cursors,
        scripts.pipelines,
        scripts.cancels,
        scripts.two_phases,
        scripts.transactions,
    ],
    ids=lambda script: script.__name__,
)
def test_psycopg_does_not_see_the_cuts(postgres: Postgres, start_cut: StartCut, script: scripts.Script) -> None:
    cut = start_cut(1)
    assert script(cut.dsn) == script(postgres.dsn())
    assert all(network.pieces > 100 for network in cut.networks)


@pytest.mark.parametrize(
    "script", [scripts.async_pipelines, scripts.asyncpg_transactions], ids=lambda script: script.__name__
)
async def test_asynchronous_drivers_do_not_see_the_cuts(
    postgres: Postgres, start_cut: StartCut, script: scripts.AsyncScript
) -> None:
    cut = start_cut(2)
    assert await script(cut.dsn) == await script(postgres.dsn())


# Byte by byte: what the server says, and what is made of it.


class RecordingClient(RawClient):
    """It keeps what it receives."""

    def __init__(self, dsn: str) -> None:
        self.received: list[Message] = []
        super().__init__(dsn)

    def receive(self) -> Message | None:
        message = super().receive()
        if message is not None:
            # A notification begins with the process id of who told it.
            self.received.append(Message("A", message.body[4:]) if message.kind == "A" else message)
        return message


ROWS = b"".join(m.copy_data(b"%d\n" % number) for number in range(300))
COPIES = [
    m.query("BEGIN"),
    m.query("COPY truth FROM STDIN"),
    m.copy_data(b"1\n2\n"),
    ROWS,
    m.copy_data() + m.COPY_DONE,
    m.query("COPY truth TO STDOUT; SELECT count(*) FROM truth"),
    m.run("COPY truth FROM STDIN") + m.SYNC,
    ROWS + m.COPY_DONE + m.SYNC,
    m.query("SAVEPOINT a"),
    m.run("COPY truth FROM STDIN") + m.FLUSH,
    m.copy_data() + m.copy_fail() + m.SYNC,
    m.query("ROLLBACK TO a; COPY truth FROM STDIN"),
    m.copy_data(b"not a number\n") + ROWS + m.COPY_DONE,
    m.run("SELECT 'aborted'") + m.SYNC,
    m.query("ROLLBACK"),
    (m.parse("SELECT generate_series(1, 9)") + m.bind() + m.execute(rows=2) + m.SYNC) * 30,
    m.query("SELECT repeat('x', 3000), n FROM generate_series(1, 3) n"),
]


def say(script: Script, flights: list[bytes]) -> Iterator[None]:
    for flight in flights:
        script.log.append("flight")
        script.send(flight)
        yield


def compare(
    judge: psycopg.Connection, direct: str, cut: Cut, seed: int, steps: Callable[[Script], Iterator[None]]
) -> None:
    """What is received is the same; and after each step what we believe is what the server says."""
    received: list[list[Message]] = []
    for through in (direct, cut.dsn):
        judge.execute("TRUNCATE truth")
        with RecordingClient(through) as client:
            script = Script(client, seed, errs=True)
            it = Play(script, cut.proxy, judge) if through == cut.dsn else None
            try:
                for _ in steps(script):
                    if it is not None:
                        it.compare()
            except (AssertionError, TimeoutError) as error:
                raise AssertionError(f"seed {seed}: {error}\n" + "\n".join(script.log)) from error
            client.send(m.TERMINATE)
            received.append(client.received)
        forget_prepared(judge)
    assert received[0] == received[1], f"seed {seed}"


@pytest.mark.protocol(22)
def test_a_transcript_with_copies(postgres: Postgres, judge: psycopg.Connection, start_cut: StartCut) -> None:
    for seed in range(3):
        compare(judge, postgres.dsn(), start_cut(seed), seed, lambda script: say(script, COPIES))


@pytest.mark.protocol(22)
def test_random_sessions(postgres: Postgres, judge: psycopg.Connection, start_cut: StartCut) -> None:
    cut = start_cut(3)
    for seed in SEEDS:
        compare(judge, postgres.dsn(), cut, seed, Script.steps)
