"""Every state that the protocol has, entered, left and failed in.

What is received is the same as without us, and after each flight what we believe of the session is what
pg_stat_activity says of its backend. Random scripts meet these too, some of them once in a thousand; here each has its
name. A client in a `Script` waits for all that it is due, so a comparison is of a session at rest.
"""

from collections.abc import Callable, Iterator, Sequence

import psycopg
import pytest

from proxy.demo.postgres import Postgres
from proxy.report.events import LeakFlagged, ProtocolViolation
from tests import messages as m
from tests.behaviour.support import (
    BAD,
    COPY,
    INT4_DIVIDE,
    INT4_PLUS,
    Script,
    forget_prepared,
    function_call,
    judging,
    refused_copy,
    refused_copy_in_a_series,
    run_copy,
    understanding,
)
from tests.behaviour.test_cuts import RecordingClient
from tests.behaviour.test_truth import Play
from tests.conftest import StartProxy
from tests.harness import Proxy, dsn
from tests.rawclient import Message, RawClient

Flight = bytes | Callable[[Script], None]


def q(*statements: str) -> list[Flight]:
    """A flight for each Query."""
    return [m.query(statement) for statement in statements]


def together(*statements: str) -> bytes:
    """All Queries in one flight."""
    return b"".join(m.query(statement) for statement in statements)


def series(*statements: str, end: bytes = m.SYNC) -> bytes:
    return b"".join(m.run(statement) for statement in statements) + end


BEGIN, ROLLBACK, COMMIT = m.query("BEGIN"), m.query("ROLLBACK"), m.query("COMMIT")
ONE = m.query("SELECT 1")
DATA = m.copy_data()
DONE = m.COPY_DONE
UNENDED = "COPY truth FROM STDIN (FORMAT csv)"
QUOTE = m.copy_data(b'"1\n')  # fails only when there is no more
TWICE = m.copy_data(b"1\n1\n")  # into a deferred unique constraint: fails in the commit
LATE_OUT = "COPY (SELECT 1 / (3 - generate_series(1, 5))) TO STDOUT"
AT_ONCE_OUT = "COPY (SELECT 1/0) TO STDOUT"
GID = "states"

