"""Dialling the server: the name is resolved and connected anew for each session, and encrypted as sslmode says.

libpq's sslmode is an order of attempts ("SSL Support", table 32.1):

    disable      in the clear
    allow        in the clear; if the server rejects that, with TLS
    prefer       with TLS; in the clear if the server has none, or if it rejects TLS
    require ...  with TLS

A server's rejection (no line of pg_hba.conf fits) is its answer to the startup packet; so where there is a second
attempt the answer to the first one is looked at before anybody else sees it.
"""

import asyncio
import contextlib
import ssl
from collections.abc import Callable
from typing import Final, cast

from proxy.errors import NetworkError
from proxy.settings import NEVER, Address, Settings, UpstreamTlsMode, duration_text
from proxy.sockets import reason_of
from proxy.tls import files
from proxy.tls.transport import TlsTransport, tls_reason
from proxy.wire import replies
from proxy.wire.authentication import first_message, rejected

CANCEL_TIMEOUT: Final = 5.0  # a cancel that arrives later may hit another statement

# The order of attempts: whether to encrypt. All that are not here insist on it.
ATTEMPTS: Final = {
    UpstreamTlsMode.DISABLE: (False,),
    UpstreamTlsMode.ALLOW: (False, True),
    UpstreamTlsMode.PREFER: (True, False),
}
YES: Final = b"S"
NO: Final = b"N"
NO_TLS_HINT: Final = (
    "Set ssl = on in the server; or upstream_tls.mode: disable in pgleash, if the network can be trusted."
)
WRONG_NAME_HINT: Final = (
    "upstream has to be a name that is in the server's certificate, or upstream_tls.mode verify-ca."
)
WRONG_CA_HINT: Final = "upstream_tls.ca_file has to hold the CA that has signed the server's certificate."
HANDSHAKE_HINT: Final = "Check upstream_tls in the configuration of pgleash against what the server asks for."


class Dialogue(asyncio.Protocol):
    """The first words with the server, until somebody takes over.

    Attributes:
        transport: the connection; another one once it is encrypted.
        heard: what the server has said.
        over: whether it will say nothing more.
        error: why the connection was lost, if it was.
    """

    def __init__(self) -> None:
        self.transport: asyncio.Transport
        self.heard = b""
        self.over = False
        self.error: Exception | None = None
        self._lost = False
        self._news = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Asyncio: connected."""
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Asyncio: the server says something."""
        self.heard += data
        self._news.set()

    def eof_received(self) -> bool:
        """Asyncio: it will say nothing more."""
        self.over = True
        self._news.set()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """Asyncio: the connection is closed."""
        self.over = self._lost = True
        self.error = exc
        self._news.set()

    async def listen(self, *, until: Callable[[bytes], object]) -> None:
        """Wait until the server has said enough, or will say nothing more."""
        while not self.over and not until(self.heard):
            await self._news.wait()
            self._news.clear()

    def hand_over(self, protocol: asyncio.Protocol) -> None:
        """Let somebody else listen, from the first word on that was meant for more than this dialogue."""
        self.transport.set_protocol(protocol)
        protocol.connection_made(self.transport)
        if self.heard:
            protocol.data_received(self.heard)
        if self._lost:
            protocol.connection_lost(self.error)
        elif self.over:
            protocol.eof_received()


class _NoTlsError(NetworkError):
    """The server could be reached, but not with TLS."""


