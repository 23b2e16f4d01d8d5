"""What a leak does to others, as a real server sees it; and what becomes of a server that does not answer."""

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from typing import Self, TypeVar

import psycopg
import pytest
import uvloop
from psycopg.conninfo import make_conninfo

from proxy.attribution.blast import PATIENCE, Backend, Blast, BlastRadius
from proxy.demo.postgres import Postgres, free_port
from tests import messages as m
from tests.harness import until
from tests.life.support import FakeServer, never_answers, speaks

PASSWORD = "marked:p@ss/word%"
TABLES = """
    DROP SCHEMA IF EXISTS blast CASCADE;
    CREATE SCHEMA blast;
    CREATE TABLE blast.invoices (id int PRIMARY KEY, note text);
    CREATE TABLE blast.partners (id int PRIMARY KEY);
    CREATE TABLE blast."odd \u202e"" \x07 name" (id int);
    CREATE SEQUENCE blast.numbers;
    INSERT INTO blast.invoices VALUES (1, ''), (2, '');
"""
UPDATE = "UPDATE blast.invoices SET note = 'x' WHERE id = 1"
STAGGER = 0.05  # seconds between two sessions that wait, so that their waits differ by more than an inquiry takes
PGBOUNCER = b"SFATAL\0C08P01\0Munsupported startup parameter: options\0\0"
FULL = b"SFATAL\0VFATAL\0C53300\0Msorry, too many clients already\0Da detail\0\0"

Result = TypeVar("Result")


@pytest.fixture(scope="module")
def watcher(postgres: Postgres) -> Iterator[str]:
    """How to connect as a role that may see everything."""
    with postgres.connect() as connection:
        connection.execute(TABLES)
        connection.execute(f"CREATE ROLE watcher LOGIN PASSWORD '{PASSWORD}' IN ROLE pg_monitor")
        yield postgres.dsn(user="watcher", password=PASSWORD)
        connection.execute("DROP ROLE watcher; DROP SCHEMA blast CASCADE")