COPY_IN: dict[str, list[Flight]] = {
    "done": [m.query(COPY), DATA * 3, DONE],
    "without any data": [m.query(COPY), DONE],
    "refused before its CopyInResponse": [*q("COPY missing FROM STDIN"), DATA + DONE, ONE],
    "failed before its first CopyData": [refused_copy, ONE],
    "failed in the middle": [m.query(COPY), DATA, BAD, ONE],
    "failed in the middle, with data behind it": [m.query(COPY), DATA, BAD + DATA * 9 + DONE, ONE],
    "failed, and then late data in flights of its own": [m.query(COPY), BAD, DATA, DATA + DONE, m.copy_fail(), ONE],
    "failed by CopyFail": [m.query(COPY), DATA, m.copy_fail(), ONE],
    "failed by CopyFail at once": [m.query(COPY), m.copy_fail(), ONE],
    "failed at CopyDone": [m.query(UNENDED), QUOTE, DONE, ONE],
    "failed in the commit": [m.query("COPY truth_deferred FROM STDIN"), TWICE, DONE, ONE],
    "data that comes before its CopyInResponse": [m.query(COPY) + DATA + DONE, ONE],
    "bad data that comes before its CopyInResponse": [m.query(COPY) + BAD + DONE, ONE],
    "between two statements": [m.query(f"SELECT 1; {COPY}; SELECT 2"), DATA, DONE],
    "between two statements, failed": [m.query(f"SELECT 1; {COPY}; SELECT 2"), BAD, DONE, ONE],
    "two in one Query": [m.query(f"{COPY}; {COPY}"), DONE, DATA + DONE],
    "two in one Query, the second fails": [m.query(f"{COPY}; {COPY}"), DONE, BAD, DONE, ONE],
    "Flush while it runs": [m.query(COPY), m.FLUSH, DATA + m.FLUSH, DONE],
    "Sync and Flush while it runs": [m.query(COPY), m.SYNC + DATA, m.FLUSH + m.SYNC, DONE, ONE],
}
COPY_IN_A_SERIES: dict[str, list[Flight]] = {
    "done": [run_copy(COPY) + m.FLUSH, DATA, DONE + m.SYNC],
    "done, with a Sync behind its Execute": [run_copy(COPY) + m.SYNC, DATA, DONE + m.SYNC],
    "done, with Syncs in it": [run_copy(COPY) + m.SYNC, DATA + m.SYNC, m.SYNC + DATA, DONE + m.FLUSH, m.SYNC, ONE],
    "done, and the series goes on": [run_copy(COPY) + m.FLUSH, DATA + DONE + m.FLUSH, series("SELECT 1"), ONE],
    "refused before its CopyInResponse": [run_copy("COPY missing FROM STDIN") + m.FLUSH, DATA, DONE, m.SYNC, ONE],
    "failed before its first CopyData": [refused_copy_in_a_series, ONE],
    "failed in the middle": [run_copy(COPY) + m.FLUSH, DATA + BAD, m.SYNC, ONE],
    "failed, and then late data": [run_copy(COPY) + m.FLUSH, BAD, DATA, DONE, m.copy_fail(), m.SYNC, ONE],
    "failed, with a Sync behind its Execute": [run_copy(COPY) + m.SYNC, BAD, DATA + DONE, m.SYNC, ONE, BEGIN],
    "failed, with Syncs in it": [run_copy(COPY) + m.SYNC, DATA + m.SYNC, m.SYNC, BAD, m.SYNC, ONE, BEGIN],
    "failed by CopyFail": [run_copy(COPY) + m.FLUSH, DATA + m.copy_fail(), m.SYNC, ONE],
    "failed at CopyDone": [run_copy(UNENDED) + m.SYNC, QUOTE, DONE + m.SYNC, ONE],
    "failed in the commit": [run_copy("COPY truth_deferred FROM STDIN") + m.FLUSH, TWICE + DONE + m.FLUSH, m.SYNC, ONE],
    "failed, and a Query that is discarded": [run_copy(COPY) + m.FLUSH, BAD, ONE, m.SYNC, ONE],
    "behind other statements": [series("SELECT 1", end=b"") + run_copy(COPY) + m.FLUSH, DATA + DONE + m.SYNC, ONE],
}
COPY_OUT: dict[str, list[Flight]] = {
    "done": q("COPY truth TO STDOUT", "COPY (SELECT generate_series(1, 2000)) TO STDOUT"),
    "done in a series": [series("COPY (SELECT 1) TO STDOUT", end=m.FLUSH), m.SYNC],
    "refused": [*q("COPY missing TO STDOUT"), series("COPY missing TO STDOUT"), ONE],
    "failed before its first row": [*q(AT_ONCE_OUT), ONE],
    "failed before its first row, in a series": [series(AT_ONCE_OUT, end=m.FLUSH), m.SYNC, ONE],
    "failed in the middle": [*q(LATE_OUT), ONE],
    "failed in the middle, in a series": [series("SELECT 1", LATE_OUT, "SELECT 2"), ONE],
    "failed between two statements": [*q(f"SELECT 1; {LATE_OUT}; SELECT 2"), ONE],
    "CopyData of a client that is wrong": [*q(LATE_OUT), DATA + DONE, ONE],
}
SERIES: dict[str, list[Flight]] = {
    "a Query inside a block": [BEGIN, m.run("SELECT 1") + ONE + m.SYNC, ROLLBACK],
    "a Query that fails": [BEGIN, m.run("SELECT 1") + m.query("SELECT 1/0") + m.SYNC, ROLLBACK],
    "a Query that ends the block": [BEGIN, m.run("SELECT 1") + COMMIT + m.SYNC, ONE],
    "a Query that is discarded": [m.run("SELECT 1/0") + ONE + COMMIT + m.SYNC, ONE],
    "a Query behind a Parse": [m.parse("SELECT 1", "s") + ONE + m.SYNC],
    "a FunctionCall inside a block": [BEGIN, m.run("SELECT 1") + function_call(INT4_PLUS, 1, 1) + m.SYNC, ROLLBACK],
    "a FunctionCall that is discarded": [m.run("SELEC") + function_call(INT4_PLUS, 1, 1) + m.SYNC, ONE],
}
CALLS: dict[str, list[Flight]] = {
    "outside of a block": [function_call(INT4_PLUS, 1, 1)],
    "inside": [BEGIN, function_call(INT4_PLUS, 1, 1), function_call(INT4_PLUS, 1, 1), COMMIT],
    "fails outside of a block": [function_call(INT4_DIVIDE, 1, 0), ONE],
    "fails inside": [BEGIN, function_call(INT4_DIVIDE, 1, 0), function_call(INT4_PLUS, 1, 1), ROLLBACK],
    "of nothing": [function_call(1, 1, 1), BEGIN, function_call(1, 1, 1), ROLLBACK],
    "in a row": [function_call(INT4_PLUS, 1, 1) + function_call(INT4_DIVIDE, 1, 0) + function_call(INT4_PLUS, 1, 1)],
}
OPEN = m.parse("SELECT generate_series(1, 9)", "g") + m.bind("g", "p")
PORTALS: dict[str, list[Flight]] = {
    "inside": [
        BEGIN,
        OPEN + m.execute("p", 2) + m.SYNC,
        m.execute("p", 2) + m.SYNC,
        m.close("p", "P") + m.SYNC,
        COMMIT,
    ],
    "inside, to its end": [BEGIN, OPEN + m.execute("p", 2) + m.SYNC, m.execute("p") + m.SYNC, COMMIT],
    "outside: Sync ends it": [OPEN + m.execute("p", 2) + m.SYNC, m.execute("p", 2) + m.SYNC, ONE],
    "outside, without Sync": [OPEN + m.execute("p", 2) + m.FLUSH, m.execute("p", 2) + m.FLUSH, m.execute("p") + m.SYNC],
    "outside, ended by a Query": [OPEN + m.execute("p", 2) + m.SYNC, ONE],
    "a cursor": q("BEGIN", "DECLARE c CURSOR FOR SELECT generate_series(1, 9)", "FETCH 2 FROM c", "COMMIT"),
    "a cursor that outlives its block": q(
        "BEGIN", "DECLARE h CURSOR WITH HOLD FOR SELECT generate_series(1, 9)", "COMMIT", "FETCH 2 FROM h", "CLOSE h"
    ),
    "fails when it goes on": [
        BEGIN,
        m.parse("SELECT 1 / (3 - generate_series(1, 9))", "g") + m.bind("g", "p") + m.execute("p", 1) + m.SYNC,
        m.execute("p") + m.SYNC,
        ROLLBACK,
    ],
}
CHAINS: dict[str, list[Flight]] = {
    "commit": q("BEGIN", "INSERT INTO truth VALUES (1)", "COMMIT AND CHAIN", "SELECT 1", "COMMIT"),
    "rollback": q("BEGIN", "INSERT INTO truth VALUES (1)", "ROLLBACK AND CHAIN", "SELECT 1", "ROLLBACK"),
    "commit of a block that has failed": q("BEGIN", "SELECT 1/0", "COMMIT AND CHAIN", "SELECT 1", "COMMIT"),
    "rollback of a block that has failed": q("BEGIN", "SELECT 1/0", "ROLLBACK AND CHAIN", "SELECT 1", "COMMIT"),
    "outside of a block": q("COMMIT AND CHAIN", "ROLLBACK AND CHAIN", "SELECT 1"),
    "in a series": [BEGIN, series("SELECT 1", "COMMIT AND CHAIN"), series("ROLLBACK AND CHAIN", "SELECT 1"), COMMIT],
    "no chain": q("BEGIN", "COMMIT AND NO CHAIN", "SELECT 1"),
    "begin behind a commit": q("BEGIN", "COMMIT; BEGIN", "ROLLBACK; BEGIN; SELECT 1", "COMMIT"),
    "a commit that fails": q(
        "BEGIN", "INSERT INTO truth_deferred VALUES (1), (1)", "COMMIT AND CHAIN", "SELECT 1", "ROLLBACK"
    ),
    "back to a savepoint": q("BEGIN", "SAVEPOINT a", "SELECT 1/0", "ROLLBACK TO a", "SELECT 1", "RELEASE a", "COMMIT"),
}
PHASES: dict[str, list[Flight]] = {
    "committed": q(
        "BEGIN", "INSERT INTO truth VALUES (1)", f"PREPARE TRANSACTION '{GID}'", "SELECT 1", f"COMMIT PREPARED '{GID}'"
    ),
    "rolled back": q("BEGIN", "SELECT 1", f"PREPARE TRANSACTION '{GID}'", f"ROLLBACK PREPARED '{GID}'"),
    "of a block that has failed": q("BEGIN", "SELECT 1/0", f"PREPARE TRANSACTION '{GID}'", "SELECT 1"),
    "that cannot be": q("BEGIN", "CREATE TEMP TABLE t (a int)", f"PREPARE TRANSACTION '{GID}'", "SELECT 1"),
    "of nothing": q(f"PREPARE TRANSACTION '{GID}'", "COMMIT PREPARED 'missing'", "SELECT 1"),
    "committed inside a block": q("BEGIN", "COMMIT PREPARED 'missing'", "ROLLBACK"),
    "in a series": [series("BEGIN", "SELECT 1", f"PREPARE TRANSACTION '{GID}'"), *q(f"COMMIT PREPARED '{GID}'")],
}
COMMITS = "DO $$BEGIN INSERT INTO truth VALUES (1); COMMIT; INSERT INTO truth VALUES (2); ROLLBACK; END$$"
FAILS = "DO $$BEGIN INSERT INTO truth VALUES (1); COMMIT; PERFORM 1/0; END$$"
PROCEDURE = "CREATE PROCEDURE truthful(n int) LANGUAGE plpgsql AS 'BEGIN COMMIT; PERFORM 1/n; COMMIT; END'"
CALL, CALL_FAILS = "CALL truthful(1)", "CALL truthful(0)"
PROCEDURES: dict[str, list[Flight]] = {
    "DO": [*q(COMMITS), series(COMMITS), series(COMMITS, end=m.FLUSH), m.SYNC],
    "DO that fails behind its COMMIT": [*q(FAILS), series(FAILS), series(FAILS, end=m.FLUSH), m.SYNC],
    "DO with COMMIT inside a block": q("BEGIN", COMMITS, "ROLLBACK"),
    "DO inside a block": q("BEGIN", "DO $$BEGIN RAISE NOTICE 'n'; INSERT INTO truth VALUES (1); END$$", "COMMIT"),
    "CALL": [*q(CALL), series(CALL), *q(CALL_FAILS), series(CALL_FAILS)],
    "CALL inside a block": q("BEGIN", CALL, "ROLLBACK"),
    "CALL behind another statement": q(f"SELECT 1; {CALL}; SELECT 2"),
}


