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
from collections.abc import AsyncIterator, Callable
from typing import Final, cast

from proxy.errors import NetworkError
from proxy.report.events import UpstreamTlsFailed
from proxy.report.reporter import Reporter
from proxy.report.seldom import Seldom
from proxy.settings import NEVER, Address, Settings, UpstreamTlsMode, duration_text
from proxy.sockets import reason_of
from proxy.tls import files
from proxy.tls.transport import TlsTransport, tls_reason
from proxy.wire import replies
from proxy.wire.authentication import answered, rejected
from proxy.wire.messages import ERROR_RESPONSE

CANCEL_TIMEOUT: Final = 5.0  # a cancel that arrives later may hit another statement

# The order of attempts: whether to encrypt. All that are not here insist on it.
ATTEMPTS: Final = {
    UpstreamTlsMode.DISABLE: (False,),
    UpstreamTlsMode.ALLOW: (False, True),
    UpstreamTlsMode.PREFER: (True, False),
}
YES, NO, ERROR = replies.BEGIN_TLS, replies.REFUSE_ENCRYPTION, bytes((ERROR_RESPONSE,))  # answers to SSLRequest
NO_TLS_HINT: Final = (
    "Set ssl = on in the server; or upstream_tls.mode: disable in pgleash, if the network can be trusted."
)
WRONG_NAME_HINT: Final = (
    "upstream has to be a name that is in the server's certificate, or upstream_tls.mode verify-ca."
)
EXPIRED_HINT: Final = "The server needs a certificate that is valid now; or the clock of this machine is wrong."
WRONG_CA_HINT: Final = "upstream_tls.ca_file has to hold the CA that has signed the server's certificate."
# By the X509_V_ERR_ codes of OpenSSL's x509_vfy.h: not yet valid, expired; names, addresses.
HINTS: Final = {9: EXPIRED_HINT, 10: EXPIRED_HINT, 62: WRONG_NAME_HINT, 64: WRONG_NAME_HINT}
HANDSHAKE_HINT: Final = "Check upstream_tls in the configuration of pgleash against what the server asks for."


