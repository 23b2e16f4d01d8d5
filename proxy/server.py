"""Listeners, accept, drain; owns the sessions.

start -> clients are greeted, and get sessions -> drain: no new clients, sessions end with their transactions
"""

import asyncio
import contextlib
import itertools
import ssl
from collections.abc import Awaitable, Callable, Coroutine
from typing import Final

from proxy import __version__
from proxy.errors import NetworkError, OperatorError
from proxy.greeting import Greeting
from proxy.leash.clients import Clients
from proxy.leash.terms import Terms
from proxy.leash.watch import Watch
from proxy.leash.witnesses import Witnesses
from proxy.report import events
from proxy.report.habits import AllHabits
from proxy.report.reporter import Reporter
from proxy.report.seldom import Seldom
from proxy.session import Session
from proxy.settings import NEVER, Address, ClientTlsMode, Settings
from proxy.sockets import claim, make_room, open_to_all, reason_of, remove
from proxy.tls import files
from proxy.tls.contexts import ClientsContext
from proxy.upstream import Upstream
from proxy.wire import replies
from proxy.wire.startup import CancelRequest, StartupMessage

DRAIN_POLL: Final = 0.05  # seconds between two looks at which sessions have become idle
CLOSE_WITHIN: Final = 1.0  # seconds
UNFOLD_EVERY: Final = 5.0  # seconds between two looks at which counts of identical events are to be told
BACKLOG: Final = 1024

DRAINED: Final = replies.fatal(
    replies.ADMIN_SHUTDOWN,
    "terminating connection due to administrator command",
    detail="pgleash is shutting down.",
)