@pytest.fixture
def judge(postgres: Postgres) -> Iterator[psycopg.Connection]:
    with judging(postgres) as connection:
        connection.execute(PROCEDURE)
        yield connection
        connection.execute("DROP PROCEDURE truthful")


@pytest.fixture
def proxy(start_proxy: StartProxy) -> Iterator[Proxy]:
    with understanding(start_proxy(flag_after="never")) as proxy:
        yield proxy


class Both:
    """The same flights, directly and through the proxy."""

    def __init__(self, postgres: Postgres, proxy: Proxy, judge: psycopg.Connection) -> None:
        self._postgres, self._proxy, self._judge = postgres, proxy, judge

    def fly(self, flights: Sequence[Flight]) -> list[Message]:
        """What was received, which was the same both ways; what we believe is true after each flight."""
        direct = self._fly(self._postgres.dsn(), flights, tracked=False)
        assert self._fly(dsn(self._proxy, self._postgres), flights, tracked=True) == direct
        return direct

    def _fly(self, through: str, flights: Sequence[Flight], *, tracked: bool) -> list[Message]:
        self._judge.execute("TRUNCATE truth, truth_deferred, truth_refused")
        with RecordingClient(through) as client:
            script = Script(client, 0, errs=False)
            play = Play(script, self._proxy, self._judge) if tracked else None
            for flight in flights:
                if isinstance(flight, bytes):
                    script.send(flight)
                else:
                    flight(script)
                if play is not None:
                    play.compare()
            client.send(m.TERMINATE)
        forget_prepared(self._judge)
        return client.received


