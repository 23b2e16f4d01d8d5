"""What has to hold, whatever comes, of all that is done around a rollback that keeps its connections."""

import random
from collections.abc import Iterator
from typing import Final

from proxy.relay import HIGH_WATER
from proxy.wire.exits import Exit, exit_of
from proxy.wire.owed import Owed
from proxy.wire.requests import LOOK
from proxy.wire.rollback import LONGEST, Answer
from tests import messages as m
from tests.fuzz.case import Case, Chunk
from tests.fuzz.checks import Cutting, kept
from tests.fuzz.mutate import READ, split
from tests.rawclient import Message, fields
from tests.wire.conversation import OWED, Carried, Manner, carry, expected
from tests.wire.failed_backend import LAST_WORDS
from tests.wire.oracle import Excluded
from tests.wire.scan import is_refused, slow_exit_of

HEADER: Final = 5
MOST_KEPT: Final = 2_000_000  # of what a case can bring: texts are not kept, messages that are to be whole are
KINDS: Final = b"QFPBDECSHdcf"
PREPARED: Final = {b"a": b"COMMIT", b"b": b"ROLLBACK", b"": b"SELECT 1"}
ROLLBACKS: Final = {name for name, text in PREPARED.items() if exit_of(text) is Exit.ROLLBACK}
MANNERS: Final = (Manner(), Manner(1, 0.5, 1), Manner(20, 0.1, 2), Manner(0, 1.0, 3))
ANSWERED: Final = b"12C3EZ"
TOLD: Final = b"NAS"  # at any time


# Ways out of a block.


def check_exit(case: Case) -> None:
    """What the scanner's rules say, whatever stands before; of a beginning the same or nothing."""
    choose = random.Random(len(case))  # noqa: S311 - places to cut at are no secret
    for text in texts(case):
        way = exit_of(text)
        assert is_refused(text) or way is slow_exit_of(text), f"{text!r} is {way}"
        before = b"".join(choose.choices((b" ", b";", b"/*/**/;*/", b"--COMMIT\n", b"\v"), k=3))
        assert exit_of(before + text) is way, f"{before!r} makes {text!r} another one"
        at = choose.randrange(len(text) + 1)
        assert exit_of(text[:at], cut=True) in {way, Exit.UNKNOWN}, f"{text!r}, cut at {at}"


def texts(case: Case) -> Iterator[bytes]:
    """What may be taken for a text, up to what is read of one."""
    for from_client, data in case:
        for message in split(data) if from_client else ():
            yield message[HEADER:][:1000].rstrip(b"\0")
            yield message[HEADER:].partition(b"\0")[2][:1000]


# The answer to our own flight.


def check_answer(case: Case) -> None:
    """Only the right one is right, what was not said to us is passed on, and it is the same however it is cut."""
    data = b"".join(chunk.data for chunk in case if not chunk.from_client)
    first = answered(data, Cutting(0))
    for cutting in (Cutting(1), Cutting(30)):
        other = answered(data, cutting)
        assert first == other, f"whole: {first}; {cutting}: {other}"
    passed, over, problem, rest, ended = first
    told, own, behind = sorted_out(data)
    right = is_right(own)
    assert right == (over and not problem and not ended), f"{problem!r} of {own}"
    if right:
        assert passed == told
        assert rest == behind
    assert told.startswith(passed)
    assert data.endswith(rest)


def answered(data: bytes, cutting: Cutting) -> tuple[bytes, bool, str, bytes, bool]:
    """What is passed on, whether it is over, what is wrong, what is left behind it, and whether the session is over."""
    answer = Answer()
    passed = bytearray()
    taken = 0
    for piece in cutting.pieces(data):
        taken += len(piece)
        passed += answer.feed(piece)
        assert kept(answer) < LONGEST + READ + 10_000
        if answer.over:
            break
    return bytes(passed), answer.over, answer.problem, answer.rest() + data[taken:], answer.ended


