"""What tests that compare need.

A proxy that has to understand everything, a network that cuts everything, a journal of what was seen, and a client that
sends random legal scripts and knows what it is due.
"""

import asyncio
import contextlib
import random
import socket
import threading
from collections.abc import Callable, Iterator
from struct import pack
from typing import Any, Final, Self

import psycopg

from proxy.demo.postgres import Postgres
from proxy.report.events import InternalError, ProtocolViolation, SessionOpened
from tests import messages as m
from tests.harness import Proxy
from tests.rawclient import Message, RawClient, fields


@contextlib.contextmanager
def understanding(proxy: Proxy) -> Iterator[Proxy]:
    """Nothing that is done within may be beyond the tracker, and nothing may raise in the proxy's loop."""
    raised: list[str] = []

    def note(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        raised.append(f"{context.get('message')}: {context.get('exception')!r}")

    proxy.call(lambda: asyncio.get_running_loop().set_exception_handler(note))
    yield proxy
    proxy.settle()
    assert proxy.recorder.of(SessionOpened), "nobody came through the proxy"
    assert proxy.recorder.of(ProtocolViolation) == []
    assert proxy.recorder.of(InternalError) == []
    assert raised == []


class Splitter:
    """Relays TCP in pieces of one to seven bytes; what it is connected to is up to its user.

    Args:
        host, port: where it connects to, for each connection to itself.
        seed: of the sizes of the pieces, and of the delays between them.
    """

    LARGEST = 7
    READ = 4096
    host = "127.0.0.1"
    port: int

    def __init__(self, host: str, port: int, seed: int) -> None:
        self._target = (host, port)
        self._random = random.Random(seed)  # noqa: S311 - sizes of pieces are no secret
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="splitter")
        self._connections: set[asyncio.Task[None]] = set()
        self.pieces = 0

    def __enter__(self) -> Self:
        self._thread.start()
        self.port = asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(10)
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _listen(self) -> int:
        self._server = await asyncio.start_server(self._accept, self.host, 0)
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def _stop(self) -> None:
        self._server.close()
        for connection in self._connections:
            connection.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = self._loop.create_task(self._serve(reader, writer))
        self._connections.add(connection)
        connection.add_done_callback(self._connections.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(*self._target)
        try:
            await asyncio.gather(self._pump(reader, back), self._pump(there, writer))
        finally:
            writer.transport.abort()
            back.transport.abort()

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        """One direction, until its end; a broken connection ends both."""
        sink.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            while data := await source.read(self.READ):
                await self._split(data, sink)
            sink.write_eof()
        except OSError:
            sink.transport.abort()

    async def _split(self, data: bytes, sink: asyncio.StreamWriter) -> None:
        while data:
            size = self._random.randint(1, self.LARGEST)
            piece, data = data[:size], data[size:]
            sink.write(piece)
            self.pieces += 1
            # Now and then a delay, so that the reader is sure to see the end of this piece by itself.
            await asyncio.sleep(0.0005 if self._random.random() < 0.05 else 0)


class Journal:
    """What a script has seen, in a form that can be compared."""

    def __init__(self, *errors: type[Exception]) -> None:
        self.entries: list[object] = []
        self._errors = errors

    def note(self, *values: object) -> None:
        self.entries.append(values)

    def attempt(self) -> "Attempt":
        """Note the error that ends what is within, or that none did."""
        return Attempt(self, self._errors)


class Attempt:
    """One thing that may fail."""

    def __init__(self, journal: Journal, errors: tuple[type[Exception], ...]) -> None:
        self._journal = journal
        self._errors = errors

    def __enter__(self) -> None:
        """There is nothing to begin."""

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> bool:
        if isinstance(error, self._errors):
            self._journal.note(type(error).__name__, getattr(error, "sqlstate", None), str(error))
        elif error is None:
            self._journal.note("no error")
        return isinstance(error, self._errors)


# A client that sends random legal scripts, and knows what it is due.

SCHEMA = """
    CREATE TABLE IF NOT EXISTS truth (a int);
    CREATE TABLE IF NOT EXISTS truth_deferred (a int UNIQUE DEFERRABLE INITIALLY DEFERRED);
    CREATE TABLE IF NOT EXISTS truth_refused (a int);
    CREATE OR REPLACE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE ''refused''; END';
    DROP TRIGGER IF EXISTS refuse ON truth_refused;
    CREATE TRIGGER refuse BEFORE INSERT ON truth_refused FOR STATEMENT EXECUTE FUNCTION refuse();
"""


@contextlib.contextmanager
def judging(postgres: Postgres) -> Iterator[psycopg.Connection]:
    """A connection that tells the truth, and the tables that scripts need."""
    with postgres.connect() as connection:
        connection.execute(SCHEMA)
        yield connection
        forget_prepared(connection)
        connection.execute("DROP TABLE truth, truth_deferred, truth_refused; DROP FUNCTION refuse")


def forget_prepared(judge: psycopg.Connection) -> None:
    """Roll back what scripts have prepared and left."""
    for (gid,) in judge.execute("SELECT gid FROM pg_prepared_xacts").fetchall():
        judge.execute(f"ROLLBACK PREPARED '{gid}'")


CONTROL = (
    "BEGIN", "START TRANSACTION", "BEGIN ISOLATION LEVEL SERIALIZABLE, READ ONLY", "COMMIT", "END", "ROLLBACK",
    "COMMIT AND CHAIN", "ROLLBACK AND CHAIN", "SAVEPOINT a", "ROLLBACK TO a", "RELEASE a", "SAVEPOINT b",
    "ROLLBACK TO SAVEPOINT b",
)  # fmt: skip
WORK = (
    "SELECT 1", "SELECT generate_series(1, 3)", "INSERT INTO truth VALUES (1)", "UPDATE truth SET a = 2 WHERE a = 0",
    "SHOW search_path", "SET application_name TO 'truthful'", "SET LOCAL work_mem TO '1MB'", "COPY truth TO STDOUT",
    "DO $$BEGIN RAISE NOTICE 'noticed'; END$$", "DO $$BEGIN COMMIT; END$$", "LISTEN truth", "NOTIFY truth, 'told'",
    "DECLARE c CURSOR FOR SELECT generate_series(1, 9)", "FETCH 2 FROM c", "CLOSE c", "VACUUM truth",
    "", " ; ", "-- nothing",
)  # fmt: skip
WRONG = (
    "SELECT 1/0", "SELEC", "SELECT missing", "INSERT INTO truth_deferred VALUES (1), (1)", "SELECT 1; SELECT 2/0",
    "COPY missing FROM STDIN",
)  # fmt: skip
NAMES = ("", "a", "b")
COPY = "COPY truth FROM STDIN"
REFUSED = "COPY truth_refused FROM STDIN"  # fails behind its CopyInResponse, before it has read anything
BAD = m.copy_data(b"not a number\n")

ANSWERS: Final = {"P": "1", "B": "2", "C": "3", "D": "Tn", "E": "CIsG", "S": "Z", "Q": "ZG", "F": "ZG"}
EXTENDED: Final = "PBCDE"
SHOWN: Final = "PBEQF"  # what makes pg_stat_activity show `active`
ENDING: Final = {b"COMMIT", b"ROLLBACK", b"PREPARE TRANSACTION", b"COMMIT PREPARED", b"ROLLBACK PREPARED"}
UNSEEN: Final = {"26000", "34000"}  # Bind of a missing statement and Execute of a missing portal end before that
ANSWERED: Final = "HSQFcf"  # what makes the server send what it has to say


def kind_of(message: bytes) -> str:
    return chr(message[0])


def cut(data: bytes) -> Iterator[bytes]:
    """The messages in it."""
    while data:
        size = 1 + int.from_bytes(data[1:5], "big")
        yield data[:size]
        data = data[size:]


def function_call(oid: int, *values: int) -> bytes:
    """FunctionCall, in binary."""
    arguments = b"".join(pack("!ii", 4, value) for value in values)
    return m.message("F", pack("!ihhh", oid, 1, 1, len(values)) + arguments + pack("!h", 1))


INT4_PLUS, INT4_DIVIDE = 177, 154


class Script:
    """A client that knows what it is due: the rules of the protocol, written down a second time.

    Args:
        client: its connection.
        seed: of what it does.
        errs: whether the server is one that must not be sent a Query in a series that has executed something.

    Attributes:
        status: the byte of the last ReadyForQuery.
        waiting: what was sent and need not be answered before a Flush, a Sync or a Query.
        series: extended messages were answered since the last Sync.
        ended: a transaction has ended in this series, and perhaps begun another one.
        failed: the series has failed; the server discards everything up to Sync.
        copying: the server reads COPY data.
        shown: something since the last ReadyForQuery has made pg_stat_activity show `active`.
        telling: the type of what pg_stat_activity has shown last, if it was a Query or an Execute that went well.
        sent: how many bytes.
        log: what was sent, for people.
    """

    def __init__(self, client: RawClient, seed: int, *, errs: bool) -> None:
        self.client = client
        self.random = random.Random(seed)  # noqa: S311 - a script is no secret
        self.errs = errs
        self.gid = f"truth {seed}"
        self.status = "I"
        self.waiting: list[bytes] = []
        self.series = self.failed = self.copying = self.shown = self.ended = False
        self.telling = ""
        self.executing = False  # as `series`, but of Execute, and as soon as it is sent
        self.sent = 0
        self.log: list[str] = []

    # Sending, and waiting for what is due.

    def send(self, *data: bytes) -> None:
        """Send this in one piece, and take every answer that is due by now."""
        self.waiting += self._write(b"".join(data))
        last = max((number for number, one in enumerate(self.waiting, 1) if self._is_answered(one)), default=0)
        due, rest = self.waiting[:last], self.waiting[last:]
        self.waiting = [one for one in rest if kind_of(one) != "d"]  # CopyData is never answered
        for message in due:
            self._answer(message)

    def send_and_take_ready(self, *data: bytes) -> None:
        """Send this in one piece, and take what comes up to one ReadyForQuery."""
        self._write(b"".join(data))
        self._take("Z")
        self.waiting.clear()
        self.telling = ""

    def _write(self, data: bytes) -> list[bytes]:
        messages = list(self._mend(cut(data)))
        data = b"".join(messages)
        self.log.append("    " + " ".join(f"{kind_of(one)}{one[5:60]!r}" for one in messages))
        self.sent += len(data)
        self.client.send(data)
        return messages

    def _mend(self, messages: Iterator[bytes]) -> Iterator[bytes]:
        """Spare a server that errs: no Query and no FunctionCall in a series that has executed something."""
        for message in messages:
            kind = kind_of(message)
            if kind in "QF" and self.executing and self.errs:
                yield m.SYNC
            if kind in "SQFE":
                self.executing = kind == "E"
            elif kind == "c":
                self.executing = self.series
            yield message

    def _is_answered(self, message: bytes) -> bool:
        return kind_of(message) in ANSWERED or message == BAD

    def _answer(self, message: bytes) -> None:
        kind = kind_of(message)
        if self.failed and kind != "S":
            return
        if self.copying:
            self._answer_in_copy(kind, bad=message == BAD)
        elif kind in ANSWERS:
            self.series = self.series if kind == "S" else kind in EXTENDED
            before = self.shown
            self.shown = before or kind in SHOWN
            answer = self._take(ANSWERS[kind] + "E" if kind in EXTENDED else ANSWERS[kind])
            if self._is_unseen(answer):
                self.shown = before
            if kind in SHOWN or answer.kind == "E":
                self.telling = kind if kind == "Q" or (kind == "E" and answer.kind in "CsG") else ""

    def _is_unseen(self, answer: Message) -> bool:
        return answer.kind == "I" or (answer.kind == "E" and fields(answer)["C"] in UNSEEN)

    def _answer_in_copy(self, kind: str, *, bad: bool) -> None:
        """In COPY the server reads data to its end, or to an error; Sync and Flush mean nothing to it."""
        if kind in "cf" or bad:
            self._take("CE" if self.series else "ZG")

    def _take(self, kinds: str) -> Message:
        """Read to a message of these kinds."""
        message = self.client.receive()
        while message is not None and message.kind not in kinds:
            message = self.client.receive()
        assert message is not None, "the server has gone"
        if message.kind == "Z":
            self.status = message.body.decode()
            self.series = self.shown = self.ended = False
        elif message.kind == "C" and self.series:
            self.ended = self.ended or message.body.rstrip(b"\0") in ENDING
        self.copying = message.kind == "G"
        self.failed = message.kind == "E"
        return message

    # What a client may do next.

    def steps(self) -> Iterator[None]:
        """Do five to fifteen legal things, and come back to an idle session."""
        for _ in range(self.random.randint(5, 15)):
            steps = COPY_STEPS if self.copying else STEPS
            (step,) = self.random.choices(list(steps), list(steps.values()))
            self.log.append(step.__name__)
            step(self)
            yield
        self.finish()
        yield

    def finish(self) -> None:
        """Come back to an idle session, wherever it stands."""
        self.log.append("finish")
        if self.copying:
            self.send(m.copy_fail(), m.SYNC if self.series else b"")
        self.send(m.SYNC)
        self.send(m.query("ROLLBACK"))

    def statement(self) -> str:
        prepared = (f"PREPARE TRANSACTION '{self.gid}'", f"ROLLBACK PREPARED '{self.gid}'")
        (kinds,) = self.random.choices((CONTROL, WORK, WRONG, prepared), (10, 10, 4, 1))
        return self.random.choice(kinds)

    def extended(self) -> bytes:
        """One or more messages of a series."""
        choose = self.random.choice
        name, portal, what = choose(NAMES), choose(("", "p")), choose("SP")
        statement = self.statement()
        return choose(
            (
                m.run(statement),
                m.run(statement),
                m.parse(statement, name),
                m.parse(statement, name) + m.bind(name, portal) + m.execute(portal),
                m.bind(name, portal) + m.execute(portal, rows=choose((0, 1, 2))),
                m.execute("p" if self.status == "E" else portal, rows=1),
                m.describe(name if what == "S" else portal, what),
                m.close(name if what == "S" else portal, what),
            )
        )

    def request(self) -> bytes:
        """A Query or a FunctionCall."""
        if self.random.random() < 0.15:
            return function_call(self.random.choice((INT4_PLUS, INT4_DIVIDE)), 1, self.random.choice((0, 1)))
        statements = [self.statement() for _ in range(self.random.choice((1, 1, 1, 2, 3, 4)))]
        if self.random.random() < 0.1:
            statements[self.random.randrange(len(statements))] = COPY
        return m.query("; ".join(statements))

    def some_extended(self) -> bytes:
        return b"".join(self.extended() for _ in range(self.random.randint(1, 4)))


def run_copy(sql: str) -> bytes:
    """A COPY in a series; nobody else uses its names, since nothing but its data may be sent behind it."""
    name = "copy"
    return m.close(name) + m.parse(sql, name) + m.bind(name, name) + m.describe(name, "P") + m.execute(name)


def request(script: Script) -> None:
    script.send(script.request())


def series_with_sync(script: Script) -> None:
    script.send(script.some_extended(), m.SYNC)


def series_with_flush(script: Script) -> None:
    script.send(script.some_extended(), m.FLUSH)


def series_with_neither(script: Script) -> None:
    script.send(script.some_extended())


def request_inside_a_series(script: Script) -> None:
    script.send(script.some_extended(), script.request())


def request_inside_a_series_with_sync(script: Script) -> None:
    """Discarded if the series fails, answered if not; if it is a COPY, Sync would be one in a COPY of a Query."""
    request = function_call(INT4_PLUS, 1, 1) if script.random.random() < 0.3 else m.query(script.statement())
    script.send(script.some_extended(), request, m.SYNC)


def pipeline(script: Script) -> None:
    script.send(*[script.some_extended() + m.SYNC for _ in range(script.random.randint(2, 6))])


def pipeline_of_one_statement(script: Script) -> None:
    """What executemany sends: equal series, of which one may fail."""
    statement = script.statement()
    script.send(m.parse(statement), *[m.bind() + m.execute() + m.SYNC] * script.random.randint(2, 6))


def pipeline_of_queries(script: Script) -> None:
    script.send(*[m.query(script.statement()) for _ in range(script.random.randint(2, 4))])


def sync(script: Script) -> None:
    script.send(m.SYNC)


def flush(script: Script) -> None:
    script.send(m.FLUSH)


def begin(script: Script) -> None:
    script.send(m.query("BEGIN"))


def two_phases(script: Script) -> None:
    script.send(m.query("BEGIN"))
    script.send(m.query("INSERT INTO truth VALUES (1)"))
    script.send(m.query(f"PREPARE TRANSACTION '{script.gid}'"))


def copy(script: Script) -> None:
    script.send(m.query(COPY))


def copy_in_a_series(script: Script) -> None:
    script.send(run_copy(COPY), script.random.choice((m.FLUSH, m.SYNC, m.FLUSH + m.SYNC)))


def copy_whose_data_is_early(script: Script) -> None:
    script.send(m.query(COPY), script.random.choice((m.copy_data(), BAD)), m.COPY_DONE)


def refused_copy(script: Script) -> None:
    """It fails without having read anything; the client learns of it too late."""
    script.send(m.SYNC)
    script.send_and_take_ready(m.query(REFUSED))
    script.send(m.copy_data(), m.COPY_DONE)


def refused_copy_in_a_series(script: Script) -> None:
    """The Sync behind it is answered: it was not read in copy mode (docs/protocol.md, 14)."""
    script.send_and_take_ready(run_copy(REFUSED), m.SYNC)
    if script.random.random() < 0.5:
        script.send(m.copy_data(), m.COPY_DONE, m.SYNC)


STEPS: dict[Callable[[Script], None], int] = {
    request: 6,
    series_with_sync: 5,
    series_with_flush: 5,
    series_with_neither: 2,
    request_inside_a_series: 2,
    request_inside_a_series_with_sync: 2,
    pipeline: 2,
    pipeline_of_one_statement: 1,
    pipeline_of_queries: 1,
    sync: 1,
    flush: 1,
    begin: 2,
    two_phases: 1,
    copy: 1,
    copy_in_a_series: 1,
    copy_whose_data_is_early: 1,
    refused_copy: 1,
    refused_copy_in_a_series: 1,
}


def data(script: Script) -> None:
    script.send(m.copy_data(), script.random.choice((b"", m.copy_data(), m.FLUSH)))


def done(script: Script) -> None:
    script.send(m.copy_data(), m.COPY_DONE, script.random.choice((m.SYNC, m.FLUSH)) if script.series else b"")


def fail(script: Script) -> None:
    script.send(m.copy_data(), m.copy_fail(), m.SYNC if script.series else b"")


def bad_data_and_late_data(script: Script) -> None:
    late = script.random.choice((b"", m.copy_data(), m.copy_data() + m.COPY_DONE, m.COPY_DONE, m.copy_fail()))
    script.send(BAD, late, m.SYNC if script.series else b"")


def sync_that_is_not_one(script: Script) -> None:
    """A Sync is ignored while the server reads COPY data."""
    script.send(m.SYNC if script.series else m.FLUSH)


COPY_STEPS: dict[Callable[[Script], None], int] = {
    data: 2,
    done: 3,
    fail: 1,
    bad_data_and_late_data: 2,
    sync_that_is_not_one: 1,
}
