"""The untyped first packets of a client (documentation: "Start-up", "Canceling Requests in Progress").

A packet is held until it is whole, never passed on in halves. SSLRequest and GSSENCRequest may come in either order,
each at most once, before the StartupMessage; whatever comes together with one of them was sent before encryption could
have been agreed on and may have been injected by somebody else (CVE-2021-23214).
"""

from struct import Struct
from typing import Final, NamedTuple

from proxy.errors import PeerError
from proxy.wire.messages import (
    CANCEL_KEY_LENGTHS,
    CANCEL_REQUEST_CODE,
    GSSENC_REQUEST_CODE,
    KNOWN_PROTOCOLS,
    MAX_STARTUP_PACKET_LENGTH,
    SSL_REQUEST_CODE,
)

word: Final = Struct("!i").unpack_from
WORD: Final = 4
TLS_HANDSHAKE: Final = b"\x16"  # the first byte of a ClientHello


class EncryptionRequest(NamedTuple):
    """SSLRequest or GSSENCRequest; to be answered by one byte."""

    code: int


class CancelRequest(NamedTuple):
    """A request to cancel what another session runs.

    Attributes:
        packet: as it came. It holds the key and must never reach a log.
    """

    packet: bytes

    @property
    def key(self) -> bytes:
        """Process id and cancel key, as in the BackendKeyData of the session that is meant."""
        return self.packet[2 * WORD :]


class StartupMessage(NamedTuple):
    """The packet that asks for a session.

    Attributes:
        packet: as it came.
        protocol: the protocol version, major << 16 | minor.
        parameters: user, database, application_name ...; for attribution only, the server reads the packet itself.
    """

    packet: bytes
    protocol: int
    parameters: dict[str, str]

    @property
    def known_protocol(self) -> bool:
        """Whether what follows is a conversation that the tracker knows."""
        return self.protocol in KNOWN_PROTOCOLS

    @property
    def is_replication(self) -> bool:
        """Whether a walsender is asked for; anything but a plain no counts, since those are never judged."""
        return self.parameters.get("replication", "off").lower() not in ("off", "false", "no", "0", "f", "n")


Packet = EncryptionRequest | CancelRequest | StartupMessage


class FirstPackets:
    """Puts together a client's first packets.

    Attributes:
        rest: what came behind the packet that was read last.
    """

    __slots__ = ("_codes", "rest")

    def __init__(self) -> None:
        self._codes: set[int] = set()
        self.rest = b""

    @property
    def begun(self) -> bool:
        """Whether anything has come."""
        return bool(self._codes or self.rest)

    def feed(self, data: bytes) -> Packet | None:
        """Take what the client sent next.

        Returns:
            the packet that is complete now, or None if more is needed.

        Raises:
            PeerError: this is not the beginning of a Postgres session.
        """
        self.rest += data
        if not self._length():
            return None
        length = self._length()
        if len(self.rest) < length:
            return None
        packet, self.rest = self.rest[:length], self.rest[length:]
        return self._read(packet)

    def _length(self) -> int:
        """The length of the packet, or 0 while it is unknown."""
        if self.rest[:1] == TLS_HANDSHAKE:
            raise PeerError("TLS was begun without asking, and this listener does not offer it")
        if len(self.rest) < WORD:
            return 0
        length = int(word(self.rest)[0])
        if not 2 * WORD <= length <= WORD + MAX_STARTUP_PACKET_LENGTH:
            raise PeerError(f"invalid length of startup packet{_looks_like(self.rest)}")
        return length

    def _read(self, packet: bytes) -> Packet:
        code = int(word(packet, WORD)[0])
        if code == CANCEL_REQUEST_CODE:
            if len(packet) - 3 * WORD not in CANCEL_KEY_LENGTHS:
                raise PeerError("invalid length of cancel request")
            return CancelRequest(packet)
        if code in (SSL_REQUEST_CODE, GSSENC_REQUEST_CODE):
            return self._encryption(code)
        return StartupMessage(packet, code, _parameters(packet))

    def _encryption(self, code: int) -> EncryptionRequest:
        if code in self._codes:
            raise PeerError("encryption was asked for twice")
        if self.rest:
            raise PeerError("received unencrypted data after an encryption request")
        self._codes.add(code)
        return EncryptionRequest(code)


def _parameters(packet: bytes) -> dict[str, str]:
    """Names and values; what is odd about them is for the server to say."""
    fields = packet[2 * WORD :].split(b"\0")
    texts = [field.decode("utf-8", "replace") for field in fields]
    return {name: value for name, value in zip(texts[::2], texts[1::2], strict=False) if name}


def _looks_like(data: bytes) -> str:
    http = (b"GET ", b"HEAD", b"POST", b"PUT ", b"OPTI", b"DELE", b"CONN", b"PATC", b"PRI ")
    return ": this looks like HTTP, and this is a Postgres port" if data.startswith(http) else ""
