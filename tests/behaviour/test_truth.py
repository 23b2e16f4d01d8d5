"""The tracker against the truth: what we believe of a session is what the server says of its backend.

Random legal scripts are played step by step. After each step the client waits for every answer that it is due, and then
our idea of the session is compared with pg_stat_activity. A script is made from its seed; a failure prints the seed
and what was sent, so `play` with that seed is the reproduction.

What pg_stat_activity shows, and what follows for the comparison (source: tcop/postgres.c, access/transam/xact.c):
- it changes to `active` with Parse, Bind, Execute, Query and FunctionCall, and back with ReadyForQuery; a series of
  nothing but Describe and Close shows nothing;
- xact_start is empty while no transaction is open, and also in a block that failed outside of a savepoint;
- Postgres 18.4 errs when a Query or a FunctionCall comes in a series that has executed something outside of a block:
  ReadyForQuery says T, the one of the next Sync says I, and the transaction stays open until the next statement fails.
  That is only played with 16;
- both crash when an unnamed portal that a failed Query has left is executed. That is not played.
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

import psycopg
import pytest

from proxy.demo.postgres import Postgres
from proxy.session import Session
from proxy.wire.flow import MessageFlow
from proxy.wire.hold import HoldKind
from tests import messages as m
from tests.behaviour.support import (
    COPY,
    INT4_PLUS,
    Script,
    forget_prepared,
    function_call,
    judging,
    kind_of,
    run_copy,
    understanding,
)
from tests.conftest import StartProxy
from tests.harness import Proxy, dsn
from tests.life.support import connected, trusting_postgres
from tests.rawclient import RawClient, now

SCRIPTS = 100  # in a batch, of 5 to 15 steps each
BATCHES = {18: range(6), 16: range(6, 9)}
PATIENCE = 1.0  # seconds in which what we believe and what the server shows have to meet

STATES: Final = {"I": "idle", "T": "idle in transaction", "E": "idle in transaction (aborted)"}


class Truth(NamedTuple):
    """What the server says of a backend."""

    state: str
    xact_start: object
    query: str


class Belief(NamedTuple):
    """What we believe of a session."""

    opaque: str | None
    received: int
    quiet: bool
    status: str
    in_transaction: bool
    hold: HoldKind | None
    last: str
    number: int


def belief_of(session: Session) -> Belief:
    tracker = session.tracker
    flow, hold = tracker.flow, tracker.hold()
    return Belief(
        opaque=tracker.opaque,
        received=session.client.received,
        quiet=flow.due.quiet,
        status=chr(flow.status),
        in_transaction=tracker.in_transaction,
        hold=hold.kind if hold else None,
        last=flow.last.decode(),
        number=flow.transaction.number,
    )


class Play:
    """One script, its session and its backend."""

    def __init__(self, script: Script, proxy: Proxy, judge: psycopg.Connection) -> None:
        self.script = script
        self.pid = script.client.backend_pid
        self.proxy, self.judge = proxy, judge
        self.session = proxy.session_of(self.pid)
        self.greeting = proxy.ask(lambda: self.session.client.received)
        self.before: tuple[Belief, Truth] | None = None
        self.strict = False

    def compare(self) -> None:
        """What we believe and what is true have to meet; both may be late by as much as a message takes."""
        deadline = now() + PATIENCE
        while wrong := self._differences(belief := self._belief(), truth := self._truth()):
            assert now() < deadline, f"{'; '.join(wrong)}\n{belief}\n{truth}"
        self.before = belief, truth

    def _belief(self) -> Belief:
        return self.proxy.ask(lambda: belief_of(self.session))

    def _truth(self) -> Truth:
        found = self.judge.execute("SELECT state, xact_start, query FROM pg_stat_activity WHERE pid = %s", [self.pid])
        return Truth(*(found.fetchone() or ("gone", None, "")))

    def _differences(self, belief: Belief, truth: Truth) -> list[str]:
        if belief.opaque is not None:
            return [f"opaque: {belief.opaque}"]
        if belief.received < self.greeting + self.script.sent:
            return ["the proxy has not seen everything"]
        return [
            f"{what}: we believe {believed!r}, it is {true!r}"
            for what, believed, true in (
                self._state(belief, truth),
                self._transaction(belief, truth),
                self._hold(belief, truth),
                self._another(belief, truth),
                self._last(belief, truth),
            )
            if believed != true
        ]

    def _state(self, belief: Belief, truth: Truth) -> tuple[str, object, object]:
        script = self.script
        processed = script.waiting[:1] if not script.failed else []  # it has been looked at, and not answered
        if belief.quiet:
            believed = STATES[belief.status]
        elif script.shown or any(kind_of(one) == "P" for one in processed):
            believed = "active"
        elif processed:  # whether that is shown depends on what it names
            believed = truth.state
        else:
            believed = STATES[belief.status]
        return "state", believed, truth.state

    def _transaction(self, belief: Belief, truth: Truth) -> tuple[str, object, object]:
        """Where the server says that a transaction is open, one is; the other way round unless that cannot be known."""
        believed, true = belief.in_transaction, truth.xact_start is not None
        return "in transaction", believed, true or (believed and self._unclear)

    def _hold(self, belief: Belief, truth: Truth) -> tuple[str, object, object]:
        script = self.script
        if script.waiting:  # whether it is the client's turn cannot be known (docs/protocol.md, 15)
            return "hold", None, None
        held: HoldKind | None = None
        if script.copying:
            held = HoldKind.STALLED_COPY
        elif script.series:
            held = HoldKind.STALLED_PIPELINE
            if truth.xact_start is None:
                held = belief.hold if belief.hold is held and self._unclear else None
        elif script.status == "T":
            held = HoldKind.IDLE_IN_TRANSACTION
        elif script.status == "E":
            held = HoldKind.IDLE_IN_FAILED_TRANSACTION
        return "hold", belief.hold, held

    @property
    def _unclear(self) -> bool:
        """What waits may have failed; a failed block may be empty; tags do not tell COMMIT from COMMIT AND CHAIN."""
        script = self.script
        if self.strict:
            return False
        return bool(script.waiting) or script.failed or script.ended or script.status == "E"

    def _another(self, belief: Belief, truth: Truth) -> tuple[str, object, object]:
        """From one open transaction to another one: AND CHAIN, or a series or Query that ends one and begins one."""
        idle = HoldKind.IDLE_IN_TRANSACTION
        if self.before is None or self.before[0].hold is not idle or belief.hold is not idle:
            return "another", None, None
        if "ROLLBACK TO" in truth.query and ";" in truth.query:  # only the text tells which ROLLBACK a tag is of
            return "another", None, None
        then = self.before[1].xact_start
        if then is None or truth.xact_start is None:
            return "another", None, None
        return "another", belief.number != self.before[0].number, then != truth.xact_start

    def _last(self, belief: Belief, truth: Truth) -> tuple[str, object, object]:
        """The text of the last statement; what random scripts bind and execute is too wild to follow."""
        known = belief.in_transaction and self.script.telling in (("Q", "E") if self.strict else ("Q",))
        if self.script.waiting or (self.script.series and not self.script.shown):
            known = False
        return "last", belief.last if known else truth.query, truth.query


def start_play(client: RawClient, seed: int, proxy: Proxy, judge: psycopg.Connection) -> Play:
    return Play(Script(client, seed, errs=judge.info.server_version >= 180000), proxy, judge)


def play(seed: int, proxy: Proxy, judge: psycopg.Connection, client: RawClient) -> None:
    with client:
        it = start_play(client, seed, proxy, judge)
        try:
            it.compare()
            for _ in it.script.steps():
                it.compare()
        except (AssertionError, TimeoutError) as error:
            raise AssertionError(f"seed {seed}: {error}\n" + "\n".join(it.script.log)) from error
        finally:
            client.send(m.TERMINATE)
    forget_prepared(judge)


def play_batch(server: Postgres, start_proxy: StartProxy, batch: int) -> None:
    upstream = f"{server.host}:{server.port}"
    with judging(server) as judge, understanding(start_proxy(flag_after="never", upstream=upstream)) as proxy:
        for seed in range(batch * SCRIPTS, (batch + 1) * SCRIPTS):
            play(seed, proxy, judge, connected(proxy.address))


@pytest.fixture(scope="module")
def sixteen() -> Iterator[Postgres]:
    with trusting_postgres(16, max_prepared_transactions="10") as server:
        yield server


@pytest.fixture
def judge(postgres: Postgres) -> Iterator[psycopg.Connection]:
    with judging(postgres) as connection:
        yield connection


@pytest.mark.protocol(12, 13, 14, 15, 16, 18, 19, 20)
@pytest.mark.parametrize("batch", BATCHES[18])
def test_what_we_believe_of_random_sessions_is_what_the_server_says(
    trusting: Postgres, start_proxy: StartProxy, batch: int
) -> None:
    play_batch(trusting, start_proxy, batch)


@pytest.mark.parametrize("batch", BATCHES[16])
def test_what_we_believe_of_random_sessions_is_what_an_older_server_says(
    sixteen: Postgres, start_proxy: StartProxy, batch: int
) -> None:
    play_batch(sixteen, start_proxy, batch)


# What random scripts seldom meet: the flights of each.

RARE = {
    "a block begun in a series holds although its series has failed, for it failed under a savepoint": [
        m.run("BEGIN") + m.run("SAVEPOINT a") + m.run("SELECT 1/0") + m.FLUSH
    ],
    "the same in front of a Query, which is discarded": [
        m.run("BEGIN") + m.run("SAVEPOINT a") + m.parse("SELEC") + m.query("SELECT 1"),
        m.query("SELECT 2"),
    ],
    "a FunctionCall behind a COPY that failed, whose Sync was read in copy mode": [
        run_copy(COPY) + m.SYNC,
        m.copy_fail() + m.SYNC,
        function_call(INT4_PLUS, 1, 1),
        m.query("BEGIN"),
    ],
    "a COPY that is discarded with its CopyDone, and one that is not": [
        m.parse("SELEC") + m.FLUSH,
        m.query(COPY) + m.copy_data() + m.COPY_DONE,
        m.SYNC + m.query(COPY),
    ],
}
# The same, compared more strictly: whether a series has ended its transaction, and what it has executed.
STRICT = {
    "a block begun and ended in a series holds nothing": [m.run("BEGIN") + m.run("COMMIT") + m.FLUSH],
    "a block ended in a series holds nothing": [m.query("BEGIN"), m.run("ROLLBACK") + m.FLUSH],
    "nor does Close change that": [m.query("BEGIN"), m.run("COMMIT") + m.close("a") + m.FLUSH],
    "a block ended and another one begun holds": [m.query("BEGIN"), m.run("COMMIT") + m.run("BEGIN") + m.FLUSH],
    "a transaction ended and another one begun by a Parse holds": [m.run("COMMIT") + m.parse("SELECT 1") + m.FLUSH],
    "a block ended AND CHAIN holds": [m.query("BEGIN"), m.run("COMMIT AND CHAIN") + m.FLUSH],
}


@pytest.mark.parametrize("name", [*RARE, *STRICT])
def test_rare_sessions_too(postgres: Postgres, start_proxy: StartProxy, judge: psycopg.Connection, name: str) -> None:
    with understanding(start_proxy(flag_after="never")) as proxy, RawClient(dsn(proxy, postgres)) as client:
        it = start_play(client, 0, proxy, judge)
        it.script.errs = False  # a Query behind an Execute is discarded in all of these
        it.strict = name in STRICT
        for flight in RARE.get(name) or STRICT[name]:
            it.script.send(flight)
            it.compare()
        client.send(m.TERMINATE)


# Who did it: what psycopg was told, in its transaction.


def reads_and_writes(connection: psycopg.Connection) -> None:
    connection.execute("SELECT 1")
    connection.execute("INSERT INTO truth VALUES (1)")
    connection.execute("UPDATE truth SET a = 2")
    connection.execute("SELECT 2")


def prepares(connection: psycopg.Connection) -> None:
    for number in range(3):
        connection.execute("INSERT INTO truth VALUES (%s)", [number], prepare=True)
    connection.execute("SELECT %s::int", [1], prepare=True)


def pipelines(connection: psycopg.Connection) -> None:
    with connection.pipeline() as pipeline:
        connection.execute("SELECT 1")
        connection.execute("DELETE FROM truth")
        pipeline.sync()
        connection.execute("SELECT %s::int", [2])


def executes_many(connection: psycopg.Connection) -> None:
    connection.cursor().executemany("INSERT INTO truth VALUES (%s)", [[number] for number in range(5)])


def copies(connection: psycopg.Connection) -> None:
    with connection.cursor().copy("COPY truth TO STDOUT") as copied:
        list(copied)
    with connection.cursor().copy("COPY truth FROM STDIN") as copied:
        copied.write(b"1\n")


def nests(connection: psycopg.Connection) -> None:
    connection.execute("SELECT 1")
    with contextlib.suppress(psycopg.errors.DivisionByZero), connection.transaction("inner"):
        connection.execute("SELECT 1/0")
    with connection.transaction("other"):
        connection.execute("INSERT INTO truth VALUES (1)")


def fails(connection: psycopg.Connection) -> None:
    connection.execute("SELECT 1")
    with contextlib.suppress(psycopg.errors.DivisionByZero):
        connection.execute("SELECT 1/0")


def fetches(connection: psycopg.Connection) -> None:
    with connection.cursor("named") as cursor:
        cursor.execute("SELECT generate_series(1, 9)")
        cursor.fetchmany(2)


def goes_on_after_a_commit(connection: psycopg.Connection) -> None:
    connection.execute("INSERT INTO truth VALUES (1)")
    connection.commit()
    connection.execute("SELECT 1")


class Told(NamedTuple):
    """What is to be told of a transaction."""

    opener: str
    first_write: str
    last: str
    statements: int
    failed: bool = False

    @classmethod
    def of(cls, flow: MessageFlow) -> "Told":
        done = flow.transaction
        opener, first_write, last = (text.decode() for text in (flow.opener, done.first_write, flow.last))
        return cls(opener, first_write, last, flow.statements, done.failed)


TOLD: dict[Callable[[psycopg.Connection], None], Told] = {
    reads_and_writes: Told("SELECT 1", "INSERT INTO truth VALUES (1)", "SELECT 2", 5),
    prepares: Told("INSERT INTO truth VALUES ($1)", "INSERT INTO truth VALUES ($1)", "SELECT $1::int", 5),
    pipelines: Told("SELECT 1", "DELETE FROM truth", "SELECT $1::int", 4),
    executes_many: Told(
        "INSERT INTO truth VALUES ($1)", "INSERT INTO truth VALUES ($1)", "INSERT INTO truth VALUES ($1)", 6
    ),
    copies: Told("COPY truth TO STDOUT", "COPY truth FROM STDIN", "COPY truth FROM STDIN", 3),
    nests: Told("SELECT 1", "INSERT INTO truth VALUES (1)", 'RELEASE "other"', 9, failed=True),
    fails: Told("SELECT 1", "", "SELECT 1/0", 3, failed=True),
    fetches: Told('DECLARE "named" CURSOR FOR SELECT generate_series(1, 9)', "", 'CLOSE "named"', 4),
    goes_on_after_a_commit: Told("SELECT 1", "", "SELECT 1", 2),
}


@pytest.mark.parametrize("work", TOLD, ids=lambda work: work.__name__)
def test_what_is_told_of_a_transaction_is_what_psycopg_did(
    postgres: Postgres, start_proxy: StartProxy, judge: psycopg.Connection, work: Callable[[psycopg.Connection], None]
) -> None:
    with understanding(start_proxy(flag_after="never")) as proxy, psycopg.connect(dsn(proxy, postgres)) as connection:
        work(connection)
        flow = proxy.session_of(connection.info.backend_pid).tracker.flow

        assert proxy.ask(lambda: Told.of(flow)) == TOLD[work]
        query = "SELECT xact_start, query FROM pg_stat_activity WHERE pid = %s"
        xact_start, query = judge.execute(query, [connection.info.backend_pid]).fetchone() or (None, None)
        assert (xact_start is None) == (work is fails)  # a block that failed has none
        assert query == TOLD[work].last
        connection.rollback()
