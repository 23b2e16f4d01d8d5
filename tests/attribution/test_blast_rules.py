"""When the side connection is asked, how often, and what is told: no server, and a clock that jumps."""

import asyncio
import selectors
import subprocess
import sys
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

import pytest

from proxy.attribution import inquiry
from proxy.attribution.blast import BACK_OFF, PATIENCE, Backend, Blast, BlastRadius, check_dsn
from proxy.attribution.inquiry import Found
from proxy.errors import OperatorError

FOUND = Found(
    is_session=True, is_visible=True, role="watcher", age_s=10.0, locks=[], held=0, blocked_sessions=3,
    oldest_wait_s=2.0, xid_age=None, xmin_age=None,
)  # fmt: skip
BLAST = Blast((), 3, 2.0, None, None)


class Skipping(selectors.DefaultSelector):
    """Does not wait for a timer, but skips the time until then."""

    skipped = 0.0

    def select(self, timeout: float | None = None) -> Any:
        ready = super().select(0)
        if not ready:
            assert timeout is not None, "it waits for ever"
            self.skipped += timeout
        return ready


class Loop(asyncio.SelectorEventLoop):
    """A loop without waiting."""

    def __init__(self) -> None:
        self._skipping = Skipping()
        super().__init__(self._skipping)

    def time(self) -> float:
        return self._skipping.skipped


class Server:
    """Answers as it is told to.

    Attributes:
        asked: when, and about which process.
        takes: seconds until it answers.
        says: its answer, or what is raised.
        busy, busiest: how many it was asked at once.
    """

    def __init__(self) -> None:
        self.asked: list[tuple[float, int]] = []
        self.takes = 0.01
        self.says: Found | BaseException = FOUND
        self.busy = self.busiest = 0

    async def ask(self, _parts: Mapping[str, str], pid: int, _user: str, _database: str) -> Found:
        self.asked.append((asyncio.get_running_loop().time(), pid))
        self.busy += 1
        self.busiest = max(self.busiest, self.busy)
        try:
            await asyncio.sleep(self.takes)
        finally:
            self.busy -= 1
        if isinstance(self.says, BaseException):
            raise self.says
        return self.says


class Side:
    """A side connection to that server."""

    def __init__(self) -> None:
        self.server = Server()
        self.told: list[str] = []
        self.radius = BlastRadius("host=/nowhere", self.told.append)

    async def of(self, pid: int = 11, database: str = "shop") -> Blast | None:
        return await self.radius.of(Backend(pid, "alice", database, 10.0))


Play = Callable[[Callable[[Side], Coroutine[object, object, None]]], None]


@pytest.fixture
def play(monkeypatch: pytest.MonkeyPatch) -> Play:
    """Runs a scene, and closes the side connection."""

    def run(scene: Callable[[Side], Coroutine[object, object, None]]) -> None:
        async def whole() -> None:
            side = Side()
            monkeypatch.setattr(side.radius, "_ask", side.server.ask)
            await scene(side)
            await side.radius.close()
            assert side.server.busy == 0
            assert await side.of(99) is None

        with asyncio.Runner(loop_factory=Loop) as runner:
            runner.run(whole())

    return run


def now() -> float:
    return asyncio.get_running_loop().time()


def test_an_answer_is_good_for_a_second(play: Play) -> None:
    async def scene(side: Side) -> None:
        assert await asyncio.gather(*(side.of() for _ in range(5))) == [BLAST] * 5
        await asyncio.sleep(0.9)
        assert await side.of() == BLAST
        assert len(side.server.asked) == 1
        await asyncio.sleep(0.2)
        side.server.says = FOUND._replace(blocked_sessions=4, age_s=None)
        assert await side.of() is None
        side.server.says = FOUND
        assert await side.of() is None
        assert len(side.server.asked) == 2

    play(scene)


def test_few_are_asked_in_a_second_one_at_a_time(play: Play) -> None:
    async def scene(side: Side) -> None:
        answers = await asyncio.gather(*(side.of(pid) for pid in range(1, 31)))
        assert now() <= PATIENCE
        assert answers == [BLAST] * 4 + [None] * 26
        assert [round(when, 2) for when, _ in side.server.asked] == [0.0, 0.25, 0.5, 0.75]
        await asyncio.sleep(1)
        side.server.asked.clear()
        side.server.takes = 0.6
        began = now()
        answers = await asyncio.gather(*(side.of(pid) for pid in range(1, 31)))
        assert now() - began <= PATIENCE
        assert answers == [BLAST] + [None] * 29
        await asyncio.sleep(2)
        assert len(side.server.asked) == 2  # the third would be for nobody
        assert side.server.busiest == 1
        assert side.told == []

    play(scene)


def test_who_does_not_wait_for_the_answer_leaves_it_to_the_others(play: Play) -> None:
    async def scene(side: Side) -> None:
        asking = [asyncio.create_task(side.of()) for _ in range(2)]
        await asyncio.sleep(0)
        asking[0].cancel()
        assert await asking[1] == BLAST

    play(scene)


