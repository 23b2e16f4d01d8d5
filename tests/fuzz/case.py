"""A case: chunks of bytes, each from one side; as text, so that found ones stay in the tree.

    # what this is about
    server 520000000800000000
    client 5100000006424547494e00

A chunk is what one read returned; its bytes are hexadecimal.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from tests import messages as m
from tests.differential.script import Script, Send
from tests.wire.test_transcripts import TRANSCRIPTS
from tests.wire.transcript import Client, Expect

CORPUS: Final = Path(__file__).with_name("corpus")
SCRIPTS: Final = Path(__file__).parents[1] / "differential" / "corpus"
# What a client may begin with, and what has knocked at Postgres's port.
PACKETS: Final = (
    m.startup(user="app", database="shop"),
    m.startup(user="app", replication="database", application_name="x" * 200),
    m.startup(3 << 16 | 2, user="app"),
    m.ssl_request(),
    m.ssl_request(80877104),
    m.cancel_request(7, b"\1\2\3\4"),
    m.cancel_request(7, b"k" * 32),
    b"GET / HTTP/1.1\r\nHost: db\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
)
# What a server may say before it lets a client in.
SASL: Final = b"\0\0\0\x0aSCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0"
BEGINNINGS: Final = (
    m.message("R", SASL) + m.message("R", b"\0\0\0\x0br=1,s=2,i=4096") + m.message("R", b"\0\0\0\x0cv=3") + m.STARTED,
    m.message("R", SASL) + m.error("28000", "FATAL"),
    m.message("v", b"\0\3\0\2\0\0\0\1_pq_.x\0") + m.NOTICE + m.STARTED,
    m.message("R", b"\0\0\0\5salt") + m.error("28P01", "FATAL"),
)
# What is said around a rollback of ours: the answer to it, and then both sides while the client does not know yet.
ROLLED_BACK: Final = (
    m.PARSED + m.NOTICE + m.BOUND + m.complete("ROLLBACK") + m.CLOSED + m.parameter_status("DateStyle", "ISO"),
    m.error("34000") + m.NOTIFICATION + m.ready("E") + m.NOTICE,
)
LATE: Final = (
    (m.query("/* x */ COMMIT"), m.queried("ROLLBACK", "I")),
    (m.query("SELECT 1") + m.query("END; SELECT 1"), m.error("25P02") + m.ready("E")),
    (m.run("COMMIT AND CHAIN") + m.run("SELECT 1") + m.SYNC, m.PARSED + m.BOUND + m.NO_DATA + m.complete("ROLLBACK")),
    (m.bind("b", "p") + m.execute("p") + m.run("BEGIN") + m.SYNC, m.BOUND + m.complete("ROLLBACK") + m.ran("BEGIN")),
    (m.parse("ROLLBACK TO x", "c") + m.bind("c") + m.execute() + m.FLUSH, m.PARSED + m.BOUND + m.error("3B001")),
    (m.bind("a") + m.execute() + m.close("a") + m.FLUSH + m.SYNC, m.BOUND + m.complete("ROLLBACK") + m.ready("I")),
)
SIDES: Final = {"client": True, "server": False}


class Chunk(NamedTuple):
    """What one read returned."""

    from_client: bool
    data: bytes


Case = tuple[Chunk, ...]


def read(text: str) -> Case:
    """Read what `write` has written."""
    lines = (line.split() for line in text.splitlines() if line and not line.startswith("#"))
    return tuple(Chunk(SIDES[side], bytes.fromhex(data)) for side, data in lines)


def write(case: Case) -> str:
    return "".join(f"{'client' if from_client else 'server'} {data.hex()}\n" for from_client, data in case if data)


def found() -> dict[str, Case]:
    """The cases in the tree."""
    return {file.stem: read(file.read_text()) for file in sorted(CORPUS.glob("*.case"))}


def valid() -> Iterator[Case]:
    """Conversations that there may be: every transcript, and every script of the differential tests behind a login."""
    for steps in TRANSCRIPTS.values():
        yield tuple(Chunk(isinstance(step, Client), step.data) for step in steps if not isinstance(step, Expect))
    for file in sorted(SCRIPTS.glob("*.script")):
        sent = [
            Chunk(from_client=True, data=step.data)
            for step in Script.read(file.read_text()).steps
            if isinstance(step, Send)
        ]
        yield (Chunk(from_client=False, data=m.STARTED), *sent)


def seeds() -> list[Case]:
    """What cases are made from."""
    beginnings = [(Chunk(from_client=False, data=data),) for data in BEGINNINGS]
    answer = tuple(Chunk(from_client=False, data=data) for data in ROLLED_BACK)
    late = [(Chunk(from_client=True, data=asked), Chunk(from_client=False, data=data)) for asked, data in LATE]
    return [*valid(), *beginnings, answer, *late, *found().values()]


def size(case: Sequence[Chunk]) -> int:
    return sum(len(chunk.data) for chunk in case)