class Desk:
    """Asks, and keeps what is told, in the loop that a proxy has."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self._runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
        self._open: list[BlastRadius] = []

    def radius(self, dsn: str) -> BlastRadius:
        self._open.append(BlastRadius(dsn, self.told.append))
        return self._open[-1]

    def run(self, work: Coroutine[object, object, Result]) -> Result:
        return self._runner.run(work)

    def ask(self, radius: BlastRadius, backend: Backend) -> Blast | None:
        return self.run(radius.of(backend))

    def close(self) -> None:
        for radius in self._open:
            self.run(radius.close())
        self._runner.close()


@pytest.fixture
def desk() -> Iterator[Desk]:
    desk = Desk()
    yield desk
    desk.close()


class Leak:
    """A transaction that stays open."""

    def __init__(self, dsn: str) -> None:
        self.connection = psycopg.connect(dsn, application_name="leak")
        self._began = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.connection.close()

    def does(self, *statements: str) -> Self:
        self._began = self._began or time.monotonic()
        for statement in statements:
            self.connection.execute(statement)
        return self

    def backend(self, **other: object) -> Backend:
        info = self.connection.info
        known = Backend(info.backend_pid, info.user, info.dbname, time.monotonic() - self._began)
        return known._replace(**other)  # type: ignore[arg-type]


@contextlib.contextmanager
def waiting(postgres: Postgres, *statements: str) -> Iterator[list[float]]:
    """Sessions that come one after the other, each to wait for a lock; and since when they do."""
    since: list[float] = []
    with contextlib.ExitStack() as stack:
        watch = stack.enter_context(postgres.connect())
        sessions = [stack.enter_context(postgres.connect()) for _ in statements]
        threads = [
            threading.Thread(target=session.execute, args=[statement], daemon=True)
            for session, statement in zip(sessions, statements, strict=True)
        ]
        ungranted = "SELECT count(DISTINCT pid) FROM pg_locks WHERE NOT granted"
        for count, thread in enumerate(threads, 1):
            thread.start()
            until(lambda count=count: watch.execute(ungranted).fetchone() == (count,), what="nobody waits")  # type: ignore[misc]
            since.append(time.monotonic())
            time.sleep(STAGGER)
        yield since
        for thread in threads:
            thread.join()


# What is found.


def test_names_the_locks_by_their_strength(postgres: Postgres, watcher: str, desk: Desk) -> None:
    with Leak(postgres.dsn()) as leak:
        leak.does(
            "SELECT * FROM blast.partners",
            "SELECT * FROM blast.invoices",
            UPDATE,
            'LOCK blast."odd \u202e"" \x07 name" IN SHARE MODE',
            "SELECT pg_advisory_xact_lock(424242)",
            "CREATE TABLE blast.unseen (id int PRIMARY KEY)",
            "SELECT relname FROM pg_class",
        )
        found = desk.ask(desk.radius(watcher), leak.backend())
    assert found is not None
    users = tuple(lock for lock in found.locks if " on pg_" not in lock)
    assert users == (
        "ExclusiveLock on an advisory lock",
        'ShareLock on blast."odd ?"" ? name"',
        "RowExclusiveLock on blast.invoices",
        "AccessShareLock on blast.partners",
    )
    assert not [lock for lock in found.locks if lock.startswith("AccessShareLock on pg_")]
    assert found[1:3] == (0, None)
    assert desk.told == []


def test_names_ten_locks_and_counts_the_others(postgres: Postgres, watcher: str, desk: Desk) -> None:
    with Leak(postgres.dsn()) as leak:
        leak.does("CREATE SCHEMA many")
        long = "n" * 61
        for number in range(15):
            leak.does(f"CREATE TABLE many.{long}{number:02}()")
        leak.connection.commit()
        leak.does(*(f"LOCK many.{long}{number:02} IN ROW SHARE MODE" for number in range(15)))
        found = desk.ask(desk.radius(watcher), leak.backend())
        leak.connection.rollback()
        leak.does("DROP SCHEMA many CASCADE").connection.commit()
    assert found is not None
    assert found.locks == (*(f"RowShareLock on many.{long}{number:02}" for number in range(10)), "and 5 more")


def test_counts_who_waits_for_it_also_in_a_queue(postgres: Postgres, watcher: str, desk: Desk) -> None:
    with Leak(postgres.dsn()) as leak, Leak(postgres.dsn()) as other:
        leak.does(UPDATE, "SELECT * FROM blast.partners")
        other.does("UPDATE blast.invoices SET note = 'y' WHERE id = 2")
        began = time.monotonic()
        to_the_other = UPDATE.replace("id = 1", "id = 2")
        with waiting(postgres, UPDATE, UPDATE, UPDATE, "TRUNCATE blast.partners", to_the_other) as since:
            asked = time.monotonic()
            found = desk.ask(desk.radius(watcher), leak.backend())
            answered = time.monotonic()
            others = desk.ask(desk.radius(watcher), other.backend())
            leak.connection.rollback()
            other.connection.rollback()
    assert found is not None
    assert others is not None
    assert found.blocked_sessions == 4
    assert others.blocked_sessions == 1
    assert found.oldest_wait_s is not None
    assert asked - since[0] <= found.oldest_wait_s <= answered - began


def test_tells_the_ages_that_keep_vacuum_away(postgres: Postgres, watcher: str, desk: Desk) -> None:
    with Leak(postgres.dsn()) as reader, Leak(postgres.dsn()) as writer, postgres.connect() as busy:
        reader.does("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ", "SELECT 1")
        writer.does(UPDATE)
        for _ in range(5):
            busy.execute("SELECT pg_current_xact_id()")
        reading = desk.ask(desk.radius(watcher), reader.backend())
        writing = desk.ask(desk.radius(watcher), writer.backend())
    assert reading is not None
    assert writing is not None
    assert reading.xid_age is None
    assert reading.xmin_age is not None
    assert reading.xmin_age >= 6
    assert writing.xid_age is not None
    assert writing.xid_age >= 6
    assert writing.xmin_age is None


@pytest.mark.parametrize("encoding", ["UTF8", "SQL_ASCII", "LATIN1"])
def test_asks_in_the_database_of_the_leak(postgres: Postgres, watcher: str, desk: Desk, encoding: str) -> None:
    with postgres.connect() as connection:
        connection.execute(f"CREATE DATABASE elsewhere TEMPLATE template0 LOCALE 'C' ENCODING {encoding}")
        try:
            with Leak(postgres.dsn(dbname="elsewhere", client_encoding="latin1")) as leak:
                leak.does("CREATE TABLE naïve ()").connection.commit()
                leak.does("LOCK naïve")
                found = desk.ask(desk.radius(watcher), leak.backend())
        finally:
            connection.execute("DROP DATABASE elsewhere WITH (FORCE)")
    assert desk.told == []
    assert found is not None
    # Where the server does not know what its bytes mean, neither do we.
    naive = "na?ve" if encoding == "SQL_ASCII" else "naïve"
    assert [lock.replace('"', "") for lock in found.locks] == [f"AccessExclusiveLock on public.{naive}"]


# What is not found, and what is told of it.


def test_a_role_that_sees_nothing_is_told_what_it_needs(
    postgres: Postgres, watcher: str, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("proxy.attribution.blast.BACK_OFF", 0.0)
    with Leak(postgres.dsn()) as leak, postgres.connect() as superuser:
        radius = desk.radius(watcher)
        monkeypatch.setattr("proxy.attribution.blast.FRESH", 0.0)
        answers = []
        for change in ("REVOKE pg_monitor FROM", "SELECT 1 --", "GRANT pg_monitor TO", "REVOKE pg_monitor FROM"):
            superuser.execute(f"{change} watcher")
            answers.append(desk.ask(radius, leak.does(UPDATE).backend()) is not None)
        superuser.execute("GRANT pg_monitor TO watcher")
    assert answers == [False, False, True, False]
    assert len(desk.told) == 2
    assert {told.partition(";")[0] for told in desk.told} == {
        "watcher may not see what other users' sessions do: grant it pg_monitor"
    }


def test_a_process_of_somebody_else_is_a_sign_of_a_pooler(postgres: Postgres, watcher: str, desk: Desk) -> None:
    with Leak(postgres.dsn()) as leak:
        leak.does(UPDATE)
        assert desk.ask(desk.radius(watcher), leak.backend(user="alice")) is None
        assert desk.ask(desk.radius(watcher), leak.backend(database="template1")) is None
    assert len(desk.told) == 2
    assert all("upstream seems to be a pooler" in told for told in desk.told)


@pytest.mark.parametrize("pid", [0, -5, 1_999_999_999])
def test_a_number_that_is_no_process_is_the_same(desk: Desk, pid: int) -> None:
    with FakeServer(never_answers) as server:
        radius = desk.radius(f"host=127.0.0.1 port={server.port}")
        for _ in range(3):
            assert desk.ask(radius, Backend(pid, "alice", "shop", 10.0)) is None
        assert server.accepted == 0
    assert len(desk.told) == 1
    assert "upstream seems to be a pooler" in desk.told[0]


def test_what_could_be_a_client_that_went_on_is_told_the_second_time(
    postgres: Postgres, watcher: str, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("proxy.attribution.blast.FRESH", 0.0)
    with Leak(postgres.dsn()) as gone:
        pass_by = gone.does(UPDATE).backend()
    with Leak(postgres.dsn()) as leak:
        radius = desk.radius(watcher)
        assert desk.ask(radius, pass_by) is None
        assert desk.ask(radius, leak.does(UPDATE).backend()) is not None
        assert desk.ask(radius, leak.backend(age_s=60.0)) is None
        assert desk.told == []
        leak.connection.rollback()
        assert desk.ask(radius, leak.backend()) is None
        assert len(desk.told) == 1


def silent(connection: socket.socket) -> None:
    while connection.recv(65_536):
        pass


@pytest.mark.parametrize(
    ("talk", "reason"),
    [
        (None, "Connection refused"),
        (silent, "no answer within 1 s"),
        (never_answers, "no answer within 1 s"),
        (speaks(m.message("E", FULL)), "sorry, too many clients already"),
        (speaks(m.message("E", PGBOUNCER)), "has to lead to Postgres itself, not to a pooler"),
    ],
    ids=["refused", "says nothing", "does not answer the query", "full", "a pooler"],
)
def test_a_server_that_gives_no_answer_does_no_harm(
    desk: Desk, talk: Callable[[socket.socket], object] | None, reason: str
) -> None:
    with FakeServer(talk or silent) as server:
        port = server.port if talk else free_port()
        radius = desk.radius(make_conninfo(host="127.0.0.1", port=port, user="watcher", password=PASSWORD))
        began = time.monotonic()
        for pid in (11, 12, 13):
            assert desk.ask(radius, Backend(pid, "alice", "shop", 10.0)) is None
        assert time.monotonic() - began < PATIENCE + 0.5
        assert server.accepted <= 2  # one inquiry, and its cancellation
    (told,) = desk.told
    assert reason in told
    assert "a detail" not in told
    assert PASSWORD not in told
    assert told.endswith("; locks held and sessions blocked are left out")


def test_a_wrong_password_is_not_told(postgres: Postgres, watcher: str, desk: Desk) -> None:
    with Leak(postgres.dsn()) as leak:
        radius = desk.radius(make_conninfo(watcher, password="watcher"))
        assert desk.ask(radius, leak.does("SELECT 1").backend()) is None
    (told,) = desk.told
    assert 'password authentication failed for user "***"' in told


def test_what_hangs_is_given_up_at_the_end(desk: Desk) -> None:
    with FakeServer(never_answers) as server:
        radius = desk.radius(make_conninfo(host="127.0.0.1", port=server.port))

        async def give_up() -> tuple[Blast | None, float]:
            asking = asyncio.create_task(radius.of(Backend(11, "alice", "shop", 10.0)))
            await asyncio.sleep(0.3)  # it has logged in and asked
            began = time.monotonic()
            await radius.close()
            return await asking, time.monotonic() - began

        found, took = desk.run(give_up())
        assert desk.ask(radius, Backend(12, "alice", "shop", 10.0)) is None
        assert server.accepted <= 2
    assert found is None
    assert took < 0.5
    assert desk.told == []
