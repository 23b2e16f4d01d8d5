"""One client and its one backend: what it is made of, from the startup packet to the relay.

connect -> relay -> one side ends, or pgleash ends it (proxy/ending.py)
"""

import asyncio
from collections.abc import Callable
from typing import Final, Protocol

from proxy.authentication import Authentication
from proxy.ending import Ending, Stage
from proxy.errors import NetworkError
from proxy.leash.describer import Describer
from proxy.leash.enforcer import Observer
from proxy.leash.guard import Guard
from proxy.leash.identity import Identity
from proxy.leash.watch import Watch
from proxy.leash.words import unsure
from proxy.relay import HIGH_WATER, Leg, nowhere
from proxy.report import events
from proxy.report.reporter import Reporter
from proxy.rollback import Rollback
from proxy.settings import NEVER, Address, Settings
from proxy.sockets import peer_of, segment_size, unacknowledged, unanswered, watch_for_loss
from proxy.tls.transport import version_of
from proxy.upstream import Dialogue, Upstream
from proxy.wire import replies
from proxy.wire.phase import Phase
from proxy.wire.startup import StartupMessage
from proxy.wire.tracker import Tracker

LOST_AFTER: Final = 2  # times tcp_keepalive: as long as keepalive itself takes


class Owner(Protocol):
    """What a session asks of whoever made it.

    Attributes:
        watch: what its sessions are judged by, and who is told.
    """

    watch: Watch

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
        upstream: the server.
        reporter: takes events.
        owner: is told when the session is over, and sends its cancel requests.

    Attributes:
        id: its name in the log.
        client: the client's side; to be given the client's transport.
        ending: ends it.
        server_address: the address that was connected to, for cancel requests.
    """

    def __init__(
        self,
        number: int,
        startup: StartupMessage,
        settings: Settings,
        upstream: Upstream,
        reporter: Reporter,
        owner: "Owner",
    ) -> None:
        loop = asyncio.get_running_loop()
        self._loop = loop
        self._startup = startup
        self._settings = settings
        self._upstream = upstream
        self._authentication: Authentication | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._rollback: Rollback | None = None
        self._early = b""  # what the client has said since its startup packet
        self._reporter = reporter
        self._owner = owner
        self.id = f"s-{number:x}"
        self.tracker = Tracker(self._lost_track, self._client_said_goodbye)
        self._identity = Identity(self.id, startup, self.tracker.flow)
        describer = Describer(self.tracker.flow, owner.watch.terms)
        self.guard = Guard(loop, self.tracker, owner.watch, describer, self)
        holding = self.guard.holding
        self.client = Leg(loop, self._client_ended, holding.client_stuffed, holding.client_took)
        self.server = Leg(loop, self._server_ended, self._server_stuffed, holding.server_took)
        self.client.other, self.server.other = self.server, self.client
        self.ending = Ending(
            (self.client, self.server), self.tracker, self.guard, self, cancel_abandoned=settings.cancel_abandoned
        )
        self.server_address = settings.upstream
        if startup.is_replication:
            self.tracker.ignore("replication")

    # From the startup packet to the relay.

    async def connect(self, rest: bytes) -> None:
        """Connect to the server and begin to relay; `rest` came behind the startup packet.

        Raises:
            NetworkError: the server cannot be connected to.
            CancelledError: the client has gone in the meantime.
        """
        client = self.client.transport
        assert client is not None  # noqa: S101 - the greeting has handed it over
        self._connecting = asyncio.current_task()
        self._early = rest
        self.client.forward = self._keep
        self.client.resume_reading()  # else nobody would notice that it goes
        self._identity.peer = peer_of(client)
        watch_for_loss(client, self._settings.tcp_keepalive, self._settings.tcp_user_timeout)
        dialogue = await self._upstream.open(self._startup.packet)
        try:
            self._take_over(client, dialogue)
        except BaseException:
            dialogue.abort()
            raise

    def _take_over(self, client: asyncio.Transport, dialogue: Dialogue) -> None:
        if not dialogue.over:
            watch_for_loss(dialogue.transport, self._settings.tcp_keepalive, self._settings.tcp_user_timeout)
        host, port = peer_of(dialogue.transport)
        if host:  # a Unix socket has none, nor has a server that is gone again
            self.server_address = Address(host, port)
        self._connecting = None
        if self.ending.stage is Stage.CONNECTING:
            self._relay(client, dialogue)
        else:  # it was ended in the meantime
            dialogue.abort()

    def _keep(self, data: bytes) -> None:
        """What a client says before there is a server to say it to: usually nothing."""
        self._early += data
        if len(self._early) > HIGH_WATER:
            self.client.pause_reading()

    def unreachable(self, error: NetworkError) -> None:
        """The server cannot be connected to: tell the client which one, and why."""
        if self.ending.stage is not Stage.CONNECTING:  # the client has gone in the meantime
            return
        self.ending.end_client(
            replies.fatal(
                replies.UNABLE_TO_CONNECT,
                f'could not connect to server "{error.address}": {error.cause}',
                detail="pgleash could not open a connection for this session.",
                hint=error.hint,
            )
        )

    def _relay(self, client: asyncio.Transport, dialogue: Dialogue) -> None:
        self.ending.stage = Stage.RELAYING
        if self.tracker.opaque is None:
            self._authentication_deadline()
            self.guard.start()
        authentication = Authentication(client, dialogue.transport, self._startup)
        self._authentication = None if authentication.over else authentication
        self.server.forward = client.write if authentication.over else self._authenticate
        self.client.forward = nowhere if dialogue.lost else dialogue.transport.write
        early, self._early, self.client.received = self._early, b"", 0
        if early:
            self.client.data_received(early)
        self._reporter.debug(events.SessionOpened, lambda: self._opened(client, dialogue))
        self.client.resume_reading()
        dialogue.hand_over(self.server)
        if self.client.silent:
            self.ending.client_ended(None)

    def _authenticate(self, data: bytes) -> None:
        """What the server says is looked at before it is passed on, until it has let the client in."""
        authentication = self._authentication
        assert authentication is not None  # noqa: S101 - made before the server can say anything
        self.client.write(authentication.feed(data))
        if authentication.over and self.client.transport is not None:
            self._authentication = None
            self.server.forward = self.client.transport.write
            if reason := authentication.refused():
                self._reporter.emit(events.ChannelBindingRefused(reason=reason, session=self.facts()))
            if not authentication.known_protocol:
                self.tracker.ignore("a protocol of tomorrow")
                self.guard.stop()

    def _given_up(self, reason: str) -> None:
        if reason and self.ending.stage is Stage.RELAYING:
            self._reporter.emit(events.ChannelBindingUnavailable(reason=reason, session=self.facts()))

    def _authentication_deadline(self) -> None:
        if self._settings.authentication_timeout != NEVER:
            self.ending.after(self._settings.authentication_timeout, self._authentication_timed_out)

    def _authentication_timed_out(self) -> None:
        if (
            self.ending.stage is Stage.RELAYING
            and self.tracker.opaque is None
            and self.tracker.flow.phase is Phase.STARTUP
        ):
            self.terminate(replies.fatal(replies.QUERY_CANCELED, "canceling authentication due to timeout"))

    def _opened(self, client: asyncio.Transport, dialogue: Dialogue) -> events.SessionOpened:
        return events.SessionOpened(
            session=self.facts(), client_tls=version_of(client), upstream_tls=version_of(dialogue.transport)
        )

    # What the guard asks.

    def client_transport(self) -> asyncio.Transport | None:
        """The connection to the client, while there is one."""
        return self.client.transport

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

    def lost(self) -> bool | None:
        """Whether the client's host is lost; None while it has still to answer.

        Keepalive does not notice while data is under way, and the kernel itself gives up after a quarter of an hour.
        """
        transport = self.client.transport
        if transport is None or not unacknowledged(transport):
            return False
        return unanswered(transport) >= LOST_AFTER * self._settings.tcp_keepalive or None

    def give_up_client(self) -> None:
        """The client's host is lost."""
        self.ending.client_ended(TimeoutError())
        self.client.abort()

    def facts(self) -> events.Session:
        """Who this is, as far as the wire tells."""
        return self._identity.facts()

    def observe(self, frontend: Observer, backend: Observer) -> None:
        """Show bytes to these from now on."""
        self.client.observe = frontend
        if self._rollback is None:
            self.server.observe = backend
        else:
            self._rollback.observe = backend

    def roll_back(self, leak_id: str, owed: bytes, told: Callable[[str], None]) -> None:
        """Roll the transaction back and keep the connections."""

        def heard(problem: str) -> None:
            if self.ending.stage is Stage.RELAYING:
                told(problem)
            if problem and self.ending.stage is Stage.RELAYING:  # nobody judges the session any more
                self.terminate(unsure(problem))

        self._rollback = Rollback(self._loop, (self.client, self.server), self.tracker, owed, heard, self._relay_again)
        self._rollback.start(leak_id)

    def _relay_again(self) -> None:
        self._rollback = None

    def _lost_track(self, reason: str, error: Exception | None) -> None:
        self.guard.lost_track()
        if error is None:
            self._reporter.emit(events.ProtocolViolation(reason=reason, session=self.facts()))
        else:
            self._reporter.emit(events.InternalError.of(error, self.facts()))
        if self._rollback is not None:
            self._rollback.give_up()

    def terminate(self, words: bytes) -> None:
        """End the session with these last words to the client."""
        self.ending.terminate(words)

    # What its parts announce; they are made before the ending, which knows them.

    def _client_ended(self, error: Exception | None) -> None:
        if self._connecting is not None and self._early and not self.client.closed:
            return  # it has said all that it wants to say, and may wait for the answer
        if self._authentication is not None and self.client.received == 0:
            self._given_up(self._authentication.given_up())
        self.ending.client_ended(error)

    def _client_said_goodbye(self) -> None:
        self.ending.client_said_goodbye()

    def _server_ended(self, error: Exception | None) -> None:
        if self._authentication is not None:
            self.client.write(self._authentication.finish())
        self.ending.server_ended(error)

    def _server_stuffed(self) -> None:
        self.ending.watch_client()

    # What its ending asks.

    def is_meant(self, key: bytes) -> bool:
        """Whether a cancel request with this process id and key is for this session."""
        return self.tracker.flow.backend.is_meant(key)

    def cancel_statement(self) -> None:
        """Ask the server to stop what the backend is doing."""
        backend = self.tracker.flow.backend
        if backend.cancel_key and not self.server.closed:
            self._owner.send_cancel(self.server_address, replies.cancel_request(backend.pid, backend.cancel_key))

    def finish_server(self) -> None:
        """End our stream to the server behind everything that the client has said."""
        if self._rollback is None:
            self.server.finish()
        else:
            self._rollback.finish_server()

    def over(self) -> None:
        """Both sockets are closed."""
        if self._rollback is not None:
            self._rollback.stop()
        if self._connecting is not None:
            self._connecting.cancel()
        self._owner.over(self)
        self._reporter.debug(
            events.SessionClosed,
            lambda: events.SessionClosed(
                session=self.facts(), from_client=self.client.received, from_server=self.server.received
            ),
        )