def test_a_server_that_fails_is_left_alone_and_told_of_once(play: Play) -> None:
    async def scene(side: Side) -> None:
        server = side.server
        server.says = OperatorError("it is down")
        for _ in range(4 * int(BACK_OFF)):
            assert await side.of() is None
            await asyncio.sleep(0.5)
        assert [round(when) for when, _ in server.asked] == [0, 10]
        assert side.told == ["the side connection failed: it is down; locks held and sessions blocked are left out"]
        server.says = OperatorError("it is full")
        await asyncio.sleep(BACK_OFF)
        assert await side.of() is None
        assert [told.partition(";")[0][-10:] for told in side.told] == ["it is down", "it is full"]
        server.says = FOUND
        await asyncio.sleep(BACK_OFF)
        assert await side.of() == BLAST
        server.says = OperatorError("it is down")
        await asyncio.sleep(1)
        assert await side.of() is None
        assert len(side.told) == 3

    play(scene)


def test_one_database_that_fails_is_left_alone_alone(play: Play) -> None:
    async def scene(side: Side) -> None:
        side.server.says = OperatorError("no entry for the database")
        assert await side.of(11, "closed") is None
        side.server.says = FOUND
        assert await side.of(12) == BLAST
        assert await side.of(11, "closed") is None
        assert [pid for _, pid in side.server.asked] == [11, 12]

    play(scene)


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (ValueError("secret"), "the side connection failed: ValueError"),
        (TimeoutError("secret"), "the side connection had no answer within 1 s"),
        (OperatorError("it is down"), "the side connection failed: it is down"),
    ],
)
def test_whatever_goes_wrong_nothing_is_raised(play: Play, error: Exception, told: str) -> None:
    async def scene(side: Side) -> None:
        side.server.says = error
        assert await side.of() is None
        assert [text.partition(";")[0] for text in side.told] == [told]

    play(scene)


def test_who_asks_waits_a_second_at_most(play: Play) -> None:
    async def scene(side: Side) -> None:
        side.server.takes = 3600.0
        assert await side.of() is None
        assert now() == pytest.approx(PATIENCE)
        await asyncio.sleep(1)
        assert side.server.busy == 0
        assert len(side.told) == 1

    play(scene)


def test_what_is_told_is_bounded(play: Play) -> None:
    async def scene(side: Side) -> None:
        for number in range(300):
            side.server.says = OperatorError(f"for reason {number}")
            assert await side.of(database=f"shop{number}") is None
            await asyncio.sleep(1)
        assert len(side.told) == 300
        side.server.says = OperatorError("for reason 299")
        assert await side.of(database="shop") is None
        assert len(side.told) == 300

    play(scene)


def test_psycopg_is_loaded_only_where_it_is_used() -> None:
    program = "import sys; import proxy.attribution.blast; sys.exit('psycopg' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True)


# Connection strings.

GOOD = [
    "host=/run/postgresql user=watcher",
    "postgresql://watcher:p%40ss@db.example:5432/postgres?sslmode=verify-full",
    "postgresql://watcher@[::1]:5432,second.example:5433/",
    "host=@abstract port=5432,",
]
BAD = {
    "": "names no host",
    "service=hunter2": "names no host",
    "hunter2": "no = in it",
    "mysql://watcher:hunter2@db/postgres": "no = in it",
    "postgresql://watcher:hunter2%zz@db/postgres": "written %25",
    "host=db password='hunter2": "a quote is not closed",
    "host=db password=my hunter2=word": "an option that libpq does not know",
    "postgresql://watcher@db/postgres?hunter2=1": "an option that libpq does not know",
    "postgresql://watcher:hunter2@[::1/postgres": "%3A %40",
    "postgresql://watcher:my@hunter2:hunter2@db/postgres": "the port",
    "postgresql://watcher:hunter2/@db/postgres": "the port",
    "postgresql://watcher:my@hunter2@db/postgres": "an @ in it",
    "postgresql://watcher:5432/hunter2@db/postgres": "an @ in it",
    "host=db password=hunter2\udcff": "postgresql://",
}


@pytest.mark.parametrize("dsn", GOOD)
def test_takes_what_names_a_host(dsn: str) -> None:
    check_dsn(dsn)


@pytest.mark.parametrize(("dsn", "hint"), BAD.items())
def test_says_what_is_wrong_with_a_connection_string_and_quotes_nothing(dsn: str, hint: str) -> None:
    for check in (check_dsn, lambda dsn: BlastRadius(dsn, print)):
        with pytest.raises(ValueError, match="this connection string, which is not shown") as raised:
            check(dsn)
        assert hint in str(raised.value)
        assert "hunter2" not in str(raised.value)
        assert raised.value.__context__ is None or raised.value.__suppress_context__


def test_a_line_of_what_is_told_is_printable_and_short() -> None:
    assert inquiry.printable("a\nb\u202ec", 5) == "a?b?c"
    assert inquiry.printable("abcdef", 5) == "abcd…"
