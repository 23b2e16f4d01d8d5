"""What has to hold whatever comes. Each check raises an AssertionError that says what is wrong."""

import enum
import itertools
import random
import sys
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from proxy.errors import PeerError
from proxy.report.events import InternalError
from proxy.wire.authentication import LONGEST, AuthenticationGate
from proxy.wire.hold import Hold
from proxy.wire.scanner import SKIP, Scanner, capture_limits
from proxy.wire.startup import CancelRequest, EncryptionRequest, FirstPackets
from proxy.wire.tracker import Tracker
from tests.fuzz.case import Case, Chunk
from tests.leash.fake import FakeSession

# Bytes that a tracker may keep, as Python counts them: 256 texts of 2 KB that are pending, 64 KB of prepared ones, 64
# portals, and 10,000 unequal runs in flight, with the ones that one read can bring beyond that.
MOST_KEPT: Final = 6_000_000
MOST_BEGINNING: Final = 10_100  # a startup packet that is not whole yet
MOST_SCANNED: Final = 10_000  # the largest limit, and a header
KNOWN: Final = frozenset(b"BCDEFHPQSXdcfp123ACDEGHIKNRSTVWZnstv")
OURS: Final = "proxy.wire."


class Cutting(NamedTuple):
    """How each chunk comes: 0 whole, 1 byte by byte, else in pieces of up to so many bytes."""

    largest: int

    def pieces(self, data: bytes) -> Iterator[bytes]:
        sizes = self._sizes(len(data))
        position = 0
        while position < len(data):
            size = next(sizes)
            yield data[position : position + size]
            position += size

    def _sizes(self, length: int) -> Iterator[int]:
        if self.largest <= 1:
            return itertools.repeat(self.largest or length)
        choose = random.Random(length)  # noqa: S311 - sizes of pieces are no secret
        return (choose.randint(1, self.largest) for _ in itertools.count())


class Seen(NamedTuple):
    """What is known of a session."""

    opaque: bool
    hold: Hold | None = None
    in_transaction: bool = False
    at_boundary: tuple[bool, bool] = (False, False)
    said_goodbye: int = 0
    texts: tuple[bytes, ...] = ()
    rest: tuple[object, ...] = ()

    @property
    def where(self) -> tuple[object, ...]:
        """What tells it apart from what others have led to, without texts and figures."""
        flags = (self.rest[:2], self.rest[9:10], self.rest[11:]) if self.rest else ()
        return self.opaque, self.hold and self.hold.kind, self.in_transaction, self.at_boundary, flags


class Watched:
    """A tracker, and what it has told."""

    def __init__(self) -> None:
        self.goodbyes = 0
        self.fault: Exception | None = None
        self.tracker = Tracker(self._gave_up, self._said_goodbye)

    def _gave_up(self, _reason: str, error: Exception | None) -> None:
        self.fault = self.fault or error

    def _said_goodbye(self) -> None:
        self.goodbyes += 1

    def feed(self, chunk: Chunk, now: float) -> None:
        (self.tracker.frontend if chunk.from_client else self.tracker.backend)(chunk.data, now)

    def seen(self) -> Seen:
        tracker, flow = self.tracker, self.tracker.flow
        if tracker.opaque is not None:
            return Seen(opaque=True)
        done, due = flow.transaction, flow.due
        return Seen(
            opaque=False,
            hold=tracker.hold(),
            in_transaction=tracker.in_transaction,
            at_boundary=(tracker.frontend_at_boundary, tracker.backend_at_boundary),
            said_goodbye=self.goodbyes,
            texts=(flow.opener, flow.last, done.first_write),
            rest=(
                flow.phase, flow.status, flow.statements, flow.backend.pid, flow.backend.cancel_key,
                *flow.backend.parameters.items(),
                flow.only_parsed, done.number, done.outcome, done.idle, done.failed, due.quiet, due.busy,
                due.discarding, due.stalled, due.opens, due.maybe > 0, due.copy_syncs > 0, done.is_block,
            ),
        )  # fmt: skip


def kept(thing: object) -> int:
    """Bytes of all that an object of ours keeps, as Python counts them."""
    total, known, waiting = 0, set[int](), deque([thing])
    while waiting:
        one = waiting.pop()
        if id(one) in known:
            continue
        known.add(id(one))
        total += sys.getsizeof(one)
        if isinstance(one, Mapping):
            waiting += [*one.keys(), *one.values()]
        elif isinstance(one, (list, tuple, set, deque)):
            waiting += one
        elif type(one).__module__.startswith(OURS) and not isinstance(one, enum.Enum):
            slots: tuple[str, ...] = getattr(type(one), "__slots__", ())
            waiting += [getattr(one, name) for name in slots if hasattr(one, name)]
    return total


# The tracker.


def check_tracker(case: Case) -> Seen:
    """Nothing raises, no fault of ours, the same however it is cut, not too much is kept; what is known at the end."""
    first = play(case, Cutting(0))
    for cutting in (Cutting(1), Cutting(100)):
        for number, (one, other) in enumerate(zip(first, play(case, cutting), strict=True)):
            assert one == other, f"after chunk {number}, whole: {one}; {cutting}: {other}"
    return first[-1] if first else Seen(opaque=False)