@pytest.fixture
def both(postgres: Postgres, proxy: Proxy, judge: psycopg.Connection) -> Both:
    return Both(postgres, proxy, judge)


def inside(flights: Sequence[Flight]) -> list[Flight]:
    return [BEGIN, *flights, *q("ROLLBACK", "SELECT 1")]


def under_a_savepoint(flights: Sequence[Flight]) -> list[Flight]:
    return [BEGIN, *q("SAVEPOINT s"), *flights, *q("ROLLBACK TO s", "SELECT 1", "COMMIT")]


@pytest.mark.protocol(14, "requests that are due for ever")
@pytest.mark.parametrize("name", COPY_IN)
def test_copy_in(both: Both, name: str) -> None:
    for flights in (COPY_IN[name], inside(COPY_IN[name]), under_a_savepoint(COPY_IN[name])):
        both.fly(flights)


@pytest.mark.protocol(14, "requests that are due for ever")
@pytest.mark.parametrize("name", COPY_IN_A_SERIES)
def test_copy_in_a_series(both: Both, name: str) -> None:
    for flights in (COPY_IN_A_SERIES[name], inside(COPY_IN_A_SERIES[name]), under_a_savepoint(COPY_IN_A_SERIES[name])):
        both.fly(flights)


@pytest.mark.protocol(14)
@pytest.mark.parametrize("name", COPY_OUT)
def test_copy_out(both: Both, name: str) -> None:
    for flights in (COPY_OUT[name], inside(COPY_OUT[name])):
        both.fly(flights)


