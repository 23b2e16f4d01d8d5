"""Makes cases that nobody would send from ones that somebody might."""

import random
from collections.abc import Callable, Sequence
from struct import pack
from typing import Final

from tests import messages as m
from tests.fuzz.case import Case, size

LENGTHS: Final = (-(1 << 31), -1, 0, 1, 3, 4, 5, 6, 8, 63, 255, 256, 2304, 65_536, 1 << 24, 1 << 30, (1 << 31) - 1)
KINDS: Final = "BCDEFHPQSXdcfp123ACDEGHIKNRSTVWZnstv"
WORDS: Final = (b"\0", b"I", b"T", b"E", b"SFATAL\0VFATAL\0", b"COMMIT\0", b"ROLLBACK\0", b"a\0", b"\xff", b"\0\0\0\0")
LARGEST: Final = 20_000  # bytes of most cases; longer ones take time from others
SELDOM: Final = 0.01
READ: Final = 65_536  # bytes of a chunk: no read returns more

Change = Callable[[random.Random, bytes], bytes]


def flip(choose: random.Random, data: bytes) -> bytes:
    at = choose.randrange(len(data))
    return data[:at] + bytes([data[at] ^ (1 << choose.randrange(8))]) + data[at + 1 :]


def put_byte(choose: random.Random, data: bytes) -> bytes:
    at = choose.randrange(len(data))
    return data[:at] + choose.randbytes(1) + data[at + 1 :]


def put_length(choose: random.Random, data: bytes) -> bytes:
    at = choose.randrange(len(data))
    return data[:at] + pack("!i", choose.choice(LENGTHS)) + data[at + 4 :]


def drop(choose: random.Random, data: bytes) -> bytes:
    begin, end = sorted((choose.randrange(len(data)), choose.randrange(len(data) + 1)))
    return data[:begin] + data[end:]


def double(choose: random.Random, data: bytes) -> bytes:
    begin, end = sorted((choose.randrange(len(data)), choose.randrange(len(data) + 1)))
    return data[:end] + data[begin:end] * choose.choice((1, 1, 2, 20)) + data[end:]


def put_message(choose: random.Random, data: bytes) -> bytes:
    """A message of any type, at a boundary, as long as it stands among whole ones."""
    messages = split(data)
    messages.insert(choose.randrange(len(messages) + 1), any_message(choose))
    return b"".join(messages)


def drop_message(choose: random.Random, data: bytes) -> bytes:
    messages = split(data)
    del messages[choose.randrange(len(messages))]
    return b"".join(messages)


def move_message(choose: random.Random, data: bytes) -> bytes:
    messages = split(data)
    message = messages.pop(choose.randrange(len(messages)))
    messages.insert(choose.randrange(len(messages) + 1), message)
    return b"".join(messages)


def repeat_message(choose: random.Random, data: bytes) -> bytes:
    messages = split(data)
    at = choose.randrange(len(messages))
    times = choose.choice((2, 2, 3, 10, 300, 3000))
    messages[at] *= max(1, min(times, READ // max(1, len(messages[at]))))
    return b"".join(messages)


def change_body(choose: random.Random, data: bytes) -> bytes:
    """Another body in a message of the same type, framed as it should be."""
    messages = split(data)
    at = choose.randrange(len(messages))
    messages[at] = m.message(choose.choice((chr(messages[at][0] & 0x7F), choose.choice(KINDS))), any_body(choose))
    return b"".join(messages)


CHANGES: Final[dict[Change, int]] = {
    flip: 2, put_byte: 2, put_length: 2, drop: 2, double: 2, put_message: 5, drop_message: 5, move_message: 4,
    repeat_message: 2, change_body: 4,
}  # fmt: skip


def any_body(choose: random.Random) -> bytes:
    words = [choose.choice((*WORDS, choose.randbytes(choose.randrange(6)))) for _ in range(choose.randrange(4))]
    return b"".join(words) * choose.choice((1, 1, 1, 50))


def any_message(choose: random.Random) -> bytes:
    return m.message(choose.choice(KINDS), any_body(choose))


def split(data: bytes) -> list[bytes]:
    """The messages in it; the last may be cut, or not be one."""
    messages: list[bytes] = []
    while len(data) > len(b"Q....") and 0 < (length := 1 + int.from_bytes(data[1:5], "big", signed=True)) < len(data):
        messages.append(data[:length])
        data = data[length:]
    return [*messages, data]


# Whole cases.


def mutate(choose: random.Random, seeds: Sequence[Case]) -> Case:
    """A case made from one or two others."""
    chunks = list(choose.choice(seeds))
    for _ in range(choose.choice((1, 1, 2, 3, 5, 8))):
        at = choose.randrange(len(chunks)) if chunks else 0
        what = choose.random()
        if not chunks or what < 0.1:
            other = choose.choice(seeds)
            begin = choose.randrange(len(other)) if other else 0
            chunks[at:at] = other[begin : begin + choose.randrange(1, 6)]
        elif what < 0.2:
            chunks.insert(choose.randrange(len(chunks)), chunks.pop(at))
        elif what < 0.25:
            chunks[at] = chunks[at]._replace(from_client=not chunks[at].from_client)
        elif what < 0.3:
            del chunks[at]
        elif chunks[at].data:
            (change,) = choose.choices(list(CHANGES), list(CHANGES.values()))
            chunks[at] = chunks[at]._replace(data=change(choose, chunks[at].data)[:READ])
    case = tuple(chunk for chunk in chunks if chunk.data)
    return case if size(case) < LARGEST or choose.random() < SELDOM else case[:3]


def mutate_packets(choose: random.Random, packets: Sequence[bytes]) -> bytes:
    """What a client might begin with: packets, and what became of them."""
    data = b"".join(choose.choice(packets) for _ in range(choose.choice((1, 1, 1, 2, 3))))
    for _ in range(choose.choice((0, 1, 1, 2, 4))):
        if data:
            data = choose.choice((flip, put_byte, put_length, drop, double))(choose, data)
    return data
