"""A client's first packets, until it asks for a session, sends a cancel request, or turns out to be something else.

TLS may begin in between: when the client has asked for it, or with the first byte (libpq's sslnegotiation=direct).

Packets are looked at before anything is forwarded: there is nobody to forward to yet. A connect that closes at once is
a health check, and nothing is logged about it.
"""

import asyncio
import ssl
from collections.abc import Callable
from typing import Final, Protocol, cast

from proxy.errors import PeerError
from proxy.report import events
from proxy.settings import NEVER
from proxy.sockets import is_unix, peer_of
from proxy.tls.contexts import ALPN
from proxy.tls.transport import TlsTransport, engine_of, tls_reason
from proxy.wire import replies
from proxy.wire.messages import SSL_REQUEST_CODE
from proxy.wire.startup import TLS_HANDSHAKE, CancelRequest, EncryptionRequest, FirstPackets, StartupMessage

NOT_POSTGRES_HINT: Final = "Connect with a Postgres client; pgleash speaks the Postgres protocol only."
TLS_REQUIRED_HINT: Final = "Connect with sslmode=require or more; pgleash was told so by client_tls.mode."
NO_ALPN: Final = "TLS was begun without asking and without ALPN protocol postgresql"  # as Postgres 17 wants it


class Host(Protocol):
    """What a greeting leads to."""

    def open_session(self, transport: asyncio.Transport, startup: StartupMessage, rest: bytes) -> None:
        """The client asks for a session; `rest` came behind its startup packet. Its transport is not read from."""

    def cancel(self, transport: asyncio.Transport, request: CancelRequest) -> None:
        """The client asks for a cancel, and waits until its connection is closed."""

    def violated(self, event: events.ProtocolViolation) -> None:
        """The client is something else; it has been told."""

    def tls(self) -> ssl.SSLContext | None:
        """What to offer to clients that ask for TLS, or None."""

    @property
    def tls_required(self) -> bool:
        """Whether clients have to ask for it."""


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
        if not self._packets.begun and data[:1] == TLS_HANDSHAKE and (context := self._offer(transport)) is not None:
            self._begin_tls(transport, context, data)
            return
        try:
            packet = self._packets.feed(data)
        except PeerError as error:
            self._refuse(transport, replies.PROTOCOL_VIOLATION, str(error), NOT_POSTGRES_HINT)
            return
        if isinstance(packet, EncryptionRequest):
            self._encryption(transport, packet)
        elif isinstance(packet, StartupMessage):
            self._startup(transport, packet)
        elif isinstance(packet, CancelRequest):
            # In the clear even where TLS is required: most clients send them so, and the key is what lets them in.
            transport.pause_reading()
            self._host.cancel(transport, packet)

    def _startup(self, transport: asyncio.Transport, packet: StartupMessage) -> None:
        if self._host.tls_required and engine_of(transport) is None and not is_unix(transport):
            self._refuse(transport, replies.TLS_REQUIRED, "this connection has to be encrypted", TLS_REQUIRED_HINT)
            return
        transport.pause_reading()
        self._end()
        self._host.open_session(transport, packet, self._packets.rest)

    # TLS.

    def _offer(self, transport: asyncio.Transport) -> ssl.SSLContext | None:
        """What can be offered on this connection: there is no TLS on Unix sockets, and none within TLS."""
        if engine_of(transport) is not None or is_unix(transport):
            return None
        return self._host.tls()

    def _encryption(self, transport: asyncio.Transport, packet: EncryptionRequest) -> None:
        context = self._offer(transport) if packet.code == SSL_REQUEST_CODE else None
        if context is None:
            transport.write(replies.REFUSE_ENCRYPTION)
        else:
            transport.write(replies.BEGIN_TLS)
            self._begin_tls(transport, context)

    def _begin_tls(self, transport: asyncio.Transport, context: ssl.SSLContext, first: bytes = b"") -> None:
        direct = bool(first)
        tls = TlsTransport(
            transport, self, context, lambda error: self._encrypted(error, direct=direct), server_side=True
        )
        self._transport = tls
        tls.begin(first)

    def _encrypted(self, error: Exception | None, *, direct: bool) -> None:
        transport = self._transport
        assert transport is not None  # noqa: S101 - TLS has begun on it
        if isinstance(error, ssl.SSLError):
            reason = f"the TLS handshake failed: {tls_reason(error)}"
            self._host.violated(events.ProtocolViolation(reason=reason, address=peer_of(transport)[0]))
        engine = engine_of(transport)
        if error is None and direct and engine is not None and engine.selected_alpn_protocol() != ALPN:
            self._refuse(transport, replies.PROTOCOL_VIOLATION, NO_ALPN, NOT_POSTGRES_HINT)

    def abort(self) -> None:
        """Close the connection: the proxy stops."""
        if self._transport is not None:
            self._transport.abort()

    def _refuse(self, transport: asyncio.Transport, sqlstate: str, reason: str, hint: str) -> None:
        transport.write(replies.fatal(sqlstate, reason, hint=hint))
        transport.close()
        self._host.violated(events.ProtocolViolation(reason=reason, address=peer_of(transport)[0]))

    def _end(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._over(self)
