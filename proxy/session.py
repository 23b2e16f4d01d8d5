"""One client and its one backend, from the startup packet to the close.

    connect -> relay -> one side ends -> the other side is ended, and both are closed within a bounded time

What ends a session, and what is done then:
- the client ends (Terminate, end of stream, reset): the server's side is ended as the client's was; a statement that
  still runs is cancelled, so that the backend does not work for nobody;
- the server ends: everything it has sent is delivered, then the client sees the end of the stream, nothing else;
- pgleash ends it: last words to the client, where a message of ours may stand, and the backend is released at once.
"""

import asyncio
import enum
from collections.abc import Callable
from typing import Final, Protocol

from proxy import upstream
from proxy.errors import NetworkError
from proxy.leash.guard import Guard, Observer
from proxy.leash.identity import Identity
from proxy.leash.leak import Describer
from proxy.leash.policy import Limits
from proxy.relay import Leg
from proxy.report import events
from proxy.report.reporter import Reporter
from proxy.settings import NEVER, Address, Settings
from proxy.sockets import is_broken, peer_of, segment_size, unacknowledged, watch_for_loss
from proxy.wire import replies
from proxy.wire.flow import Phase
from proxy.wire.startup import StartupMessage
from proxy.wire.tracker import Tracker

# Seconds. A client that ends is given until GRACE to have its statement answered, its backend is gone by END_WITHIN.
GRACE: Final = 0.5
END_WITHIN: Final = 1.5
LINGER: Final = 3.0  # after our last byte to a client, for what it may still send
UNREAD_LINGER: Final = 60.0  # for a client that has not read what the server sent before it went


class Stage(enum.Enum):
    """Where a session is in its life."""

    CONNECTING = "connecting"
    RELAYING = "relaying"
    ENDING = "ending"
    OVER = "over"


class Owner(Protocol):
    """What a session asks of whoever made it."""

    def over(self, session: "Session") -> None:
        """Both sockets are closed."""

    def send_cancel(self, address: Address, packet: bytes) -> None:
        """Send a cancel request, and see that it is sent, even if pgleash stops."""


