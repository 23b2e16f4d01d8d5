"""A proxy in a thread of its own, and the events that it reports."""

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Self, TypeVar

import uvloop
from psycopg.conninfo import make_conninfo

from proxy.demo.postgres import Postgres
from proxy.report.event import Event
from proxy.report.reporter import Reporter
from proxy.server import Server
from proxy.session import Session
from proxy.settings import Address, Settings, load

Kind = TypeVar("Kind", bound=Event)
Value = TypeVar("Value")
PATIENCE = 10.0  # seconds that a test waits for what has to come


class Recorder:
    """A log that tests can ask."""

    def __init__(self) -> None:
        self._news = threading.Condition()
        self.events: list[tuple[float, Event]] = []

    def write(self, event: Event) -> None:
        with self._news:
            self.events.append((time.monotonic(), event))
            self._news.notify_all()

    def would_write(self, event: type[Event]) -> bool:
        return bool(event)

    def of(self, kind: type[Kind]) -> list[Kind]:
        with self._news:
            return [event for _, event in self.events if isinstance(event, kind)]

    def wait(self, kind: type[Kind], timeout: float = PATIENCE, count: int = 1) -> Kind:
        """The event of this kind, once so many of them have come; the last one."""
        return self.wait_timed(kind, timeout, count)[1]

    def wait_timed(self, kind: type[Kind], timeout: float = PATIENCE, count: int = 1) -> tuple[float, Kind]:
        """The same, with the time at which it was reported."""

        def found() -> list[tuple[float, Kind]]:
            return [(when, event) for when, event in self.events if isinstance(event, kind)]

        with self._news:
            arrived = self._news.wait_for(lambda: len(found()) >= count, timeout)
            assert arrived, f"no {kind.__name__} within {timeout} s, but {[event for _, event in self.events]}"
            return found()[count - 1]


class Proxy:
    """A running proxy; in a loop of its own, unless it is given another one."""

    def __init__(self, settings: Settings, loop: asyncio.AbstractEventLoop | None = None) -> None:
        self.recorder = Recorder()
        self.reporter = Reporter(self.recorder)
        self.settings = settings
        self._loop = loop or uvloop.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="proxy")
        self._server: Server | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        self.call(self._start)
        return self

    def __exit__(self, *_: object) -> None:
        self.call(self.server.stop)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def _run(self) -> None:
        self._loop.run_forever()
        self._loop.run_until_complete(self._loop.shutdown_default_executor())
        self._loop.close()

    async def _start(self) -> None:
        self._server = Server(self.settings, self.reporter)
        await self._server.start()

    @property
    def server(self) -> Server:
        assert self._server is not None
        return self._server

    @property
    def address(self) -> Address:
        return self.server.addresses[0]

    def call(self, work: Callable[[], object], timeout: float = PATIENCE) -> object:
        """Run a coroutine function in the proxy's loop and wait for it."""

        async def run() -> object:
            result = work()
            return await result if asyncio.iscoroutine(result) else result

        future: Future[object] = asyncio.run_coroutine_threadsafe(run(), self._loop)
        return future.result(timeout)

    def ask(self, question: Callable[[], Value]) -> Value:
        """Ask something in the proxy's loop."""
        answers: list[Value] = []
        self.call(lambda: answers.append(question()))
        return answers[0]

    def session_of(self, backend_pid: int) -> Session:
        """The session that this backend belongs to."""
        return self.ask(
            lambda: next(session for session in self.server.sessions if session.tracker.flow.backend.pid == backend_pid)
        )

    def settle(self, sessions: int = 0, timeout: float = PATIENCE) -> None:
        """Wait until no more than so many sessions are left."""
        until(lambda: self.ask(lambda: len(self.server.sessions)) <= sessions, timeout, "sessions are left")


def settings_for(upstream: str, **options: str) -> Settings:
    """Settings of a proxy on a free port; options as flags, with `__` for a dot."""
    flags = {"listen": "127.0.0.1:0", "upstream": upstream, "drain_timeout": "2s", "admin.listen": "none"}
    flags |= {name.replace("__", "."): value for name, value in options.items()}
    return load(None, {}, flags).settings


def dsn(proxy: Proxy, postgres: Postgres, **overrides: str | int) -> str:
    """How to connect to the database through the proxy."""
    return make_conninfo(postgres.dsn(host=proxy.address.host, port=proxy.address.port), **overrides)


def until(true: Callable[[], bool], timeout: float = PATIENCE, what: str = "it did not become true") -> None:
    """Wait for something that nobody announces."""
    deadline = time.monotonic() + timeout
    while not true():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)
