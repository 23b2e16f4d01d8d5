"""The proxy in a thread of its own, so that the main thread can wait for signals and for the command."""

import asyncio
import contextlib
import threading
from collections.abc import Coroutine, Mapping
from typing import TYPE_CHECKING, Any, Final, TypeVar

import uvloop

from proxy.report.reporter import Reporter
from proxy.run.verdict import LEFT
from proxy.server import DRAINED, Server
from proxy.settings import NEVER, Address, Settings

if TYPE_CHECKING:
    from proxy.admin.listener import Admin

Result = TypeVar("Result")

SETTLE: Final = 0.05  # seconds for the last bytes and the end of a command's connections to arrive
POLL: Final = 0.02  # seconds between two looks at what is still open


class Background:
    """A proxy while a command runs.

    Args:
        settings: the configuration.
        reporter: takes events.
        environment: where the process says which pod it runs in.
    """

    def __init__(self, settings: Settings, reporter: Reporter, environment: Mapping[str, str]) -> None:
        self._environment = environment
        self._admin: Admin | None = None
        self._settings = settings
        self._reporter = reporter
        self._loop = uvloop.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._server: Server | None = None

    def start(self) -> Address:
        """Listen; returns where.

        Raises:
            OperatorError: an address cannot be listened on, or the configuration does not work.
        """
        self._thread.start()
        return self._call(self._start())

    async def _start(self) -> Address:
        self._server = Server(self._settings, self._reporter)
        self._admin = self._make_admin(self._server)
        await self._server.start(self._admin.start if self._admin else None)
        return self._server.addresses[0]

    def _make_admin(self, server: Server) -> "Admin | None":
        if self._settings.admin.listen is None:
            return None
        from proxy.admin.listener import Admin  # noqa: PLC0415 - aiohttp takes longer to import than all else

        return Admin(self._settings, server, self._reporter, self._environment)

    def finish(self) -> int:
        """End what is left, and the thread; returns how many transaction blocks have ended by themselves."""
        blocks = self._call(self._finish())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.run_until_complete(self._loop.shutdown_default_executor())
        self._loop.close()
        return blocks

    async def _finish(self) -> int:
        server = self._server
        if server is None:
            return 0
        await asyncio.sleep(SETTLE)
        timeout = self._settings.drain_timeout
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(None if timeout == NEVER else timeout):
                while not all([session.ending.drain(DRAINED) for session in server.sessions]):  # noqa: ASYNC110, C419
                    await asyncio.sleep(POLL)
        self._left(server)
        if self._admin is not None:
            await self._admin.stop()
        await server.stop()
        return sum(advice.transactions for advice in server.watch.habits)

    def _left(self, server: Server) -> None:
        """Processes that outlive the command may hold transactions: they would not be told of otherwise."""
        for session in server.sessions:
            if not session.guard.stopped:
                session.guard.client_gone(LEFT, self._loop.time())

    def _call(self, work: Coroutine[Any, Any, Result]) -> Result:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()