class Upstream:
    """The server.

    Args:
        settings: where it is, and how to connect to it.
        rejected: called with what is wrong when a file of certificates has changed and cannot be used.

    Raises:
        SettingsError: a file of certificates is not what it should be.
    """

    def __init__(self, settings: Settings, rejected: Callable[[str], None]) -> None:
        self._settings = settings
        self._mode = settings.upstream_tls_mode
        self._attempts = ATTEMPTS.get(self._mode, (True,))
        self._contexts = files.for_upstream(settings.upstream_tls, rejected)

    async def open(self, startup: bytes) -> Dialogue:
        """Connect, and say this startup packet.

        Raises:
            NetworkError: naming the address, the cause and what would help.
        """
        address, within = self._settings.upstream, self._settings.connect_timeout
        try:
            async with asyncio.timeout(None if within == NEVER else within):
                return await self._say(address, startup, look=True)
        except TimeoutError as error:
            cause = reason_of(error) if error.errno else f"no answer within {duration_text(within)}"
            raise NetworkError(str(address), cause) from error
        except (OSError, UnicodeError) as error:  # a name that cannot be one is a UnicodeError
            raise NetworkError(str(address), reason_of(error)) from error

    async def cancel(self, address: Address, packet: bytes) -> None:
        """Send a CancelRequest as it is, and wait until the server has closed the connection.

        The server never answers one. Whether it had an effect shows in the session that is meant, if anywhere; so that
        it could not be sent is nobody's error either.
        """
        with contextlib.suppress(OSError, UnicodeError, NetworkError):
            async with asyncio.timeout(CANCEL_TIMEOUT):
                dialogue = await self._say(address, packet, look=False)
                try:
                    await dialogue.listen(until=lambda _: False)
                finally:
                    dialogue.transport.abort()

    async def _say(self, address: Address, packet: bytes, *, look: bool) -> Dialogue:
        """Connect as the mode wants it, and say this; `look` at the answer where it decides."""
        refused: Dialogue | None = None
        for encrypted in self._attempts:
            try:
                dialogue = await self._connect(address, packet, encrypted=encrypted, look=look)
            except _NoTlsError:
                if refused is not None:  # its reason is the one that helps
                    return refused
                if encrypted is self._attempts[-1]:
                    raise
                continue
            if refused is not None:
                refused.transport.abort()
            if encrypted is self._attempts[-1] or not look or not rejected(dialogue.heard):
                break
            refused = dialogue
        return dialogue

    async def _connect(self, address: Address, packet: bytes, *, encrypted: bool, look: bool) -> Dialogue:
        dialogue = Dialogue()
        loop = asyncio.get_running_loop()
        if address.is_unix:
            await loop.create_unix_connection(lambda: dialogue, address.path)
        else:
            await loop.create_connection(lambda: dialogue, address.host, address.port)
        try:
            encrypted = encrypted and await self._encrypt(dialogue)
            dialogue.transport.write(packet)
            if look and (encrypted or self._mode is UpstreamTlsMode.ALLOW):
                await dialogue.listen(until=first_message)
            if encrypted:
                self._check_alert(dialogue)
        except BaseException:
            dialogue.transport.abort()
            raise
        return dialogue

    async def _encrypt(self, dialogue: Dialogue) -> bool:
        """Ask for TLS and begin it; returns False if the server has none and that will do."""
        dialogue.transport.write(replies.SSL_REQUEST)
        await dialogue.listen(until=bool)
        answer, dialogue.heard = dialogue.heard, b""
        if answer == NO and self._mode is UpstreamTlsMode.PREFER:
            return False
        if answer == NO:
            raise self._no_tls(f"it does not offer TLS, and upstream_tls.mode is {self._mode}", NO_TLS_HINT)
        if answer[:1] == YES and answer != YES:  # CVE-2021-23222
            raise self._no_tls("it sent unencrypted data behind its answer to SSLRequest: somebody may be in between")
        if answer != YES:  # an error, and nobody knows from whom: not to be shown to the client (CVE-2024-10977)
            said = "closed the connection" if not answer else "sent something else"
            raise self._no_tls(f"asked for TLS, it {said}")
        await self._shake_hands(dialogue)
        return True

    async def _shake_hands(self, dialogue: Dialogue) -> None:
        done: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()
        tls = TlsTransport(
            dialogue.transport,
            dialogue,
            self._contexts.current(),
            lambda error: None if done.done() else done.set_result(error),
            server_side=False,
            server_hostname=self._settings.upstream.host,
        )
        dialogue.transport = tls
        tls.begin()
        error = await done
        if error is not None:
            raise self._failed(error)

    def _check_alert(self, dialogue: Dialogue) -> None:
        """In TLS 1.3 a server says only behind the handshake that it does not like our certificate, or hangs up."""
        if dialogue.error is not None and not dialogue.heard:
            raise self._failed(dialogue.error)

    def _failed(self, error: Exception) -> NetworkError:
        if isinstance(error, ssl.SSLCertVerificationError):
            hint = WRONG_NAME_HINT if "match" in error.verify_message else WRONG_CA_HINT
            return self._no_tls(f"its certificate cannot be trusted: {error.verify_message}", hint)
        return self._no_tls(f"the TLS handshake failed: {tls_reason(error)}")

    def _no_tls(self, cause: str, hint: str = HANDSHAKE_HINT) -> NetworkError:
        return _NoTlsError(str(self._settings.upstream), cause, hint)