@pytest.mark.protocol(13)
@pytest.mark.parametrize("name", SERIES)
def test_a_request_inside_a_series(both: Both, name: str) -> None:
    both.fly(SERIES[name])


@pytest.mark.protocol(12)
@pytest.mark.parametrize("name", CALLS)
def test_function_call(both: Both, name: str) -> None:
    both.fly(CALLS[name])


@pytest.mark.protocol(16)
@pytest.mark.parametrize("name", PORTALS)
def test_a_suspended_portal(both: Both, name: str) -> None:
    both.fly(PORTALS[name])


@pytest.mark.protocol(19, 20)
@pytest.mark.parametrize("name", CHAINS)
def test_one_transaction_after_the_other(both: Both, name: str) -> None:
    both.fly(CHAINS[name])


@pytest.mark.protocol(19)
@pytest.mark.parametrize("name", PHASES)
def test_prepare_transaction(both: Both, name: str) -> None:
    both.fly(PHASES[name])


@pytest.mark.protocol(18)
@pytest.mark.parametrize("name", PROCEDURES)
def test_a_procedure_that_commits(both: Both, name: str) -> None:
    told = both.fly(PROCEDURES[name])
    assert {message.body for message in told if message.kind == "Z"} <= {b"I", b"T", b"E"}


# Pipelines, with an error in every position.

GOOD = m.run("INSERT INTO truth VALUES (1)")
WRONG = {
    "Parse": m.run("SELEC"),
    "Bind": m.parse("SELECT 1") + m.bind("missing") + m.execute(),
    "Describe": m.parse("SELECT 1") + m.bind() + m.describe("missing", "P") + m.execute(),
    "Execute": m.run("SELECT 1/0"),
    "the commit": m.run("INSERT INTO truth_deferred VALUES (1), (1)"),
    "a portal that was there": m.parse("SELECT 1") + m.bind("", "p") * 2 + m.execute("p"),
}
LENGTH = 4


