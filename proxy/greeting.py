"""A client's first packets, until it asks for a session, sends a cancel request, or turns out to be something else.

Packets are looked at before anything is forwarded: there is nobody to forward to yet. A connect that closes at once is
a health check, and nothing is logged about it.
"""

import asyncio
from collections.abc import Callable
from typing import Protocol, cast

from proxy.errors import PeerError
from proxy.report import events
from proxy.settings import NEVER
from proxy.sockets import peer_of
from proxy.wire import replies
from proxy.wire.startup import CancelRequest, EncryptionRequest, FirstPackets, StartupMessage


class Host(Protocol):
    """What a greeting leads to."""

    def open_session(self, transport: asyncio.Transport, startup: StartupMessage, rest: bytes) -> None:
        """The client asks for a session; `rest` came behind its startup packet. Its transport is not read from."""

    def cancel(self, transport: asyncio.Transport, request: CancelRequest) -> None:
        """The client asks for a cancel, and waits until its connection is closed."""

    def violated(self, event: events.ProtocolViolation) -> None:
        """The client is something else; it has been told."""


class Greeting(asyncio.Protocol):
    """One client, before it has a session.

    Args:
        host: what it leads to.
        timeout: seconds from the connect to the whole startup packet.
        over: called when there is nothing more to greet.
    """

    __slots__ = ("_host", "_over", "_packets", "_timeout", "_timer", "_transport")

    def __init__(self, host: Host, timeout: float, over: Callable[["Greeting"], None]) -> None:
        self._host = host
        self._timeout = timeout
        self._over = over
        self._packets = FirstPackets()
        self._timer: asyncio.TimerHandle | None = None
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Asyncio: a client has connected."""
        transport = cast("asyncio.Transport", transport)  # a stream protocol gets no other; uvloop's are not derived
        self._transport = transport
        if self._timeout != NEVER:
            self._timer = asyncio.get_running_loop().call_later(self._timeout, transport.abort)

    def connection_lost(self, _exc: Exception | None) -> None:
        """Asyncio: it has gone again."""
        self._end()

    def data_received(self, data: bytes) -> None:
        """Asyncio: some of its first packets."""
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        try:
            packet = self._packets.feed(data)
        except PeerError as error:
            self._refuse(transport, str(error))
            return
        if isinstance(packet, EncryptionRequest):
            transport.write(replies.REFUSE_ENCRYPTION)
        elif isinstance(packet, StartupMessage):
            transport.pause_reading()
            self._end()
            self._host.open_session(transport, packet, self._packets.rest)
        elif isinstance(packet, CancelRequest):
            transport.pause_reading()
            self._host.cancel(transport, packet)

    def abort(self) -> None:
        """Close the connection: the proxy stops."""
        if self._transport is not None:
            self._transport.abort()

    def _refuse(self, transport: asyncio.Transport, reason: str) -> None:
        hint = "Connect with a Postgres client; pgleash speaks the Postgres protocol only."
        transport.write(replies.fatal(replies.PROTOCOL_VIOLATION, reason, hint=hint))
        transport.close()
        self._host.violated(events.ProtocolViolation(reason=reason, address=peer_of(transport)[0]))

    def _end(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._over(self)