class Session:
    """A session.

    Args:
        number: tells sessions apart.
        startup: the client's startup packet.
        settings: the configuration.
        reporter: takes events.
        owner: is told when the session is over, and sends its cancel requests.

    Attributes:
        id: its name in the log.
        client: the client's side; to be given the client's transport.
        server_address: the address that was connected to, for cancel requests.
    """

    def __init__(
        self,
        number: int,
        startup: StartupMessage,
        settings: Settings,
        reporter: Reporter,
        owner: "Owner",
    ) -> None:
        loop = asyncio.get_running_loop()
        self._loop = loop
        self._startup = startup
        self._settings = settings
        self._reporter = reporter
        self._owner = owner
        self._stage = Stage.CONNECTING
        self._timers: list[asyncio.TimerHandle] = []
        self._watching_client = False
        self.id = f"s-{number:x}"
        self.tracker = Tracker(self._lost_track, self._client_said_goodbye)
        self._identity = Identity(self.id, startup, self.tracker.flow)
        describer = Describer(self.tracker.flow, settings.log.statements)
        self.guard = Guard(loop, self.tracker, Limits.of(settings), describer, reporter, self)
        self.client = Leg(loop, self._client_ended, self.guard.client_stuffed, self.guard.client_took)
        self.server = Leg(loop, self._server_ended, self._watch_client, self.guard.server_took)
        self.client.other, self.server.other = self.server, self.client
        self.server_address = settings.upstream
        if startup.is_replication or not startup.known_protocol:
            self.tracker.ignore("replication" if startup.is_replication else "a protocol of tomorrow")

    # From the startup packet to the relay.

    async def connect(self, rest: bytes) -> None:
        """Connect to the server and begin to relay; `rest` came behind the startup packet."""
        assert self.client.transport is not None  # noqa: S101 - the greeting has handed it over
        self._identity.peer = peer_of(self.client.transport)
        watch_for_loss(self.client.transport, self._settings.tcp_keepalive, self._settings.tcp_user_timeout)
        self.server.forward = self.client.transport.write  # a server that cannot fork says so before it is asked
        if self.tracker.opaque is None:
            self.guard.start()
        transport = await upstream.connect(self.server, self._settings.upstream, self._settings.connect_timeout)
        watch_for_loss(transport, self._settings.tcp_keepalive, self._settings.tcp_user_timeout)
        if not self._settings.upstream.is_unix:
            self.server_address = Address(*peer_of(transport))
        if self._stage is not Stage.CONNECTING:  # the client has gone in the meantime
            transport.abort()
            return
        self._relay(rest)

    def unreachable(self, error: NetworkError) -> None:
        """The server cannot be connected to: tell the client which one, and why."""
        if self._stage is not Stage.CONNECTING:  # the client has gone in the meantime
            return
        self.end_client(
            replies.fatal(
                replies.UNABLE_TO_CONNECT,
                f'could not connect to server "{error.address}": {error.cause}',
                detail="pgleash could not open a connection for this session.",
                hint="Check upstream in the configuration of pgleash, and that the server runs.",
            )
        )

    def _relay(self, rest: bytes) -> None:
        assert self.server.transport is not None  # noqa: S101 - it is connected
        self._stage = Stage.RELAYING
        self.server.transport.write(self._startup.packet + rest)
        self.client.forward = self.server.transport.write
        if self.tracker.opaque is None:
            self._authentication_deadline()
            self.client.observe(rest, self._loop.time())
        self.client.resume_reading()
        self._reporter.debug(events.SessionOpened, lambda: events.SessionOpened(session=self.facts()))
        if self.server.silent or self.server.closed:  # it had no use for us
            self._server_ended(None)

    def _authentication_deadline(self) -> None:
        if self._settings.authentication_timeout != NEVER:
            self._after(self._settings.authentication_timeout, self._authentication_timed_out)

    def _authentication_timed_out(self) -> None:
        if self._stage is Stage.RELAYING and self.tracker.opaque is None and self.tracker.flow.phase is Phase.STARTUP:
            self.terminate(replies.fatal(replies.QUERY_CANCELED, "canceling authentication due to timeout"))

    # What the guard asks.

    def unread(self) -> int:
        """Bytes that lie in our buffer for the client."""
        return self.client.waiting()

    def unsent(self) -> int:
        """Bytes that lie in our buffer for the server."""
        return self.server.waiting()

    def taken(self) -> tuple[int, int]:
        """Bytes of the server's that the client's side has taken, and how many it takes at a time."""
        transport = self.client.transport
        if transport is None:
            return 0, 1
        return self.server.received - self.unread() - unacknowledged(transport), segment_size(transport)

    def facts(self) -> events.Session:
        """Who this is, as far as the wire tells."""
        return self._identity.facts()

    def observe(self, frontend: Observer, backend: Observer) -> None:
        """Show bytes to these from now on."""
        self.client.observe = frontend
        self.server.observe = backend

    def _lost_track(self, reason: str, error: Exception | None) -> None:
        self.guard.lost_track()
        if error is None:
            self._reporter.emit(events.ProtocolViolation(reason=reason, session=self.facts()))
        else:
            self._reporter.emit(events.InternalError.of(error, self.facts()))

    # The client ends.

    def _client_ended(self, error: Exception | None) -> None:
        if self._stage is Stage.CONNECTING:
            self._stage = Stage.ENDING
            self.client.abort()
        elif self._stage is Stage.RELAYING:
            how = "eof" if error is None else "timeout" if isinstance(error, TimeoutError) else "reset"
            self._release_server(how)
            self.server.finish()
        if self._stage is Stage.ENDING and self.client.closed:
            self.server.discard()
        self._check_over()

    def _client_said_goodbye(self) -> None:
        if self._stage is Stage.RELAYING:
            self._release_server("terminate")

    def _release_server(self, how: str) -> None:
        """Nobody waits for this backend any more: let it finish what it can in no time, and then cut it off."""
        running = self._statement_runs()
        self._stage = Stage.ENDING
        self.guard.client_gone(how, self._loop.time())
        if running and self._settings.cancel_abandoned:
            self._after(0.0 if self.client.closed else GRACE, self._cancel_statement)
        self._after(END_WITHIN, self._abort)

    def _statement_runs(self) -> bool:
        tracker = self.tracker
        return tracker.opaque is None and not tracker.flow.due.quiet and tracker.flow.phase is not Phase.STARTUP

    def _cancel_statement(self) -> None:
        flow = self.tracker.flow
        if self.server.closed or not flow.cancel_key:
            return
        self._owner.send_cancel(self.server_address, replies.cancel_request(flow.backend_pid, flow.cancel_key))

    def _watch_client(self) -> None:
        """The server does not take what the client sends, so the client is not read from: look whether it is there."""
        if self._stage is not Stage.RELAYING or not self.unsent() or self.client.transport is None:
            return
        if is_broken(self.client.transport):
            self._release_server("reset")
            self.client.abort()
        elif not self._watching_client:
            self._watching_client = True
            self._after(GRACE, self._watch_client_again)

    def _watch_client_again(self) -> None:
        self._watching_client = False
        self._watch_client()

    # The server ends.

    def _server_ended(self, error: Exception | None) -> None:
        del error  # whatever it was, the client sees what it would have seen without us: the end of the stream
        if self._stage is Stage.CONNECTING:
            return
        if self._stage is Stage.RELAYING:
            self._stage = Stage.ENDING
            self.guard.server_gone(self._loop.time())
            self._linger(self._loop.time() + UNREAD_LINGER)
        elif self._stage is Stage.ENDING and not self.client.closed:
            self.client.finish()
        self.server.close()
        self._check_over()

    def _linger(self, patience: float) -> None:
        """End the client's stream behind all that it is still to read, and go on reading for a while."""
        self.client.discard()
        self.client.finish()
        self._after(LINGER, lambda: self._stop_lingering(patience))

    def _stop_lingering(self, patience: float) -> None:
        if self.unread() and self._loop.time() < patience:
            self._after(LINGER, lambda: self._stop_lingering(patience))
        else:
            self._abort()

    # We end it.

    def terminate(self, words: bytes) -> None:
        """End the session; the client gets these last words if a message of ours may stand there."""
        flow = self.tracker.flow
        quiet, running = flow.due.quiet, self._statement_runs() and self.tracker.hold() is None
        self._stage = Stage.ENDING
        self.guard.server_gone(self._loop.time())
        if quiet and self.tracker.frontend_at_boundary:
            self.server.write(replies.terminate())
        if running and not self.unread():  # a backend that is blocked in writing ignores a cancel; closing works
            self._cancel_statement()
        self.server.discard()
        self.server.close()
        self.end_client(words)

    def end_client(self, words: bytes) -> None:
        """Give the client these last words and end its stream, or just close where they would be torn."""
        self._stage = Stage.ENDING
        if self.unread() or not (self.server.received == 0 or self.tracker.backend_at_boundary):
            self._abort()
            return
        self.client.write(words)
        self._linger(self._loop.time())

    def drain(self, words: bytes) -> bool:
        """End the session if it has nothing open; returns whether all has been said."""
        tracker = self.tracker
        idle = tracker.opaque is None and tracker.flow.phase is Phase.READY and not tracker.in_transaction
        if self._stage is Stage.RELAYING and idle and tracker.flow.due.quiet:
            self.terminate(words)
        return self._stage in {Stage.ENDING, Stage.OVER} and not self.unread()

    def cut(self, words: bytes) -> bool:
        """End the session whatever it is doing; returns whether it had a transaction open."""
        if self._stage not in {Stage.CONNECTING, Stage.RELAYING}:
            return False
        busy = self.tracker.in_transaction
        self.terminate(words)
        return busy

    def abort(self) -> None:
        """Close both sockets now."""
        self._stage = Stage.ENDING
        self._abort()

    # Over.

    def is_meant(self, key: bytes) -> bool:
        """Whether a cancel request with this process id and key is for this session."""
        flow = self.tracker.flow
        return bool(flow.cancel_key) and key == flow.backend_pid.to_bytes(4, "big") + flow.cancel_key

    def _abort(self) -> None:
        self.client.abort()
        self.server.abort()

    def _after(self, delay: float, call: Callable[[], None]) -> None:
        self._timers.append(self._loop.call_later(delay, call))

    def _check_over(self) -> None:
        if self._stage is Stage.OVER or not (self.client.closed and self.server.closed):
            return
        self._stage = Stage.OVER
        for timer in self._timers:
            timer.cancel()
        self._owner.over(self)
        self._reporter.debug(
            events.SessionClosed,
            lambda: events.SessionClosed(
                session=self.facts(), from_client=self.client.received, from_server=self.server.received
            ),
        )