class Server:
    """The proxy.

    Args:
        settings: the configuration.
        reporter: takes events.

    Raises:
        SettingsError: a file of certificates, or how to ask for the blast radius, is not what it should be.

    Attributes:
        addresses: where it listens, with the real port where 0 was asked for.
        sessions: those that are not over.
        watch: what they are judged by, and what is known of their clients.
    """

    def __init__(self, settings: Settings, reporter: Reporter) -> None:
        self._settings = settings
        self._reporter = reporter
        self._numbers = itertools.count(1)
        self._greetings: set[Greeting] = set()
        self._listeners: list[asyncio.Server] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._cancels: set[asyncio.Task[None]] = set()  # to be finished whatever happens; they have a deadline
        self._client_cancels = 0
        self._unreachable = Seldom()
        self._dropped = Seldom()
        self._upstream = Upstream(settings, reporter)
        self.watch = Watch(
            Terms(settings), reporter, Clients(reporter), AllHabits(), Witnesses(settings, reporter, self._spawn)
        )
        self._shown = _shown(settings, reporter)
        self._reporting: asyncio.Task[None] | None = None
        self._draining = False
        self.addresses: list[Address] = []
        self.sessions: set[Session] = set()
        self._refused: set[Session] = set()  # clients that are being told why they get no session

    # Listening.

    async def start(self, admin: Callable[[], Awaitable[str]] | None = None) -> None:
        """Listen; from here on clients are served.

        Args:
            admin: starts the admin side beside it, and returns its address.

        Raises:
            OperatorError: an address cannot be listened on, or max_sessions does not fit.
        """
        asyncio.get_running_loop().set_exception_handler(self._failed)
        make_room(self._settings.max_sessions)
        try:
            for address in self._settings.listen:
                await self._listen(address)
            shown = await admin() if admin else ""
        except OperatorError:
            await self._close_listeners()
            raise
        self._reporting = self._spawn(self._report_regularly())
        self._spawn(self._unfold_regularly())
        self._reporter.emit(
            events.ProxyStarted(
                version=__version__,
                listen=tuple(str(address) for address in self.addresses),
                upstream=str(self._settings.upstream),
                client_tls=self._settings.client_tls.mode,
                upstream_tls=self._settings.upstream_tls_mode,
                admin=shown,
            )
        )

    def change(self, settings: Settings) -> None:
        """Go by these settings from now on; what is being done is judged by them at once.

        Raises:
            SettingsError: certificates, or the blast radius, are not what they should be; nothing has changed.
            OperatorError: max_sessions does not fit; nothing has changed.
        """
        shown, upstream = _shown(settings, self._reporter), Upstream(settings, self._reporter)
        make_room(settings.max_sessions)
        self.watch.witnesses.change(settings)
        report_every = self._settings.report_every
        self._settings, self._shown, self._upstream = settings, shown, upstream
        self.watch.terms.change(settings)
        for session in self.sessions:
            session.guard.reconsider()
        if self._reporting is not None and settings.report_every != report_every:
            self._reporting.cancel()
            self._reporting = self._spawn(self._report_regularly())

    async def _listen(self, address: Address) -> None:
        loop = asyncio.get_running_loop()
        try:
            if address.is_unix:
                listener = await self._listen_unix(loop, address)
                self.addresses.append(address)
            else:
                listener = await loop.create_server(self._greet, address.host, address.port, backlog=BACKLOG)
                self.addresses.append(Address(address.host, listener.sockets[0].getsockname()[1]))
        except OSError as error:
            raise OperatorError(f"listen: cannot listen on {address}: {reason_of(error)}") from error
        self._listeners.append(listener)

    async def _listen_unix(self, loop: asyncio.AbstractEventLoop, address: Address) -> asyncio.Server:
        claim(address.path, "listen")
        listener = await loop.create_unix_server(self._greet, address.path, backlog=BACKLOG)
        open_to_all(address.path)
        return listener

    def _greet(self) -> Greeting:
        greeting = Greeting(self, self._settings.startup_timeout, self._greetings.discard)
        self._greetings.add(greeting)
        return greeting

    # What a greeting leads to.

    def open_session(self, transport: asyncio.Transport, startup: StartupMessage, rest: bytes) -> None:
        """Give a client a session."""
        session = Session(next(self._numbers), startup, self._settings, self._upstream, self._reporter, self)
        transport.set_protocol(session.client)
        session.client.connection_made(transport)
        if self._draining:
            self._refuse(session, DRAINED)
        elif len(self.sessions) >= self._settings.max_sessions:
            self._refuse(session, _too_many(self._settings.max_sessions))
        else:
            self.sessions.add(session)
            self._spawn(self._connect(session, rest))

    def _refuse(self, session: Session, words: bytes) -> None:
        self._refused.add(session)
        session.ending.end_client(words)

    def over(self, session: Session) -> None:
        """A session has ended."""
        self.sessions.discard(session)
        self._refused.discard(session)

    async def _connect(self, session: Session, rest: bytes) -> None:
        try:
            await session.connect(rest)
        except NetworkError as error:
            self._tell_unreachable(error)
            session.unreachable(error)
        except Exception as error:  # noqa: BLE001 - a fault of ours must not keep a client waiting
            self._reporter.emit(events.InternalError.of(error))
            session.ending.abort()

    def _tell_unreachable(self, error: NetworkError) -> None:
        """A pool that tries again and again would fill the log."""
        if failures := self._unreachable.happened(asyncio.get_running_loop().time()):
            self._reporter.emit(
                events.UpstreamUnreachable(
                    upstream=error.address, reason=error.cause, hint=error.hint, failures=failures
                )
            )

    def cancel(self, transport: asyncio.Transport, request: CancelRequest) -> None:
        """Forward a cancel request: to the address of the session that is meant, any other to upstream."""
        limit = self._settings.max_cancels
        if self._client_cancels >= limit:
            transport.close()
            if dropped := self._dropped.happened(asyncio.get_running_loop().time()):
                self._reporter.emit(events.CancelDropped(dropped=dropped, limit=limit))
            return
        self._client_cancels += 1
        meant = (session.server_address for session in self.sessions if session.is_meant(request.key))
        self._spawn(self._cancel(transport, next(meant, self._settings.upstream), request.packet))

    async def _cancel(self, transport: asyncio.Transport, address: Address, packet: bytes) -> None:
        try:
            await self._upstream.cancel(address, packet)
        finally:
            self._client_cancels -= 1
            transport.close()

    def send_cancel(self, address: Address, packet: bytes) -> None:
        """Cancel a statement that nobody waits for any more."""
        self._spawn(self._upstream.cancel(address, packet), self._cancels)

    def tls(self) -> ssl.SSLContext | None:
        """What clients that ask for TLS get, or None."""
        return None if self._shown is None else self._shown.current()

    @property
    def tls_required(self) -> bool:
        """Whether clients have to ask for it."""
        return self._settings.client_tls.mode is ClientTlsMode.REQUIRE

    def violated(self, event: events.ProtocolViolation) -> None:
        """Somebody has sent what is not the protocol."""
        self._reporter.emit(event)

    def find(self, session_id: str) -> Session | None:
        """The session of this id: for what somebody asks to be done by hand."""
        return next((session for session in self.sessions if session.id == session_id), None)

    # The end.

    async def drain(self) -> None:
        """Take no new clients, end sessions when they have nothing open, and all of them at drain_timeout."""
        self._draining = True
        timeout = self._settings.drain_timeout
        known = None if timeout == NEVER else timeout
        self._reporter.emit(events.ProxyDraining(sessions=len(self.sessions), timeout_s=known))
        await self._close_listeners()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(known):
                # Polled only while draining: an event would cost a look at every message all the time.
                while not all([session.ending.drain(DRAINED) for session in self.sessions]):  # noqa: ASYNC110, C419
                    await asyncio.sleep(DRAIN_POLL)
        await self.stop()

    async def stop(self, *, at_once: bool = False) -> None:
        """End everything now; cancel requests that are under way are finished, unless it has to be at once."""
        self._draining = True
        await self._close_listeners()
        cut = sum([session.ending.cut(DRAINED) for session in list(self.sessions)])
        if self.sessions:
            await asyncio.sleep(DRAIN_POLL)  # for the last words to leave
        for session in self.sessions | self._refused:
            session.ending.abort()
        for greeting in list(self._greetings):
            greeting.abort()
        for task in self._tasks | self._cancels if at_once else self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, *self._cancels, return_exceptions=True)
        await self._all_closed()
        self.watch.clients.stop()
        await self.watch.witnesses.close()
        self._reporter.close()
        if self._settings.report_every != NEVER:
            self._reporter.report()
        self._reporter.emit(events.ProxyStopped(cut=cut))

    async def _all_closed(self) -> None:
        """Sockets that were aborted close in the loop's next turn."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_WITHIN):
                while self.sessions or self._refused:  # noqa: ASYNC110 - one turn, not a condition to signal
                    await asyncio.sleep(0)

    async def _close_listeners(self) -> None:
        for listener in self._listeners:
            listener.close()
        self._listeners.clear()
        for address in self.addresses:
            if address.is_unix:
                remove(address.path)
        self.addresses.clear()

    def _failed(self, _loop: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
        """A callback or a task of ours has raised; asyncio would print what it was given, which may be anybody's."""
        error = context.get("exception")
        if isinstance(error, Exception):
            self._reporter.emit(events.InternalError.of(error))

    # Tasks.

    def _spawn(
        self, work: Coroutine[None, None, None], kept: set[asyncio.Task[None]] | None = None
    ) -> asyncio.Task[None]:
        """The only place that makes tasks that sessions need: they are kept until they are done."""
        kept = self._tasks if kept is None else kept
        task = asyncio.get_running_loop().create_task(work)
        kept.add(task)
        task.add_done_callback(kept.discard)
        return task

    async def _report_regularly(self) -> None:
        while self._settings.report_every != NEVER:
            await asyncio.sleep(self._settings.report_every)
            self._reporter.report()

    async def _unfold_regularly(self) -> None:
        while True:
            await asyncio.sleep(UNFOLD_EVERY)
            self._reporter.unfold()


def _shown(settings: Settings, reporter: Reporter) -> files.Followed[ClientsContext] | None:
    """What clients that ask for TLS get."""
    offered = settings.client_tls.mode is not ClientTlsMode.DISABLE
    return files.for_clients(settings.client_tls, reporter) if offered else None


def _too_many(limit: int) -> bytes:
    return replies.fatal(
        replies.TOO_MANY_CONNECTIONS,
        "sorry, too many clients already",
        detail=f"pgleash has {limit} sessions, which is its max_sessions.",
    )
