"""TLS over a transport without any socket: every schedule of bytes, pauses and ends."""

import asyncio
import contextlib
import random
import ssl

import psutil
import pytest

from proxy.tls.transport import TlsTransport
from tests.servers.certificates import Certificates
from tests.tls.support import served_by

SCHEDULES = 60
STEPS = 400


class Wire(asyncio.Transport):
    """A connected transport that keeps what is written to it."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.ended = False
        self.paused = False
        self.closing = False
        self.aborted = False

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        del protocol

    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert not self.ended, "written behind the end of the stream"
        assert not self.closing, "written to a closed transport"
        self.written += data

    def write_eof(self) -> None:
        self.ended = True

    def is_closing(self) -> bool:
        return self.closing

    def close(self) -> None:
        self.closing = True

    def abort(self) -> None:
        self.closing = self.aborted = True

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False

    def get_write_buffer_size(self) -> int:
        return len(self.written)


def anybody() -> ssl.SSLContext:
    """A client's context, which takes every certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


class Pair:
    """Our transport and its peer."""

    def __init__(
        self, ours: ssl.SSLContext, theirs: ssl.SSLContext, protocol: asyncio.Protocol, *, server_side: bool = True
    ) -> None:
        self.wire, self.incoming, self.outgoing = Wire(), ssl.MemoryBIO(), ssl.MemoryBIO()
        self.peer = theirs.wrap_bio(self.incoming, self.outgoing, server_side=not server_side)
        self.outcome: list[Exception | None] = []
        self.ours = TlsTransport(self.wire, protocol, ours, self.outcome.append, server_side=server_side)
        self.ours.begin()

    def shake_hands(self) -> None:
        while not self.outcome:
            with contextlib.suppress(ssl.SSLWantReadError):
                self.peer.do_handshake()
            self.ours.data_received(self.outgoing.read())
            self.carry()

    def carry(self) -> None:
        """What we have written reaches the peer."""
        data, self.wire.written = self.wire.written, b""
        self.incoming.write(data)


@pytest.fixture
def pair(certificates: Certificates) -> Pair:
    made = Pair(served_by(certificates), anybody(), asyncio.Protocol())
    made.shake_hands()
    return made


async def test_nothing_is_kept_of_what_comes_behind_the_goodbye(pair: Pair) -> None:
    with contextlib.suppress(ssl.SSLWantReadError):
        pair.peer.unwrap()
    pair.ours.data_received(pair.outgoing.read())
    before = psutil.Process().memory_info().rss
    for _ in range(1000):
        pair.ours.data_received(bytes(65_536))
    assert psutil.Process().memory_info().rss - before < 10_000_000


async def test_large_pieces_leave_no_large_buffers(certificates: Certificates) -> None:
    """OpenSSL's buffers keep the size of the largest piece that they were ever given."""
    pairs = [Pair(served_by(certificates), anybody(), asyncio.Protocol()) for _ in range(60)]
    for one in pairs:
        one.shake_hands()
    before = psutil.Process().memory_info().rss
    for one in pairs:
        one.ours.write(bytes(262_144))
        one.wire.written = b""
        for _ in range(16):
            one.peer.write(bytes(16_384))
        one.ours.data_received(one.outgoing.read())
    assert (psutil.Process().memory_info().rss - before) / len(pairs) < 500_000  # the peer's own takes most of it


async def test_a_peer_that_has_much_said_to_it_and_does_not_listen_is_cut_off(pair: Pair) -> None:
    pair.wire.written = bytes(2_000_000)
    with contextlib.suppress(ssl.SSLWantReadError):
        pair.peer.unwrap()
    pair.ours.data_received(pair.outgoing.read())
    pair.ours.write_eof()  # our own goodbye comes behind all that
    assert pair.wire.aborted


class Moody(asyncio.Protocol):
    """Pauses, resumes, writes and ends its stream while it is given something."""

    def __init__(self, dice: random.Random) -> None:
        self.dice = dice
        self.transport: TlsTransport
        self.wire: Wire
        self.received = b""
        self.ends = 0

    def data_received(self, data: bytes) -> None:
        assert not self.wire.paused, "delivered while paused"
        assert not self.ends, "delivered behind the end"
        self.received += data
        mood = self.dice.random()
        if mood < 0.3:
            self.transport.pause_reading()
        if mood < 0.1:
            self.transport.write(b"w")
        if mood < 0.05:
            self.transport.resume_reading()
        if 0.3 < mood < 0.33 and not self.wire.ended:
            self.transport.write_eof()

    def eof_received(self) -> bool:
        assert not self.wire.paused, "ended while paused"
        self.ends += 1
        return True


class Schedule:
    """One way in which bytes, pauses and ends may come."""

    def __init__(self, certificates: Certificates, seed: int) -> None:
        self.dice = random.Random(seed)  # noqa: S311 - a schedule that can be had again
        server, client = served_by(certificates), anybody()
        if self.dice.random() < 0.5:
            client.maximum_version = ssl.TLSVersion.TLSv1_2
        server_side = self.dice.random() < 0.7
        ours, theirs = (server, client) if server_side else (client, server)
        self.protocol = Moody(self.dice)
        self.pair = Pair(ours, theirs, self.protocol, server_side=server_side)
        self.protocol.transport, self.protocol.wire = self.pair.ours, self.pair.wire
        self.sent, self.on_the_way = b"", b""
        self.ready = self.goodbye = self.fin = False

    def step(self, number: int) -> None:
        self.pair.carry()
        if not self.ready:
            with contextlib.suppress(ssl.SSLWantReadError):
                self.pair.peer.do_handshake()
                self.ready = True
        elif not self.goodbye:
            self.talk(number)
        self.on_the_way += self.pair.outgoing.read()
        self.arrive(self.dice.choice([1, 5, 100, 20_000, 300_000]) if self.dice.random() < 0.8 else 0)
        if self.dice.random() < 0.3:
            self.pair.ours.resume_reading() if self.dice.random() < 0.7 else self.pair.ours.pause_reading()

    def talk(self, number: int) -> None:
        if self.dice.random() < 0.5:
            data = self.dice.randbytes(self.dice.choice([1, 100, 20_000, 60_000]))
            self.pair.peer.write(data)
            self.sent += data
        if number > STEPS // 4 and self.dice.random() < 0.05:
            self.goodbye = True
            with contextlib.suppress(ssl.SSLError):
                self.pair.peer.unwrap()

    def arrive(self, length: int) -> None:
        """So many bytes, and then the end of the stream, as far as we read on."""
        if self.on_the_way and length and not self.pair.wire.paused:
            data, self.on_the_way = self.on_the_way[:length], self.on_the_way[length:]
            self.pair.ours.data_received(data)
        if self.goodbye and not self.on_the_way and not self.fin and not self.pair.wire.paused:
            self.fin = True
            self.pair.ours.eof_received()

    @property
    def over(self) -> bool:
        return self.protocol.received == self.sent and self.protocol.ends == self.goodbye and not self.on_the_way


@pytest.mark.parametrize("seed", range(SCHEDULES))
async def test_no_byte_is_lost_and_the_end_comes_once_whatever_the_schedule(
    certificates: Certificates, seed: int
) -> None:
    schedule = Schedule(certificates, seed)
    for number in range(STEPS):
        schedule.step(number)
        if schedule.dice.random() < 0.3:
            await asyncio.sleep(0)
    while not schedule.over:
        schedule.pair.ours.resume_reading()
        await asyncio.sleep(0)
        schedule.arrive(30_000)
    assert schedule.pair.outcome == [None]
