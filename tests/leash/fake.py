"""A loop whose clock is turned by hand, and a session without sockets."""

import asyncio
import heapq
import itertools
from collections.abc import Callable, Coroutine
from typing import Any, cast

from proxy.leash.clients import Clients
from proxy.leash.describer import Describer
from proxy.leash.enforcer import Observer
from proxy.leash.guard import Guard
from proxy.leash.policy import Limits
from proxy.leash.terms import Terms
from proxy.leash.watch import Watch
from proxy.leash.witnesses import Witnesses
from proxy.report.event import Event
from proxy.report.events import Client, Session
from proxy.report.habits import AllHabits
from proxy.report.reporter import Reporter
from proxy.settings import NEVER, Settings
from proxy.wire.tracker import Tracker
from tests import messages as m


class Timer:
    def __init__(self, call: Callable[[], None]) -> None:
        self.call = call
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class FakeLoop:
    """Time passes only by `advance`."""

    def __init__(self) -> None:
        self.now = 1000.0
        self._order = itertools.count()
        self._timers: list[tuple[float, int, Timer]] = []
        self.soon: list[Timer] = []

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, call: Callable[[], None]) -> Timer:
        timer = Timer(call)
        heapq.heappush(self._timers, (when, next(self._order), timer))
        return timer

    def call_later(self, delay: float, call: Callable[[], None]) -> Timer:
        return self.call_at(self.now + delay, call)

    def call_soon(self, call: Callable[[], None]) -> Timer:
        self.soon.append(Timer(call))
        return self.soon[-1]

    @property
    def pending(self) -> int:
        return sum(not timer.cancelled for _, _, timer in self._timers) + len(self.soon)

    def advance(self, seconds: float) -> None:
        """Let time pass, and everything happen in its order."""
        end = self.now + seconds
        while self._timers and self._timers[0][0] <= end:
            self.now = max(self.now, self._timers[0][0])
            self.fire_due()
            self.turn()
        self.now = end

    def stop_the_world(self, seconds: float) -> None:
        """Time passes and nothing runs; then the timers that are due fire, but no turn of the loop is made."""
        self.now += seconds
        self.fire_due()

    def fire_due(self) -> None:
        while self._timers and self._timers[0][0] <= self.now:
            _, _, timer = heapq.heappop(self._timers)
            if not timer.cancelled:
                timer.call()

    def turn(self) -> None:
        """What was to be called soon is called, until there is nothing left."""
        while self.soon:
            waiting, self.soon = self.soon, []
            for timer in waiting:
                if not timer.cancelled:
                    timer.call()


class FakeProxy:
    """What sessions share: a loop, a log, terms, and each other.

    Args:
        limits: the only limits there are, and other options.
    """

    def __init__(self, **limits: object) -> None:
        self.loop = FakeLoop()
        self.events: list[Event] = []
        settings = self.settings(**limits)
        self.terms = Terms(settings)
        self.reporter = Reporter(self, self.loop.time)
        loop = cast("asyncio.AbstractEventLoop", self.loop)
        self.clients = Clients(self.reporter, lambda: loop)
        self.watch = Watch(
            self.terms,
            self.reporter,
            clients=self.clients,
            habits=AllHabits(),
            witnesses=Witnesses(settings, self.reporter, self.spawn),
        )

    @staticmethod
    def settings(**options: object) -> Settings:
        """Settings with these limits, and no others."""
        return Settings.model_validate({**dict.fromkeys(Limits._fields, NEVER), **options})

    @staticmethod
    def spawn(work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        raise AssertionError(f"there is nobody to ask: {work}")

    # A Sink.

    def write(self, event: Event) -> None:
        self.events.append(event)

    def would_write(self, event: type[Event]) -> bool:
        return bool(event)


class FakeSession:
    """What the guard asks of a session, and what it was told to do.

    Args:
        proxy: whose session it is; one of its own by default.
        name: its application_name, which may be SET.
        limits: those of a proxy of its own.
    """

    def __init__(self, proxy: FakeProxy | None = None, name: str = "a", /, **limits: object) -> None:
        proxy = proxy or FakeProxy(**limits)
        self.loop = proxy.loop
        self.events = proxy.events
        self.terms = proxy.terms
        self.reporter = proxy.reporter
        self.watch = proxy.watch
        self.name = name
        self.words = b""
        self.rollbacks: list[tuple[str, bytes, Callable[[str], None]]] = []
        self.in_buffer_for_client = 0
        self.in_buffer_for_server = 0
        self.taken_bytes = 0
        self.host_lost: bool | None = False
        self.transport: asyncio.Transport | None = None
        self.tracker = Tracker(
            gave_up=lambda _reason, _error: self.guard.lost_track(),
            goodbye=lambda: self.guard.client_gone("terminate", self.loop.now),
        )
        self.describer = Describer(self.tracker.flow, self.terms)
        loop = cast("asyncio.AbstractEventLoop", self.loop)
        self.guard = Guard(loop, self.tracker, self.watch, self.describer, self)
        self.frontend: Observer = lambda _data, _now: None
        self.backend: Observer = self.frontend
        self.guard.start()
        self.server(m.STARTED)

    settings = staticmethod(FakeProxy.settings)

    # Both sides speak.

    def client(self, data: bytes) -> None:
        self.frontend(data, self.loop.now)

    def server(self, data: bytes) -> None:
        self.backend(data, self.loop.now)

    def ask(self, sql: str, tag: str, status: str) -> None:
        """The client sends a Query, and the server answers it at once."""
        self.client(m.query(sql))
        self.server(m.queried(tag, status))

    def begin(self) -> None:
        """The client opens a transaction, and it is its turn."""
        self.client(m.query("BEGIN"))
        self.server(m.queried("BEGIN", "T"))

    def names(self) -> list[str]:
        return [event.event for event in self.events]

    def last(self) -> Any:
        return self.events[-1]

    # A Leashed.

    def client_transport(self) -> asyncio.Transport | None:
        return self.transport

    def unread(self) -> int:
        return self.in_buffer_for_client

    def unsent(self) -> int:
        return self.in_buffer_for_server

    def taken(self) -> tuple[int, int]:
        return self.taken_bytes, 1000

    def lost(self) -> bool | None:
        return self.host_lost

    def give_up_client(self) -> None:
        self.guard.client_gone("timeout", self.loop.now)

    def facts(self) -> Session:
        return Session(
            client=Client(user="u", database="d", application_name=self.name, address="127.0.0.1"), id="s-1", port=1
        )

    def observe(self, frontend: Observer, backend: Observer) -> None:
        self.frontend, self.backend = frontend, backend

    def roll_back(self, leak_id: str, owed: bytes, told: Callable[[str], None]) -> None:
        self.rollbacks.append((leak_id, owed, told))

    def terminate(self, words: bytes) -> None:
        self.words = words
