"""Writes random legal scripts by playing them directly: what has been answered is what a script waits for.

What a client may do next, and what it is due, is what tests/behaviour/support.py knows; here are more statements, more
of what drivers seldom do, and endings wherever a session stands.
"""

import random
from collections.abc import Callable, Iterator
from typing import Final

from tests import messages as m
from tests.behaviour import support
from tests.behaviour.support import COPY_STEPS, INT4_PLUS, STEPS, cut, function_call, run_copy
from tests.differential.ground import Ground
from tests.differential.player import Wire, log_in
from tests.differential.script import End, Script, Send, Startup, Step, Wait
from tests.rawclient import Message

MORE_WORK: Final = (
    "CALL commits(2)", "CALL rolls_back(2)", "SELECT notices(3)", "SELECT n, t FROM wide ORDER BY n",
    "SELECT repeat('x', 20000) FROM generate_series(1, 5)", "COPY (SELECT * FROM wide ORDER BY n) TO STDOUT",
    "COPY (SELECT * FROM wide ORDER BY n) TO STDOUT (FORMAT binary)", "INSERT INTO wide VALUES (99, 'y') RETURNING *",
    "UPDATE wide SET t = 'z' WHERE n < 3 RETURNING n", "DELETE FROM wide WHERE n = 7", "PREPARE q AS SELECT 1",
    "EXECUTE q", "DEALLOCATE ALL", "DISCARD ALL", "SET TRANSACTION READ ONLY", "SET CONSTRAINTS ALL IMMEDIATE",
    "NOTIFY truth, 'one'; NOTIFY truth, 'two'", "UNLISTEN *", "FETCH ALL FROM c", "MOVE 1 FROM c",
    "DECLARE h CURSOR WITH HOLD FOR SELECT n FROM wide", "FETCH 2 FROM h", "EXPLAIN (COSTS off) SELECT 1",
    "VALUES (1, NULL), (2, 'b')", "SET client_encoding TO 'LATIN1'", "SET client_encoding TO 'UTF8'", "SELECT 'ä'",
    "SET standard_conforming_strings TO off", "RESET ALL", "LOCK TABLE truth", "BEGIN; SELECT 1", "SELECT 1; COMMIT",
    "COMMIT; BEGIN", "ROLLBACK; SELECT 1/0", "BEGIN; SAVEPOINT a; SELECT 1/0",
)  # fmt: skip
MORE_WRONG: Final = (
    "INSERT INTO wide VALUES (1)", "INSERT INTO truth_refused VALUES (1)", "CALL missing()", "EXECUTE missing",
    "SELECT 1/n FROM generate_series(5, 0, -1) n", "INSERT INTO truth_deferred VALUES (5), (5)", "FETCH 1 FROM missing",
    "ROLLBACK TO missing", "SELECT E'\\xff'", "COMMIT PREPARED 'missing'", "VACUUM missing",
)  # fmt: skip
PARAMETERS: Final = (
    "SELECT $1::int + $2::int", "INSERT INTO wide VALUES ($1, $2)", "SELECT n FROM wide WHERE n < $1 AND t <> $2",
)  # fmt: skip
VALUES: Final = (b"1", b"40", None, b"x", b"", b"9" * 30)
COPIES: Final = ("COPY truth FROM STDIN", "COPY truth_deferred FROM STDIN", "COPY wide FROM STDIN (FORMAT csv)")
DATA: Final = (b"1\n", b"2\n3\n", b"4", b"\n", b"1,a\n", b"x\n", b"\\.\n", b"", b"7\n" * 5000, b'50,"a\nb"\n')


HALF: Final = 0.5
SOME: Final = 0.3
MORE_FROM: Final = 6  # of ten statements the last four are ours
WRONG_FROM: Final = 9
ERRING: Final = 18  # the version that must not be sent a Query in a series that has executed something


