"""Tells of one session in order, when what had to be asked for is known.

Judging and acting never wait for it. What is told of later waits behind what was told of before.
"""

import asyncio
import dataclasses
from collections.abc import Callable
from typing import Protocol

from proxy.leash.witnesses import Witnesses
from proxy.report import events
from proxy.report.event import Event
from proxy.report.reporter import Reporter


class Named(Protocol):
    """A session that says whose it is."""

    def facts(self) -> events.Session:
        """Who this is."""


class Connected(Protocol):
    """What is asked of a session."""

    def client_transport(self) -> asyncio.Transport | None:
        """Its connection to the client, while there is one."""


class Telling:
    """One session's voice.

    Args:
        witnesses: whom to ask.
        reporter: takes events.
        session: the session.
    """

    __slots__ = ("_asked", "_asking", "_blast", "_process", "_reporter", "_session", "_waiting", "_witnesses")

    def __init__(self, witnesses: Witnesses, reporter: Reporter, session: Connected) -> None:
        self._witnesses = witnesses
        self._reporter = reporter
        self._session = session
        self._process: events.Process | None = None
        self._asked = False  # for the process: it does not change
        self._blast: tuple[str, events.Blast] | None = None  # and the leak that it is of
        self._asking: asyncio.Task[None] | None = None
        self._waiting: list[Callable[[], None]] = []

    def ask(self, leak: events.Leak | None = None, holds: Callable[[], bool] = lambda: False) -> None:
        """Ask which process it is: what is told from now on waits until that is known.

        Args:
            leak: one that is new and does harm: what it does is asked, too.
            holds: whether it does so to this moment.
        """
        transport = None if self._asked else self._session.client_transport()
        self._asked = True
        if self._asking is None and self._witnesses.may_know(transport, leak):
            self._asking = self._witnesses.spawn(self._ask(transport, leak, holds))
            self._asking.add_done_callback(self._asked_all)

    async def _ask(
        self, transport: asyncio.Transport | None, leak: events.Leak | None, holds: Callable[[], bool]
    ) -> None:
        witnesses = self._witnesses
        process, blast = await asyncio.gather(witnesses.process(transport), witnesses.blast(leak, holds))
        self._process = process or self._process
        self._blast = (leak.id, blast) if leak and blast else None

    def _asked_all(self, _task: asyncio.Task[None]) -> None:
        """There is an answer, or there will be none: also where the proxy stops before it could ask."""
        self._asking = None
        waiting, self._waiting = self._waiting, []
        for say in waiting:
            try:
                say()
            except Exception as error:  # noqa: BLE001 - the others are told all the same
                self._reporter.emit(events.InternalError.of(error))

    def tell(self, leak: events.Leak, make: Callable[[events.Leak], Event]) -> None:
        """Tell of a leak.

        Args:
            leak: what is known of it now.
            make: makes the event from that and what was asked for.
        """
        self._say(lambda: self._reporter.emit(make(self.complete(leak))))

    def count(self, event: Event) -> None:
        """Count what is not told."""
        self._say(lambda: self._reporter.count(event))

    def tell_of(self, session: events.Session, make: Callable[[events.Session], Event]) -> None:
        """Tell of something else about the session."""
        self.ask()
        self._say(lambda: self._reporter.emit(make(self.with_process(session))))

    def _say(self, say: Callable[[], None]) -> None:
        if self._asking is None:
            say()
        else:
            self._waiting.append(say)

    def with_process(self, session: events.Session) -> events.Session:
        """A session, with its client's process if that is known."""
        return dataclasses.replace(session, process=self._process) if self._process else session

    def complete(self, leak: events.Leak) -> events.Leak:
        """A leak, with what was asked for as far as that is known."""
        known = self._blast
        blast = known[1] if known and known[0] == leak.id else None
        return dataclasses.replace(leak, session=self.with_process(leak.session), blast=blast)
