"""A client, what stands between a rollback of ours and its end, and a server: cut and interleaved as one likes."""

import itertools
import random
from typing import Final, NamedTuple

from proxy.relay import HIGH_WATER
from proxy.wire.exits import Exit, exit_of
from proxy.wire.owed import Owed
from tests import messages as m
from tests.behaviour.support import cut
from tests.wire.failed_backend import FailedBackend
from tests.wire.oracle import Ends, Oracle

OWED: Final = m.error("25P03")


class Manner(NamedTuple):
    """How a conversation is carried.

    Attributes:
        largest: bytes of a piece at the most; 0: as many as there are.
        client_first: how often, of all times when both sides have something to say, the client is heard.
        seed: of sizes and turns.
    """

    largest: int = 0
    client_first: float = 0.0
    seed: int = 0


class Carried(NamedTuple):
    """What has arrived.

    Attributes:
        to_server, to_client: all of it.
        over: whether everything is passed on as it comes.
        doubt: why the session has to be ended, or "".
        left: of the client's, what was neither sent nor is to be.
    """

    to_server: bytes
    to_client: bytes
    over: bool
    doubt: str
    left: int


class Line:
    """What one side has said and the other has not been given yet."""

    def __init__(self, manner: Manner, choose: random.Random) -> None:
        self._largest = manner.largest
        self._choose = choose
        self.waiting = b""

    def take(self) -> bytes:
        size = self._choose.randint(1, self._largest) if self._largest else len(self.waiting)
        piece, self.waiting = self.waiting[:size], self.waiting[size:]
        return piece


class Carrier:
    """Does what proxy/rollback.py does, without sockets.

    Args:
        client: all that the client says.
        prepared: texts of the statements that it has prepared before.
        manner: how it is carried.
    """

    def __init__(self, client: bytes, prepared: dict[bytes, bytes], manner: Manner) -> None:
        self._choose = random.Random(manner.seed)  # noqa: S311 - sizes of pieces are no secret
        self._client_first = manner.client_first
        self._server = FailedBackend(prepared)
        self._client_says, self._server_says = Line(manner, self._choose), Line(manner, self._choose)
        self._client_says.waiting = client
        self._owed = Owed(OWED, {name for name, text in prepared.items() if exit_of(text) is Exit.ROLLBACK})
        self._to_server: list[bytes] = []
        self._to_client: list[bytes] = []
        self._open = False

    def carry(self) -> Carried:
        """Until there is nothing more that could be said."""
        while not self._owed.doubt:
            heard = bool(self._client_says.waiting) and self._owed.held <= HIGH_WATER
            answered = bool(self._server_says.waiting)
            if heard and (not answered or self._choose.random() < self._client_first):
                self._from_client(self._client_says.take())
            elif answered:
                self._from_server(self._server_says.take())
            else:
                break
            if self._owed.over and not self._open:
                self._send(self._owed.released())
                self._open = True
        to_server, to_client = b"".join(self._to_server), b"".join(self._to_client)
        left = self._owed.held + len(self._client_says.waiting)
        return Carried(to_server, to_client, self._open, self._owed.doubt, left)

    def _send(self, data: bytes) -> None:
        self._to_server.append(data)
        self._server_says.waiting += self._server.feed(data)

    def _from_client(self, data: bytes) -> None:
        self._send(data if self._open else self._owed.frontend(data))

    def _from_server(self, data: bytes) -> None:
        self._to_client.append(data if self._open else self._owed.backend(data))
        if not self._open:
            self._send(self._owed.released())


def carry(client: bytes, prepared: dict[bytes, bytes], manner: Manner) -> Carried:
    return Carrier(client, prepared, manner).carry()


# What is right.


class Asked:
    """A server that is asked step by step."""

    def __init__(self, prepared: dict[bytes, bytes]) -> None:
        self._backend = FailedBackend(prepared)

    def ask(self, message: bytes) -> list[bytes]:
        return list(cut(self._backend.feed(message)))


def expected(client: bytes, prepared: dict[bytes, bytes]) -> tuple[bytes, bool]:
    """What the client gets, and whether the session has to be ended behind that.

    Raises:
        Excluded: nobody can say.
    """
    oracle = Oracle(Asked(prepared), OWED, prepared)
    heard: list[bytes] = []
    try:
        for message in itertools.takewhile(lambda one: one[:1] != b"X", cut(client)):
            heard += oracle.hear(message)
    except Ends:
        return b"".join(heard), True
    return b"".join(heard), False