class Dialogue(asyncio.Protocol):
    """The first words with the server, until somebody takes over.

    Attributes:
        transport: the connection; another one once it is encrypted.
        heard: what the server has said.
        over: whether it will say nothing more.
        lost: whether the connection is closed.
        error: why the connection was lost, if it was.
    """

    def __init__(self) -> None:
        self.transport: asyncio.Transport
        self._connected = False
        self.heard = b""
        self.over = False
        self.error: Exception | None = None
        self.lost = False
        self._news = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Asyncio: connected."""
        self._connected = True
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
        self.over = self.lost = True
        self.error = exc
        self._news.set()

    async def listen(self, *, until: Callable[[bytes], object]) -> None:
        """Wait until the server has said enough, or will say nothing more."""
        while not self.over and not until(self.heard):
            await self._news.wait()
            self._news.clear()

    def abort(self) -> None:
        """Nobody is interested any more."""
        if self._connected:
            self.transport.abort()

    def hand_over(self, protocol: asyncio.Protocol) -> None:
        """Let somebody else listen, from the first word on that was meant for more than this dialogue."""
        if not self.lost:
            self.transport.set_protocol(protocol)
            protocol.connection_made(self.transport)
        if self.heard:
            protocol.data_received(self.heard)
        if self.lost:
            protocol.connection_lost(self.error)
        elif self.over:
            protocol.eof_received()


class _NoTlsError(NetworkError):
    """The server could be reached, but not with TLS."""


class Upstream:
    """The server.

    Args:
        settings: where it is, and how to connect to it.
        reporter: is told of certificates that cannot be used, and of sessions that go without TLS for it.

    Raises:
        SettingsError: a file of certificates is not what it should be.
    """

    def __init__(self, settings: Settings, reporter: Reporter) -> None:
        self._settings = settings
        self._mode = settings.upstream_tls_mode
        self._attempts = ATTEMPTS.get(self._mode, (True,))
        self._trusts_anybody = self._mode is UpstreamTlsMode.PREFER and settings.upstream_tls.ca_file is None
        self._contexts = files.for_upstream(settings.upstream_tls, reporter)
        self._reporter = reporter
        self._in_the_clear = Seldom()

    async def open(self, startup: bytes) -> Dialogue:
        """Connect, and say this startup packet.

        Raises:
            NetworkError: naming the address, the cause and what would help.
        """
        return await self._say(self._settings.upstream, startup, look=True)

    async def cancel(self, address: Address, packet: bytes) -> None:
        """Send a CancelRequest as it is, and wait until the server has closed the connection.

        The server never answers one. Whether it had an effect shows in the session that is meant, if anywhere; so that
        it could not be sent is nobody's error either.
        """
        with contextlib.suppress(OSError, NetworkError):
            async with asyncio.timeout(CANCEL_TIMEOUT):
                dialogue = await self._say(address, packet, look=False)
                try:
                    await dialogue.listen(until=lambda _: False)
                finally:
                    dialogue.transport.abort()

    async def _say(self, address: Address, packet: bytes, *, look: bool) -> Dialogue:
        """Connect as the mode wants it, and say this; `look` at the answer where it decides."""
        refused: Dialogue | None = None
        try:
            for encrypted in self._attempts:
                last = encrypted is self._attempts[-1]
                try:
                    dialogue = await self._connect(address, packet, encrypted=encrypted, look=look)
                except _NoTlsError as error:
                    if refused is None and last:
                        raise
                    self._tell(error)
                    continue
                if last or not look or not rejected(dialogue.heard):
                    return dialogue
                refused = dialogue
            assert refused is not None  # noqa: S101 - there was a last attempt, and it had no TLS
            dialogue, refused = refused, None  # the reason of the first one is the one that helps
            return dialogue
        finally:
            if refused is not None:
                refused.transport.abort()

    async def _connect(self, address: Address, packet: bytes, *, encrypted: bool, look: bool) -> Dialogue:
        dialogue = Dialogue()
        try:
            async with _within(address, self._settings.connect_timeout):
                await _dial(address, dialogue)
                encrypted = encrypted and await self._encrypt(dialogue)
                dialogue.transport.write(packet)
            if look and (encrypted or self._mode is UpstreamTlsMode.ALLOW):
                async with _within(address, self._settings.authentication_timeout):
                    await dialogue.listen(until=answered)
            if encrypted:
                self._check_alert(dialogue)
        except BaseException:
            dialogue.abort()
            raise
        return dialogue

    async def _encrypt(self, dialogue: Dialogue) -> bool:
        """Ask for TLS and begin it; returns False if the server has none and that will do."""
        dialogue.transport.write(replies.SSL_REQUEST)
        await dialogue.listen(until=bool)
        if dialogue.heard[:1] == ERROR and self._trusts_anybody:  # it cannot fork, say
            return False
        answer, dialogue.heard = dialogue.heard, b""
        if answer == NO and self._mode is UpstreamTlsMode.PREFER:
            return False
        if answer == NO:
            raise self._no_tls(f"it does not offer TLS, and upstream_tls.mode is {self._mode}", NO_TLS_HINT)
        if answer[:1] == YES and answer != YES:  # CVE-2021-23222
            raise self._nonsense("sent unencrypted data behind its answer: somebody may be in between")
        if answer != YES:  # an error, and nobody knows from whom: not to be shown to the client (CVE-2024-10977)
            raise self._nonsense("sent something else" if answer else "closed the connection")
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

    def _tell(self, error: NetworkError) -> None:
        """TLS is there, and this session has to do without it: nobody else will say so."""
        if sessions := self._in_the_clear.happened(asyncio.get_running_loop().time()):
            self._reporter.emit(
                UpstreamTlsFailed(upstream=error.address, reason=error.cause, hint=error.hint, sessions=sessions)
            )

    def _failed(self, error: Exception) -> NetworkError:
        if isinstance(error, ssl.SSLCertVerificationError):
            hint = HINTS.get(error.verify_code, WRONG_CA_HINT)
            return self._no_tls(f"its certificate cannot be trusted: {error.verify_message}", hint)
        return self._no_tls(f"the TLS handshake failed: {tls_reason(error)}")

    def _nonsense(self, what: str) -> NetworkError:
        """No reason to go on in the clear, as libpq sees it, too."""
        return NetworkError(str(self._settings.upstream), f"asked for TLS, it {what}", HANDSHAKE_HINT)

    def _no_tls(self, cause: str, hint: str = HANDSHAKE_HINT) -> NetworkError:
        return _NoTlsError(str(self._settings.upstream), cause, hint)


@contextlib.asynccontextmanager
async def _within(address: Address, seconds: float) -> AsyncIterator[None]:
    """Whatever the network does in here is told as a NetworkError."""
    try:
        async with asyncio.timeout(None if seconds == NEVER else seconds):
            yield
    except TimeoutError as error:
        cause = reason_of(error) if error.errno else f"no answer within {duration_text(seconds)}"
        raise NetworkError(str(address), cause) from error
    except (OSError, ValueError) as error:  # a name that cannot be one is a ValueError
        raise NetworkError(str(address), reason_of(error)) from error


async def _dial(address: Address, dialogue: Dialogue) -> None:
    loop = asyncio.get_running_loop()
    if address.is_unix:
        await loop.create_unix_connection(lambda: dialogue, address.path)
    else:
        await loop.create_connection(lambda: dialogue, address.host, address.port)