@pytest.mark.protocol(12, 13, "pipelines with errors")
@pytest.mark.parametrize("error", WRONG)
@pytest.mark.parametrize("sync", [b"", m.FLUSH, m.SYNC], ids=["one Sync", "Flush between", "Sync between"])
def test_a_pipeline_with_an_error_in_every_position(both: Both, error: str, sync: bytes) -> None:
    flights: list[Flight] = []
    for position in range(LENGTH):
        parts = [GOOD] * position + [WRONG[error]] + [GOOD] * (LENGTH - 1 - position)
        whole = sync.join(parts)
        flights += [whole + m.SYNC, BEGIN, whole + m.SYNC, ROLLBACK, m.run("BEGIN") + whole + m.SYNC + ROLLBACK + ONE]
    both.fly(flights)


@pytest.mark.protocol(12, "pipelines with errors")
def test_a_pipeline_of_queries_with_an_error_in_every_position(both: Both) -> None:
    flights: list[Flight] = []
    for wrong in (
        "SELEC",
        "SELECT 1/0",
        "SELECT 1; SELECT 1/0; SELECT 2",
        "INSERT INTO truth_deferred VALUES (1), (1)",
    ):
        for position in range(LENGTH):
            statements = ["INSERT INTO truth VALUES (1)"] * LENGTH
            statements[position] = wrong
            whole = together(*statements)
            flights += [whole, BEGIN, whole, ROLLBACK, BEGIN + whole + ROLLBACK]
    both.fly(flights)


# What a client must not send while a COPY runs.

FOREIGN = {
    "Query": ONE,
    "Parse": m.parse("SELECT 1"),
    "Bind": m.bind(),
    "Describe": m.describe(),
    "Execute": m.execute(),
    "Close": m.close("s"),
    "FunctionCall": function_call(INT4_PLUS, 1, 1),
    "PasswordMessage": m.message("p", b"secret\0"),
    "what does not exist": m.message("!"),
}


@pytest.mark.protocol(14, 21, 23)
@pytest.mark.parametrize("kind", FOREIGN)
@pytest.mark.usefixtures("judge")
def test_a_message_that_has_no_place_in_a_copy(postgres: Postgres, start_proxy: StartProxy, kind: str) -> None:
    proxy = start_proxy(flag_after="50ms")

    def told(through: str, begin: bytes) -> list[Message]:
        with RawClient(through) as client:
            client.send(begin)
            client.receive_until("G")
            client.send(DATA + FOREIGN[kind])
            return client.everything()

    for begin in (m.query(COPY), run_copy(COPY) + m.FLUSH):
        direct = told(postgres.dsn(), begin)
        assert told(dsn(proxy, postgres), begin) == direct
        assert [message.kind for message in direct] == ["E", "E"]  # what is wrong, and that this is the end
    proxy.settle(timeout=3.0)
    assert proxy.recorder.of(LeakFlagged) == []
    assert len(proxy.recorder.of(ProtocolViolation)) == (0 if kind == "PasswordMessage" else 2)


@pytest.mark.protocol(14, "requests that are due for ever")
@pytest.mark.parametrize(
    "flights",
    [COPY_IN_A_SERIES["done, with a Sync behind its Execute"], COPY_IN_A_SERIES["failed, with Syncs in it"][:-1]],
    ids=["done", "failed"],
)
@pytest.mark.usefixtures("judge")
def test_after_a_copy_a_session_is_idle_and_a_hold_is_a_hold(
    postgres: Postgres, start_proxy: StartProxy, flights: list[Flight]
) -> None:
    """What would be due for ever would keep a session from being idle, and from being judged."""
    proxy = start_proxy(flag_after="100ms", drain_timeout="5s")
    with RawClient(dsn(proxy, postgres)) as client:
        script = Script(client, 0, errs=False)
        for flight in [*flights, ONE]:
            assert isinstance(flight, bytes)
            script.send(flight)
        client.query("BEGIN")
        assert proxy.recorder.wait(LeakFlagged, timeout=1.0).leak.hold == "idle_in_transaction"
        client.query("COMMIT")
        proxy.call(proxy.server.drain, timeout=2.0)  # an idle session ends at once
        assert [message.kind for message in client.everything()] == ["E"]
