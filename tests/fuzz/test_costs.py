"""What a session may cost: so many bytes at the most, and time in proportion to what it says, whatever it says."""

import itertools
import time
from collections.abc import Callable, Iterator

import pytest

from proxy.wire.startup import FirstPackets
from proxy.wire.tracker import Tracker
from tests import messages as m
from tests.behaviour.support import function_call
from tests.fuzz.case import Case, Chunk
from tests.fuzz.checks import MOST_KEPT, kept
from tests.fuzz.mutate import READ

LARGE = 200_000  # bytes
SMALL = 8_000
TIMES = 8
# Twice in proportion, and as much again for a machine that has other things to do.
MOST = TIMES * 4


def ask(*messages: bytes) -> Callable[[int], bytes]:
    """These again and again."""
    return lambda number: messages[number % len(messages)]


FROM_CLIENT: dict[str, Callable[[int], bytes]] = {
    "queries": ask(m.query("SELECT 1")),
    "queries of different lengths": lambda number: m.query("SELECT " + "1" * (number % 3000)),
    "requests that are all unequal": ask(m.SYNC, function_call(0), m.close("a") + m.SYNC),
    "Syncs that open nothing": ask(m.SYNC, m.close("a") + m.SYNC),
    "series without an end": ask(m.run("SELECT 1")),
    "prepared statements": lambda number: m.parse("SELECT 1", f"s{number}"),
    "large prepared statements": lambda number: m.parse("x" * 3000, f"s{number}"),
    "names that are too long": lambda number: m.parse("SELECT 1", f"{number}" * 300),
    "portals": lambda number: m.bind("", f"p{number}"),
    "one statement again and again": ask(m.parse("SELECT 1", "a"), m.close("a")),
    "COPY data": ask(m.copy_data(b"")),
    "ends of COPY": ask(m.query("COPY t FROM STDIN"), m.COPY_DONE),
    "one large message": ask(m.query("x" * LARGE)),
}
FROM_SERVER: dict[str, Callable[[int], bytes]] = {
    "rows": ask(m.row()),
    "parameters": lambda number: m.parameter_status(f"name{number}", "x" * 100),
    "one parameter": lambda number: m.parameter_status("application_name", "x" * (number % 1000)),
    "keys": lambda number: m.key_data(number, b"k" * 200),
    "notices": ask(m.NOTICE, m.NOTIFICATION),
}
STREAMS = [(name, make, True) for name, make in FROM_CLIENT.items()]
STREAMS += [(name, make, False) for name, make in FROM_SERVER.items()]


def stream(make: Callable[[int], bytes], size: int) -> bytes:
    data = bytearray()
    for number in itertools.count():
        if len(data) >= size:
            return bytes(data)
        data += make(number)
    raise AssertionError


def chunks(data: bytes, size: int, *, from_client: bool) -> Iterator[Chunk]:
    return (Chunk(from_client, data[begin : begin + size]) for begin in range(0, len(data), size))


def seconds(case: Case) -> float:
    """How long it takes to look at it, at the best of three times."""
    best = float("inf")
    for _ in range(3):
        tracker = Tracker(lambda _reason, _error: None, lambda: None)
        tracker.backend(m.STARTED, 0.0)
        begin = time.process_time()
        for from_client, data in case:
            (tracker.frontend if from_client else tracker.backend)(data, 1.0)
        best = min(best, time.process_time() - begin)
    return best


@pytest.mark.parametrize(("name", "make", "from_client"), STREAMS, ids=[name for name, _, _ in STREAMS])
def test_what_is_kept_is_bounded(name: str, make: Callable[[int], bytes], *, from_client: bool) -> None:
    assert name
    tracker = Tracker(lambda _reason, _error: None, lambda: None)
    tracker.backend(m.STARTED, 0.0)
    for from_client_, data in chunks(stream(make, LARGE), READ, from_client=from_client):
        (tracker.frontend if from_client_ else tracker.backend)(data, 1.0)
        assert kept(tracker) <= MOST_KEPT


@pytest.mark.parametrize("size", [16, READ])
@pytest.mark.parametrize(("name", "make", "from_client"), STREAMS, ids=[name for name, _, _ in STREAMS])
def test_time_is_in_proportion(name: str, make: Callable[[int], bytes], size: int, *, from_client: bool) -> None:
    assert name
    small, large = (
        seconds(tuple(chunks(stream(make, length), size, from_client=from_client))) for length in (SMALL, SMALL * TIMES)
    )
    assert large < MOST * max(small, 0.001)


def test_a_beginning_byte_by_byte_takes_time_in_proportion() -> None:
    data = m.startup(user="x" * 9_000)
    begin = time.process_time()
    for _ in range(10):
        packets = FirstPackets()
        for at in range(len(data)):
            packets.feed(data[at : at + 1])
    assert time.process_time() - begin < 2.0  # it takes a fiftieth