def sorted_out(data: bytes) -> tuple[bytes, list[bytes], bytes]:
    """What the server says to everybody, what it says to us up to its ReadyForQuery, and what is behind that."""
    told, own = bytearray(), list[bytes]()
    while len(own) < len(ANSWERED) and len(data) >= HEADER:
        size = 1 + int.from_bytes(data[1:HEADER], "big", signed=True)
        if not HEADER <= size <= LONGEST + 1 or len(data) < size:
            break
        message, data = data[:size], data[size:]
        if message[0] in TOLD or (message[:1] == b"E" and field(message, "V", "S") in {"FATAL", "PANIC"}):
            told += message
        else:
            own.append(message)
    return bytes(told), own, data


def field(error: bytes, *codes: str) -> str:
    """The first of these fields that an ErrorResponse has."""
    known = fields(Message("E", error[HEADER:].decode(errors="replace").encode()))
    return next((known[code] for code in codes if code in known), "")


def is_right(own: list[bytes]) -> bool:
    if b"".join(one[:1] for one in own) != ANSWERED:
        return False
    return own[2] == m.complete("ROLLBACK") and own[5] == m.ready("E") and field(own[4], "C") == "34000"


# What is owed.


def check_owed(case: Case) -> None:
    """Nothing raises, whoever says what; all that passes is what was said, in its order, but for what is owed."""
    owed = Owed(OWED, ROLLBACKS)
    said, heard = {True: b"", False: b""}, {True: b"", False: b""}
    for from_client, data in case:
        for piece in Cutting(4000).pieces(data):
            if owed.doubt or owed.over:
                break
            said[from_client] += piece
            exchange(owed, Chunk(from_client, piece), heard)
            if owed.held > HIGH_WATER:  # nothing more would be read
                return
    size = kept(owed)
    assert size < MOST_KEPT, f"{size} bytes are kept"
    assert is_made_of(heard[True], said[True], (m.query("ROLLBACK"),)), "the server got what nobody said"
    assert is_made_of(heard[False], said[False], (OWED,)), "the client got what nobody said"
    if owed.over and not owed.doubt:
        assert owed.frontend(b"Q") + owed.released() == b"Q"
        assert owed.backend(b"E") == b"E"


def exchange(owed: Owed, chunk: Chunk, heard: dict[bool, bytes]) -> None:
    """Say it; `heard` is what the client has got through to the server, and the server to the client."""
    heard[chunk.from_client] += (owed.frontend if chunk.from_client else owed.backend)(chunk.data)
    if not owed.doubt:
        heard[True] += owed.released()


def is_made_of(heard: bytes, said: bytes, ours: tuple[bytes, ...]) -> bool:
    """Whether it is messages of these, in their order, or ours; the last one may be cut."""
    own = iter(split(said))
    *whole, last = split(heard)
    return all(one in ours or one in own for one in whole) and (
        last in ours or not last or any(one.startswith(last) for one in own)
    )


def check_carried(case: Case) -> None:
    """However requests and answers are cut and interleaved, the same arrives, and it is what the oracle says."""
    client = b"".join(chunk.data for chunk in case if chunk.from_client)
    carried = [carry(client, PREPARED, manner) for manner in MANNERS]
    first = carried[0]
    ends = any(one.doubt or one.to_client.endswith(LAST_WORDS) for one in carried)
    for manner, other in zip(MANNERS, carried, strict=True):
        if ends:  # when it does is up to who is heard first; what a server gets that has gone does not matter
            assert begins_alike(first, other), f"{manner}: {other}, not {first}"
        else:
            assert first == other, f"{manner}: {other}, not {first}"
    if is_plain(client):
        try:
            right = expected(client, PREPARED)
        except Excluded:
            return
        assert right == (first.to_client, bool(first.doubt)), f"{first}, not {right}"


def begins_alike(one: Carried, other: Carried) -> bool:
    return one.to_client.startswith(other.to_client) or other.to_client.startswith(one.to_client)


def is_plain(client: bytes) -> bool:
    """Whether it is whole messages that there are, none of which is too long to be looked at."""
    messages = split(client)
    return all(
        one[0] in KINDS and HEADER <= len(one) <= LOOK and int.from_bytes(one[1:HEADER], "big") == len(one) - 1
        for one in messages
        if one
    )
