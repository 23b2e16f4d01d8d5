"""Scripts of clients that do not know that their transaction is gone: through a proxy that has rolled it back, and what
the server itself says to a client whose transaction has failed, with what pgleash owes put in its place.
"""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, NamedTuple

from proxy.report.events import LeakRolledBack
from proxy.wire.messages import PROTOCOL_3_0
from tests import messages as m
from tests.behaviour.support import cut
from tests.differential.ground import Ground
from tests.differential.player import Manner, Wire, log_in
from tests.differential.script import Startup
from tests.harness import until
from tests.rawclient import Message, fields
from tests.wire.conversation import OWED
from tests.wire.oracle import Ends, Excluded, Oracle

# What is prepared before; the last one has no name.
PREPARED: Final = {
    b"c": b"COMMIT", b"r": b"ROLLBACK", b"k": b"COMMIT AND CHAIN", b"s": b"SELECT a FROM truth", b"e": b"",
    b"i": b"INSERT INTO truth VALUES (90)", b"v": b"INSERT INTO truth VALUES ($1)", b"t": b"ROLLBACK TO x", b"": b"END",
}  # fmt: skip
BEGINNING: Final = (
    m.query("BEGIN"),
    m.query("INSERT INTO truth VALUES (1)"),
    b"".join(m.parse(text.decode(), name.decode()) for name, text in PREPARED.items()) + m.SYNC,
)
# A failure that leaves the statement without a name where it is.
FAILURE: Final = (
    m.parse("SELECT 1/0", "wrong") + m.bind("wrong", "wrong") + m.execute("wrong") + m.SYNC,
    m.close("wrong", "P") + m.close("wrong") + m.SYNC,
)
LAST: Final[dict[int, str]] = {
    ord("Q"): "Z", ord("F"): "Z", ord("S"): "Z", ord("P"): "1E", ord("B"): "2E", ord("C"): "3E", ord("D"): "TnE",
    ord("E"): "CIsE",
}  # fmt: skip
EXTENDED: Final = b"PBDEC"


class Gone(Excluded):
    """The server has crashed, which is its own fault."""


class Played(NamedTuple):
    """What a client has got, and what it has left in the database.

    Attributes:
        messages: all of them.
        fatal: whether the session was ended, or has to be.
        left: what is in the database.
    """

    messages: list[bytes]
    fatal: bool
    left: object


class Asked:
    """A session with the server itself, asked step by step."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    def ask(self, message: bytes) -> list[bytes]:
        self._wire.send(message + (m.FLUSH if message[0] in EXTENDED else b""))
        last = LAST.get(message[0])
        answer: list[bytes] = []
        while last is not None and (not answer or chr(answer[-1][0]) not in last):
            one = self._wire.receive()
            if one is None:
                raise Gone("a script that ends the server")
            if one.kind == "G":
                raise Excluded("a COPY FROM STDIN that begins")
            answer.append(m.message(one.kind, one.body))
        return answer


@contextmanager
def begun(ground: Ground, *, through: bool) -> Iterator[Wire]:
    """A session with an open transaction that has done something."""
    ground.reset(0)
    way = ground.through(0) if through else ground.direct(0)
    with Wire(way) as wire:
        log_in(wire, way.database, Startup(PROTOCOL_3_0))
        wire.wait("Z")
        for step in BEGINNING:
            wire.send(step)
            assert wire.wait("Z")
        yield wire


def play_failed(ground: Ground, script: bytes) -> Played:
    """Play it to the server itself, and say what a client of pgleash gets instead.

    Raises:
        Excluded: nobody can say.
    """
    messages: list[bytes] = []
    fatal = False
    with begun(ground, through=False) as wire:
        for step in FAILURE:
            wire.send(step)
            assert wire.wait("Z")
        oracle = Oracle(Asked(wire), OWED, PREPARED)
        try:
            for message in cut(script):
                messages += oracle.hear(message)
        except Ends:
            fatal = True
        wire.send(m.TERMINATE)
        wire.read_all()
    return Played(messages, fatal, ground.left(0))


def play_rolled_back(ground: Ground, script: bytes, manner: Manner, expected: Played) -> Played:
    """Play it through the proxy, which has rolled the transaction back.

    Or is about to, if the manner does not wait: the first piece comes before the server has answered.
    """
    choose = random.Random(manner.seed)  # noqa: S311 - sizes of pieces are no secret
    with begun(ground, through=True) as wire:
        piece = choose.randint(1, manner.largest) if manner.largest else len(script)
        early = 0 if manner.waits else piece
        begin = wire.position
        roll_back(ground, wire, script[:early])
        for _ in wire.send_in_pieces(script[early:], manner, choose):
            pass
        for _ in range(sum(one[:1] == b"Z" for one in expected.messages)):
            wire.wait("Z")
        if not expected.fatal:
            wire.send(m.TERMINATE)
        wire.read_all()
        messages = list(cut(bytes(wire.stream[begin:])))
    fatal = bool(messages) and messages[-1][:1] == b"E" and fields(Message("E", messages[-1][5:]))["S"] == "FATAL"
    return Played(messages[:-1] if fatal else messages, fatal, ground.left(0))


def roll_back(ground: Ground, wire: Wire, early: bytes) -> None:
    """Have the transaction rolled back; either wait for it, or say this before the server can have answered."""
    proxy = ground.proxy
    proxy.recorder.events.clear()
    (key,) = (one for one in cut(bytes(wire.stream)) if one[:1] == b"K")
    session = proxy.session_of(int.from_bytes(key[5:9], "big"))

    def begin() -> bool:
        begun = session.guard.enforcer.roll_back("test") == ""
        if begun and early:
            session.client.data_received(early)
        return begun

    until(lambda: proxy.ask(begin), what="it is not safe")
    if not early:
        proxy.recorder.wait(LeakRolledBack)


def difference(expected: Played, got: Played) -> str | None:
    """What is not as it should be, or None."""
    shown = [OWED if is_owed(one) else one for one in got.messages]
    if shown != expected.messages:
        return f"the client got {shown}, not {expected.messages}"
    if got.fatal != expected.fatal:
        return f"the session was {'' if got.fatal else 'not '}ended"
    return None if got.left == expected.left else f"it left {got.left}, not {expected.left}"


def is_owed(message: bytes) -> bool:
    if message[:1] != b"E":
        return False
    error = fields(Message("E", message[5:]))
    return (error["V"], error["C"]) == ("ERROR", "25P03") and error["M"].startswith(
        "transaction rolled back by pgleash"
    )
