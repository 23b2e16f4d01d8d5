"""Plays a script over one connection, in pieces, and keeps every byte that comes back.

A player never waits for anything but what the script waits for: while it sends it also reads, so that neither side can
be stuck behind the other.
"""

import contextlib
import random
import select
import socket
import ssl
import time
from collections.abc import Iterator
from typing import Final, NamedTuple

from proxy.settings import Address
from tests import messages as m
from tests.differential.script import End, Script, Send, Startup, Wait
from tests.harness import PATIENCE
from tests.life.support import PlainClient
from tests.rawclient import Message, now

READ: Final = 65_536
HEADER: Final = 5
# What a session is given to have its last statements answered when its client has ended: proxy/session.py's GRACE.
GRACE: Final = 0.5
UNHEARD: Final = ("close", "reset")  # ends after which the client hears nothing more


class Way(NamedTuple):
    """How to reach the server.

    Attributes:
        address: its own, or a proxy's.
        database: one for each client, so that clients do not meet.
        tls: how to encrypt, or None.
    """

    address: Address
    database: str
    tls: ssl.SSLContext | None = None


class Manner(NamedTuple):
    """How a script is played; what comes back does not depend on it.

    Attributes:
        largest: bytes that are sent in one piece at the most; 0: as many as there are.
        seed: of the sizes of pieces, and of the pauses between them.
        waits: whether the script's waits are kept; else everything is sent at once.
        patient: whether all that was ever waited for is there before the client ends.
    """

    largest: int = 0
    seed: int = 0
    waits: bool = True
    patient: bool = True


WHOLE: Final = Manner()


class Heard(NamedTuple):
    """What came back.

    Attributes:
        stream: all of it.
        certain: so many bytes of it were waited for.
        whole: whether it was read to its end, which the client did not wait for if it closed or reset its socket.
        after: seconds from the client's end to the end of the stream.
        short: what the script waited for and did not get, or None.
    """

    stream: bytes
    certain: int
    whole: bool
    after: float
    short: str | None = None


