import pytest

from proxy.errors import PeerError
from proxy.wire.startup import CancelRequest, EncryptionRequest, FirstPackets, Packet, StartupMessage
from tests import messages as m

STARTUP = m.startup(user="app", database="shop", application_name="worker")


def feed_bytewise(data: bytes) -> Packet | None:
    packets = FirstPackets()
    for at in range(len(data) - 1):
        assert packets.feed(data[at : at + 1]) is None
    return packets.feed(data[-1:])


@pytest.mark.protocol(7, 8)
@pytest.mark.parametrize("feed", [lambda data: FirstPackets().feed(data), feed_bytewise])
def test_a_startup_message_however_it_is_cut(feed: object) -> None:
    assert callable(feed)
    packet = feed(STARTUP)
    assert isinstance(packet, StartupMessage)
    assert packet.packet == STARTUP
    assert packet.parameters == {"user": "app", "database": "shop", "application_name": "worker"}
    assert packet.known_protocol
    assert not packet.is_replication


@pytest.mark.protocol(1)
def test_both_encryption_requests_then_startup() -> None:
    packets = FirstPackets()
    assert isinstance(packets.feed(m.ssl_request()), EncryptionRequest)
    assert isinstance(packets.feed(m.ssl_request(80877104)), EncryptionRequest)
    assert isinstance(packets.feed(STARTUP + b"more"), StartupMessage)
    assert packets.rest == b"more"


@pytest.mark.protocol(5)
def test_a_cancel_request() -> None:
    packet = FirstPackets().feed(m.cancel_request(7, b"\x01" * 32))
    assert isinstance(packet, CancelRequest)
    assert packet.key == b"\0\0\0\x07" + b"\x01" * 32


@pytest.mark.protocol(9)
@pytest.mark.parametrize("value", ["true", "1", "on", "yes", "database", "TRUE"])
def test_replication_is_recognized(value: str) -> None:
    packet = FirstPackets().feed(m.startup(user="u", replication=value))
    assert isinstance(packet, StartupMessage)
    assert packet.is_replication


@pytest.mark.protocol(9)
@pytest.mark.parametrize("value", ["false", "0", "off", "no", "OFF"])
def test_no_replication_is_recognized_too(value: str) -> None:
    packet = FirstPackets().feed(m.startup(user="u", replication=value))
    assert isinstance(packet, StartupMessage)
    assert not packet.is_replication


@pytest.mark.protocol(6)
def test_a_protocol_of_tomorrow_is_not_known() -> None:
    packet = FirstPackets().feed(m.startup(protocol=3 << 16 | 99, user="u"))
    assert isinstance(packet, StartupMessage)
    assert not packet.known_protocol


@pytest.mark.protocol(8)
def test_what_is_odd_in_parameters_is_for_the_server() -> None:
    packet = FirstPackets().feed(m.startup()[:4] + b"\0\3\0\0" + m.startup()[8:])
    assert isinstance(packet, StartupMessage)
    body = b"\0\0\0\x18\0\3\0\0user\0\xff\xfe\0user\0b\0\0"
    packet = FirstPackets().feed(body[:3] + bytes([len(body)]) + body[4:])
    assert isinstance(packet, StartupMessage)


@pytest.mark.protocol(2, 7)
@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"GET / HTTP/1.1\r\n", "this looks like HTTP"),
        (b"\x7f\xff\xff\xff\0\3\0\0", "invalid length"),
        (b"\xff\xff\xff\xff\0\3\0\0", "invalid length"),
        (b"\0\0\0\4", "invalid length"),
        ((10_005).to_bytes(4, "big"), "invalid length"),
        (b"\x16\x03\x01", "TLS"),
        (m.ssl_request() + STARTUP, "unencrypted data"),
        (m.cancel_request(1, b"abc"), "cancel"),
        (m.cancel_request(1, b"x" * 257), "cancel"),
    ],
)
def test_what_is_not_the_protocol(data: bytes, what: str) -> None:
    with pytest.raises(PeerError, match=what):
        FirstPackets().feed(data)


@pytest.mark.protocol(1)
def test_encryption_asked_for_twice() -> None:
    packets = FirstPackets()
    packets.feed(m.ssl_request())
    with pytest.raises(PeerError, match="twice"):
        packets.feed(m.ssl_request())
