"""What is asked about a client that leaks: which process it is, and what its leak does to others.

The kernel and the server are asked beside the loop, for a second at most; who does not answer costs fields, no event.
"""

import asyncio
from collections.abc import Callable, Coroutine

from proxy.attribution.blast import Backend, BlastRadius
from proxy.attribution.process import Processes
from proxy.errors import SettingsError
from proxy.report import events
from proxy.report.reporter import Reporter
from proxy.settings import Settings

Spawn = Callable[[Coroutine[None, None, None]], asyncio.Task[None]]


def check(settings: Settings) -> None:
    """Look whether the server can be asked as the settings say.

    Raises:
        SettingsError: what is wrong, and what would be right.
    """
    _blast_radius(settings.attribution.blast_radius_dsn, lambda _reason: None)


def _blast_radius(dsn: str | None, told: Callable[[str], None]) -> BlastRadius | None:
    try:
        return BlastRadius(dsn, told) if dsn else None
    except ValueError as error:
        raise SettingsError([f"attribution.blast_radius_dsn: {error}"]) from None


class Witnesses:
    """Asks for all sessions of a proxy.

    Args:
        settings: what may be asked.
        reporter: takes events.
        spawn: makes tasks.

    Attributes:
        spawn: the same.
    """

    def __init__(self, settings: Settings, reporter: Reporter, spawn: Spawn) -> None:
        self._reporter = reporter
        self.spawn = spawn
        self._processes = Processes(self._told("process", events.AttributionUnavailable))
        self._dsn: str | None = None
        self._blast: BlastRadius | None = None
        self.change(settings)

    def change(self, settings: Settings) -> None:
        """Ask as these settings say from now on.

        Raises:
            SettingsError: the server cannot be asked as they say; nothing has changed.
        """
        attribution = settings.attribution
        if attribution.blast_radius_dsn != self._dsn:
            self._blast = _blast_radius(
                attribution.blast_radius_dsn, self._told("blast radius", events.BlastRadiusUnavailable)
            )
            self._dsn = attribution.blast_radius_dsn
        self._asks_kernel = attribution.processes

    def _told(self, what: str, event: type[events.AttributionUnavailable]) -> Callable[[str], None]:
        return lambda reason: self._reporter.emit(event(what=what, reason=reason))

    def may_know(self, transport: asyncio.Transport | None, leak: events.Leak | None) -> bool:
        """Whether there is somebody to ask about the client at the other end, or about the leak."""
        local = transport is not None and self._asks_kernel and self._processes.can_see(transport)
        return local or (leak is not None and self._blast is not None)

    async def process(self, transport: asyncio.Transport | None) -> events.Process | None:
        """Which program is at the other end."""
        if transport is None or not self._asks_kernel:
            return None
        found = await self._processes.of(transport)
        return found and events.Process(**found._asdict())

    async def blast(self, leak: events.Leak | None, holds: Callable[[], bool]) -> events.Blast | None:
        """What a leak does to others."""
        pid = leak.session.backend_pid if leak else None
        if self._blast is None or leak is None or pid is None:
            return None
        client = leak.client
        backend = Backend(pid, client.user, client.database, leak.transaction.age_s)
        found = await self._blast.of(backend, holds)
        return found and events.Blast(**{**found._asdict(), "locks": found.locks or None})

    async def close(self) -> None:
        """Ask no more."""
        if self._blast is not None:
            await self._blast.close()
