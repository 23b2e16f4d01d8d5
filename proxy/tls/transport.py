"""TLS over a connected transport.

Postgres begins TLS in the middle of a connection: the client asks, one byte answers, the handshake follows. asyncio's
own way to do that (`loop.start_tls`) changes the transport's protocol some turns of the loop later; a ClientHello that
is there already is lost or hangs (uvloop 707, cpython 142352), writing that is paused makes it fail (uvloop 564), and
there is no half-close. So the TLS engine, which is OpenSSL's, is fed here from memory: the protocol is changed in the
same callback that sends the answer, bytes that have been read already can be given to it, and what the rest of the
proxy gets is an ordinary transport.
"""

import asyncio
import contextlib
import ssl
from collections.abc import Callable
from typing import Any, Final, cast

from proxy.sockets import reason_of

MAX_RECORD: Final = 16_384  # bytes of plain text in a TLS record (RFC 8446, 5.1): the most that one read returns
MUCH: Final = 1_000_000  # bytes that wait for the peer; back-pressure keeps honest ones far below
PIECE: Final = MAX_RECORD  # bytes to give OpenSSL at a time

Done = Callable[[ssl.SSLError | ConnectionError | None], None]


class TlsTransport(asyncio.Transport, asyncio.Protocol):
    """A transport whose bytes travel encrypted on another one; the other one's protocol.

    Args:
        raw: the connected transport.
        protocol: receives the plain bytes, once the handshake is complete.
        context: what to offer and to accept.
        server_side: whether the peer is the one that begins.
        server_hostname: the name that the server's certificate has to be for, if the context checks it.
        done: called once, with None when the handshake is complete, or with why it failed; the connection is then
            closed, behind the alert that tells the peer.
    """

    __slots__ = (
        "_done",
        "_ended",
        "_error",
        "_held",
        "_incoming",
        "_outgoing",
        "_paused",
        "_protocol",
        "_raw",
        "_silent",
        "_tls",
        "_told",
    )

    def __init__(
        self,
        raw: asyncio.Transport,
        protocol: asyncio.Protocol,
        context: ssl.SSLContext,
        done: Done,
        *,
        server_side: bool,
        server_hostname: str | None = None,
    ) -> None:
        super().__init__()
        self._raw = raw
        self._protocol = protocol
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side, server_hostname)
        self._done: Done | None = done  # until it has been called: until then there is no plain text
        self._paused = False
        self._held = b""  # plain text that may not be delivered, since reading is paused
        self._silent = False  # the peer has ended its stream
        self._told = False  # the protocol knows
        self._ended = False  # we have ended ours
        self._error: Exception | None = None  # why the connection is being aborted

    def begin(self, first: bytes = b"") -> None:
        """Begin the handshake; `first` has been read already."""
        self._raw.set_protocol(self)
        self._incoming.write(first)
        self._shake_hands()

    # The protocol of the connected transport: its bytes are encrypted.

    def data_received(self, data: bytes) -> None:
        """Asyncio: encrypted bytes have come."""
        if self._done is not None:
            self._incoming.write(data)
            self._shake_hands()
        elif not self._silent:  # what comes behind the peer's goodbye is for nobody
            self._deliver(data)

    def eof_received(self) -> bool:
        """Asyncio: the peer has ended its stream; whether it has said so before, as it should, makes no difference."""
        if self._done is not None:
            self._finish_handshake(ConnectionError("the connection was closed during the TLS handshake"))
            return False
        self._silent = True  # not for the engine: it would give up writing, too
        self._deliver()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """Asyncio: the socket is closed."""
        if self._done is not None:
            self._finish_handshake(ConnectionError("the connection was lost during the TLS handshake"))
        protocol, self._protocol = self._protocol, asyncio.Protocol()  # no circle of references is left behind
        protocol.connection_lost(self._error or exc)

    def pause_writing(self) -> None:
        """Asyncio: the peer does not take what is written to it."""
        self._protocol.pause_writing()

    def resume_writing(self) -> None:
        """Asyncio: it does again."""
        self._protocol.resume_writing()

    def _shake_hands(self) -> None:
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            self._flush()
        except ssl.SSLError as error:
            self._flush()  # the alert
            self._finish_handshake(error)
        else:
            self._flush()
            self._finish_handshake(None)
            self._deliver()  # the first plain bytes may have come with the last of the handshake

    def _finish_handshake(self, error: ssl.SSLError | ConnectionError | None) -> None:
        done, self._done = self._done, None
        if error is not None:
            self._ended = True
            self._raw.close()
        if done is not None:
            done(error)

    def _deliver(self, data: bytes = b"") -> None:
        """Decrypt this, and give the protocol what it may be given."""
        self._held += self._decrypt(data)
        if self._held and not self._paused:
            held, self._held = self._held, b""
            self._protocol.data_received(held)
        if self._error is not None:
            self._raw.abort()
        elif self._silent and not self._told and not self._paused:  # what it was given may have made it pause
            self._told = True
            if not self._protocol.eof_received():
                self.close()

    def _decrypt(self, data: bytes) -> bytes:
        """The plain text of what has come; in pieces, since OpenSSL's buffers grow with them and never shrink."""
        if len(data) <= PIECE:
            self._incoming.write(data)
            return self._read()
        texts = []
        for start in range(0, len(data), PIECE):
            self._incoming.write(data[start : start + PIECE])
            texts.append(self._read())
        return b"".join(texts)

    def _read(self) -> bytes:
        records: list[bytes] = []
        try:
            while record := self._tls.read(MAX_RECORD):
                records.append(record)
            self._silent = True
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            self._silent = True
        except ssl.SSLError as error:
            self._error = error
        self._flush()  # an answer of the engine's own, to a change of keys
        return records[0] if len(records) == 1 else b"".join(records)

    def _flush(self) -> None:
        """Send what the engine has to say by itself. A peer that makes it say much and does not listen is cut off."""
        if self._outgoing.pending and not self._raw.is_closing():
            self._raw.write(self._outgoing.read())
            if self._raw.get_write_buffer_size() > MUCH:
                self._raw.abort()

    # A transport: its bytes are plain.

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Asyncio: send bytes."""
        if self._ended or not data:
            return
        try:
            records = self._encrypt(data)
        except ssl.SSLError as error:
            self._error = error
            self._raw.abort()
        else:
            self._raw.writelines(records)

    def _encrypt(self, data: bytes | bytearray | memoryview) -> list[bytes]:
        """Records, made in pieces for the same reason."""
        records = []
        for start in range(0, len(data), PIECE):
            self._tls.write(data[start : start + PIECE])
            records.append(self._outgoing.read())
        return records

    def can_write_eof(self) -> bool:
        """Asyncio: whether one direction can be ended while the other goes on."""
        return True

    def write_eof(self) -> None:
        """Asyncio: send what waits, and then the end of our stream."""
        self._say_goodbye()
        self._raw.write_eof()

    def close(self) -> None:
        """Asyncio: send what waits, then close. The peer's own goodbye is not waited for (uvloop 471)."""
        if not self._raw.is_closing():
            self._say_goodbye()
            self._raw.close()

    def _say_goodbye(self) -> None:
        if self._ended:
            return
        self._ended = True
        if self._done is None:
            self._held += self._read()  # the engine gives up on bytes that it finds behind its own goodbye
            with contextlib.suppress(ssl.SSLError):
                self._tls.unwrap()
        self._flush()

    def abort(self) -> None:
        """Asyncio: close now."""
        self._raw.abort()

    def is_closing(self) -> bool:
        """Asyncio: whether the connection is closed or about to be."""
        return self._raw.is_closing()

    def pause_reading(self) -> None:
        """Asyncio: deliver nothing from now on."""
        self._paused = True
        self._raw.pause_reading()

    def resume_reading(self) -> None:
        """Asyncio: deliver again."""
        self._paused = False
        self._raw.resume_reading()
        if self._held or (self._silent and not self._told):
            asyncio.get_running_loop().call_soon(self._deliver)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Asyncio: when to pause writing, in encrypted bytes."""
        self._raw.set_write_buffer_limits(high, low)

    def get_write_buffer_size(self) -> int:
        """Asyncio: encrypted bytes that wait."""
        return self._raw.get_write_buffer_size()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Asyncio: `ssl_object`, and what the connected transport tells."""
        return self._tls if name == "ssl_object" else self._raw.get_extra_info(name, default)

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Asyncio: who receives the plain bytes from now on."""
        self._protocol = cast("asyncio.Protocol", protocol)

    def get_protocol(self) -> asyncio.BaseProtocol:
        """Asyncio: who receives the plain bytes."""
        return self._protocol


def engine_of(transport: asyncio.BaseTransport) -> ssl.SSLObject | None:
    """The TLS engine of a connection, or None if its bytes travel in the clear."""
    engine: ssl.SSLObject | None = transport.get_extra_info("ssl_object")
    return engine


def certificate_of(transport: asyncio.BaseTransport) -> bytes | None:
    """The peer's certificate (DER), if there is TLS and the peer has shown one."""
    engine = engine_of(transport)
    return None if engine is None else engine.getpeercert(binary_form=True)


def version_of(transport: asyncio.BaseTransport) -> str | None:
    """The version of TLS that a connection has, or None."""
    engine = engine_of(transport)
    return None if engine is None else engine.version()


def tls_reason(error: Exception) -> str:
    """Why TLS failed, in OpenSSL's words without its codes."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"certificate verify failed: {error.verify_message}"
    if isinstance(error, ssl.SSLError) and error.reason:
        return str(error.reason).replace("_", " ").lower()
    return reason_of(error)