def play(case: Case, cutting: Cutting) -> list[Seen]:
    """What is known after each chunk."""
    watched = Watched()
    seen: list[Seen] = []
    for number, (from_client, data) in enumerate(case):
        for piece in cutting.pieces(data):
            watched.feed(Chunk(from_client, piece), float(number))
        assert watched.fault is None, f"{watched.fault!r} while tracking chunk {number}, {cutting}"
        seen.append(watched.seen())
    if not cutting.largest:
        size = kept(watched.tracker)
        assert size <= MOST_KEPT, f"{size} bytes are kept"
    return seen


def check_guard(case: Case) -> None:
    """Whatever comes, and whenever: nothing raises, and a leak is never told of a session that is not understood."""
    choose = random.Random(len(case))  # noqa: S311 - times are no secret
    session = FakeSession(flag_after=1.0, terminate_after=30.0, flag_transaction_after=60.0)
    for from_client, data in case:
        session.in_buffer_for_client = choose.choice((0, 0, 0, 1000))
        session.in_buffer_for_server = choose.choice((0, 0, 0, 1000))
        session.taken_bytes += choose.choice((0, 1, 5000))
        (session.client if from_client else session.server)(data)
        session.loop.turn()
        told = len(session.events)
        opaque = session.tracker.opaque is not None
        session.loop.advance(choose.choice((0.0, 0.1, 2.0, 40.0)))
        assert not opaque or len(session.events) == told, f"told of an opaque session: {session.names()[told:]}"
    session.guard.client_gone("eof", session.loop.now)
    faults = [event for event in session.events if isinstance(event, InternalError)]
    assert faults == []


# The scanner.


def check_scanner(case: Case) -> None:
    """The same messages, and the same end, however a stream is cut."""
    for side in (True, False):
        data = b"".join(chunk.data for chunk in case if chunk.from_client is side)
        choose = random.Random(len(data))  # noqa: S311 - limits are no secret
        limits = capture_limits({kind: choose.choice((SKIP, 0, 1, 8, 300)) for kind in KNOWN})
        first = scan(data, limits, Cutting(0))
        for cutting in (Cutting(1), Cutting(50)):
            other = scan(data, limits, cutting)
            assert first == other, f"whole: {first}; {cutting}: {other}"


def scan(data: bytes, limits: Sequence[int], cutting: Cutting) -> tuple[list[tuple[int, bytes]], str | None, bool]:
    heard: list[tuple[int, bytes]] = []
    scanner = Scanner(limits, lambda kind, body: heard.append((kind, body)))
    for piece in cutting.pieces(data):
        scanner.feed(piece)
    size = kept(scanner) - sys.getsizeof(limits)
    assert size <= MOST_SCANNED, f"{size} bytes are kept"
    return heard, scanner.lost, scanner.at_boundary


# First packets.


def check_first_packets(case: Case) -> None:
    """The documented error or a packet, the same however it is cut."""
    data = b"".join(chunk.data for chunk in case)
    ends = [begin(data, cutting) for cutting in (Cutting(0), Cutting(1), Cutting(30))]
    if not any(encrypted for encrypted, _ in ends):  # what comes with such a request is an attack, behind it is not
        assert ends[0] == ends[1] == ends[2], f"{ends}"


def begin(data: bytes, cutting: Cutting) -> tuple[bool, tuple[str, object]]:
    """Whether encryption was asked for, and what came last."""
    packets = FirstPackets()
    encrypted = False
    taken = 0
    for piece in cutting.pieces(data):
        taken += len(piece)
        try:
            packet = packets.feed(piece)
        except PeerError as error:
            return encrypted, ("refused", str(error))
        if isinstance(packet, EncryptionRequest):
            encrypted = True
        elif packet is not None:
            assert data[:taken].endswith(packet.packet + packets.rest), "bytes were lost"
            return encrypted, (
                "packet",
                (packet, packet.key if isinstance(packet, CancelRequest) else packet.is_replication),
            )
        size = len(packets.rest)
        assert size <= MOST_BEGINNING, f"{size} bytes are kept"
    return encrypted, ("more", packets.rest)


# Authentication.


def check_gate(case: Case) -> None:
    """What the server says passes as it is, the same however it is cut, and not more of it is held back than may be."""
    data = b"".join(chunk.data for chunk in case if not chunk.from_client)
    for withhold_plus in (False, True):
        first = pass_gate(data, Cutting(0), withhold_plus=withhold_plus)
        for cutting in (Cutting(1), Cutting(50)):
            assert first == pass_gate(data, cutting, withhold_plus=withhold_plus), f"{cutting}, {withhold_plus}"
    passed = pass_gate(data, Cutting(0), withhold_plus=False)[0]
    assert data.startswith(passed)
    assert len(data) - len(passed) <= LONGEST


def pass_gate(data: bytes, cutting: Cutting, *, withhold_plus: bool) -> tuple[bytes, object]:
    gate = AuthenticationGate("hint", withhold_plus=withhold_plus)
    passed = b"".join(gate.feed(piece) for piece in cutting.pieces(data))
    return passed, (gate.open, gate.offered, gate.refused, gate.version)