class Wire(PlainClient):
    """A connection that reads while it writes.

    Attributes:
        stream: all that has come.
        position: where the last message that was waited for ends.
        ended: whether the peer has ended its stream.
    """

    def __init__(self, way: Way) -> None:
        self.stream = bytearray()
        self.position = 0
        self.ended = False
        super().__init__(way.address)
        if way.tls is not None:
            self.socket.sendall(m.ssl_request())
            assert self.socket.recv(1) == b"S", "TLS was refused"
            self.socket = way.tls.wrap_socket(self.socket, server_hostname="localhost")
        self.socket.settimeout(0)

    def send(self, data: bytes) -> None:
        while data and not self.ended:
            data = data[self._pump(data) :]

    def send_in_pieces(self, data: bytes, manner: Manner, choose: random.Random) -> Iterator[None]:
        """Send this; yields after each piece."""
        while data:
            size = choose.randint(1, manner.largest) if manner.largest else len(data)
            self.send(data[:size])
            data = data[size:]
            if data and choose.random() < 0.03:  # so that the reader is sure to see this piece by itself
                time.sleep(0.0003)
            yield

    def receive(self) -> Message | None:
        while (message := self._next()) is None and not self.ended:
            self._pump()
        return message

    def wait(self, kind: str) -> bool:
        """Read to the next message of this type; false if the stream ends before it."""
        while (message := self.receive()) is not None:
            if message.kind == kind:
                return True
        return False

    def read_to(self, length: int) -> None:
        """Read until so many bytes have come in all, or the stream has ended."""
        while len(self.stream) < length and not self.ended:
            self._pump()

    def read_all(self) -> None:
        while not self.ended:
            self._pump()

    def _next(self) -> Message | None:
        rest = len(self.stream) - self.position
        if rest < HEADER:
            return None
        length = 1 + int.from_bytes(self.stream[self.position + 1 : self.position + HEADER], "big")
        if rest < length:
            return None
        begin, self.position = self.position, self.position + length
        return Message(chr(self.stream[begin]), bytes(self.stream[begin + HEADER : self.position]))

    def _pump(self, data: bytes = b"") -> int:
        """Wait until something can be read, or some of this be sent; returns how much of it was."""
        pending = isinstance(self.socket, ssl.SSLSocket) and self.socket.pending()
        ready = select.select([self.socket], [self.socket] if data else [], [], 0 if pending else PATIENCE)
        if not (pending or ready[0] or ready[1]):
            raise TimeoutError(f"nothing more came behind {bytes(self.stream[-100:])!r}")
        if pending or ready[0]:
            self._read()
        if not ready[1]:
            return 0
        with contextlib.suppress(BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            try:
                return self.socket.send(data)
            except (BrokenPipeError, ConnectionResetError):
                return len(data)  # what the peer has said before is still to be read
        return 0

    def _read(self) -> None:
        with contextlib.suppress(BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            try:
                data = self.socket.recv(READ)
            except (ConnectionResetError, ssl.SSLEOFError):
                data = b""
            self.stream += data
            self.ended = not data


def log_in(wire: Wire, database: str, startup: Startup) -> None:
    """Ask for a session of the superuser's."""
    given = {"user": "postgres", "database": database, "application_name": "differential"}
    wire.send(m.startup(startup.protocol, **(given | dict(startup.parameters))))


class Player:
    """One script on one connection.

    Args:
        script: what to play.
        way: where.
        manner: how.
        certain: for a patient player: so many bytes have to have come before the client ends.
    """

    def __init__(self, script: Script, way: Way, manner: Manner = WHOLE, certain: int = 0) -> None:
        self._script = script
        self._manner = manner
        self._certain = certain
        self._random = random.Random(manner.seed)  # noqa: S311 - sizes of pieces are no secret
        self._wire = Wire(way)
        self._flight = b""
        self._short: str | None = None
        self.heard = Heard(b"", 0, whole=True, after=0.0)
        log_in(self._wire, way.database, script.startup)

    def play(self) -> Iterator[None]:
        """Play it; yields whenever somebody else may go on. What came is in `heard` then."""
        end = "terminate"
        try:
            if not self._wire.wait("Z"):
                end = "refused"
            for step in self._script.steps:
                if isinstance(step, Send):
                    self._flight += step.data
                elif isinstance(step, End):
                    end = step.how
                elif self._manner.waits:
                    yield from self._wait(step)
            yield from self._end(end)
        except TimeoutError as error:
            self._short = self._short or str(error)
        finally:
            self._wire.close()
        self.heard = self.heard._replace(stream=bytes(self._wire.stream), short=self._short)

    def _send(self, data: bytes) -> Iterator[None]:
        yield from self._wire.send_in_pieces(data, self._manner, self._random)

    def _wait(self, step: Wait) -> Iterator[None]:
        flight, self._flight = self._flight, b""
        yield from self._send(flight)
        if not self._wire.wait(step.kind):
            self._short = f"the stream ended before {step.kind!r}"
        yield

    def _end(self, how: str) -> Iterator[None]:
        flight, self._flight = self._flight, b""
        if how == "terminate" and not flight.endswith(m.TERMINATE):
            flight += m.TERMINATE
        head = flight.removesuffix(m.TERMINATE)
        yield from self._send(head)
        if self._manner.patient:
            self._wire.read_to(self._certain)
        self._wire.send(flight[len(head) :])
        before = now()
        if how == "reset":
            self._wire.reset()
        elif how == "eof":
            socket.socket.shutdown(self._wire.socket, socket.SHUT_WR)  # of the connection: TLS's own says more
        if how not in UNHEARD:
            self._wire.read_all()
        position = self._wire.position
        self.heard = Heard(bytes(self._wire.stream), position, how not in UNHEARD, now() - before)


def play(script: Script, way: Way, manner: Manner = WHOLE, certain: int = 0) -> Heard:
    """Play one script by itself."""
    return play_together([Player(script, way, manner, certain)])[0]


def play_together(players: list[Player], turns: random.Random | None = None) -> list[Heard]:
    """Play scripts at once: whose turn it is is up to `turns`."""
    playing = [(player, player.play()) for player in players]
    while playing:
        number = turns.randrange(len(playing)) if turns else 0
        try:
            next(playing[number][1])
        except StopIteration:
            playing.pop(number)
    return [player.heard for player in players]