class Author(support.Script):
    """A client that writes down what it does.

    Args:
        wire: its connection, logged in.
        number: of the client; names what is seen by everybody.
        choose: what it does.
        errs: whether the server must not be sent a Query in a series that has executed something.
    """

    def __init__(self, wire: Wire, number: int, choose: random.Random, *, errs: bool) -> None:
        super().__init__(wire, number, errs=errs)
        self.random = choose
        self.written: list[Step] = []

    def _write(self, data: bytes) -> list[bytes]:
        messages = super()._write(data)
        self.written += [Send(message) for message in messages]
        return messages

    def _take(self, kinds: str) -> Message:
        message = super()._take(kinds)
        self.written.append(Wait(message.kind))
        return message

    def statement(self) -> str:
        kind = self.random.randint(0, 9)
        if kind < MORE_FROM:
            return super().statement()
        return self.random.choice(MORE_WORK if kind < WRONG_FROM else MORE_WRONG)

    def do(self) -> None:
        """Some legal things, one after the other."""
        for _ in range(self.random.randint(1, 12)):
            steps = MORE_COPY_STEPS if self.copying else MORE_STEPS
            (step,) = self.random.choices(list(steps), list(steps.values()))
            step(self)
        if self.random.random() < HALF:
            self.finish()


def parameters(script: support.Script) -> None:
    """A statement that takes values, run more than once."""
    choose = script.random.choice
    name = choose(("", "a"))
    runs = [
        m.bind(name, "p", choose(VALUES), choose(VALUES)) + m.describe("p", "P") + m.execute("p") + m.close("p", "P")
        for _ in range(script.random.randint(1, 3))
    ]
    script.send(m.close(name), m.parse(choose(PARAMETERS), name), *runs, choose((m.SYNC, m.FLUSH)))


def portals(script: support.Script) -> None:
    """Several portals, each of them executed in parts."""
    choose = script.random.choice
    opened = b"".join(m.bind("rows", portal) for portal in "xyz")
    parts = b"".join(m.execute(choose("xyz"), rows=choose((0, 1, 2, 7))) for _ in range(script.random.randint(1, 6)))
    script.send(m.close("rows"), m.parse(choose(("SELECT n FROM wide ORDER BY n", "SELECT notices(4)")), "rows"))
    script.send(opened, parts, choose((m.SYNC, m.FLUSH)))


def calls(script: support.Script) -> None:
    """Functions that are not there, too."""
    oid = script.random.choice((INT4_PLUS, INT4_PLUS, 0, 99_999_999))
    script.send(m.SYNC)
    script.send(*[function_call(oid, 1, value) for value in range(script.random.randint(1, 3))])


def copies(script: support.Script) -> None:
    """Another COPY, in a Query or in a series."""
    sql = script.random.choice(COPIES)
    script.send(m.SYNC)
    if script.random.random() < HALF:
        script.send(m.query(script.random.choice((sql, f"SELECT 1; {sql}; SELECT 2"))))
    else:
        script.send(run_copy(sql), m.FLUSH)
    if script.copying:
        rows_to_copy(script)


def rows_to_copy(script: support.Script) -> None:
    """Data that may be good or bad, to its end.

    Whether and where it fails, one ReadyForQuery comes at the end: that of the Query, or of the Sync behind the end.
    """
    data = b"".join(m.copy_data(script.random.choice(DATA)) for _ in range(script.random.randint(0, 4)))
    end = script.random.choice((m.COPY_DONE, m.COPY_DONE, m.copy_fail("enough")))
    script.send_and_take_ready(data, end, m.SYNC if script.series else b"")


MORE_STEPS: Final[dict[Callable[[support.Script], None], int]] = STEPS | {
    parameters: 2, portals: 2, calls: 1, copies: 2,
}  # fmt: skip
MORE_COPY_STEPS: Final[dict[Callable[[support.Script], None], int]] = {**COPY_STEPS, rows_to_copy: 6}


def ending(choose: random.Random, *, eof: bool) -> Iterator[Step]:
    """How it ends, wherever it stands: with something that nobody waits for, or at once."""
    if choose.random() < SOME:
        yield from map(Send, cut(m.query("SELECT 1") + m.run("SELECT 2") + choose.choice((m.SYNC, m.FLUSH, b""))))
    how = choose.choice(("terminate", "terminate", "terminate", "eof" if eof else "close", "close", "reset"))
    yield Send(m.TERMINATE) if how == "terminate" else End(how)


def write(ground: Ground, number: int, choose: random.Random) -> Script:
    """Write a script for this client.

    Raises:
        AssertionError: the server has gone, which is its own fault: there is no script then.
    """
    ground.reset(number)
    with Wire(ground.direct(number)) as wire:
        log_in(wire, ground.direct(number).database, Startup())
        wire.wait("Z")
        author = Author(wire, number, choose, errs=ground.postgres.version >= ERRING)
        author.do()
    return Script((*author.written, *ending(choose, eof=ground.can_half_close)))
