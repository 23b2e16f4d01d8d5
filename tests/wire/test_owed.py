"""What a client gets that does not know that its transaction is gone: right, and the same however it is carried."""

from collections.abc import Callable
from typing import Final

import pytest
from hypothesis import event, given, reject, settings
from hypothesis import strategies as st

from proxy.relay import HIGH_WATER
from proxy.wire.owed import Owed
from tests import messages as m
from tests.behaviour.support import cut
from tests.fuzz.checks import kept
from tests.wire.conversation import OWED, Manner, carry, expected
from tests.wire.late import said_late
from tests.wire.oracle import Excluded

TEXTS: Final = (
    "COMMIT", "END", "/* a */ ;commit", "PREPARE TRANSACTION 'x'", "COMMIT AND CHAIN", "ROLLBACK", "ABORT", "SELECT 1",
    "rollback and chain", "ROLLBACK TO a", "COMMIT PREPARED 'x'", "", ";", "BEGIN", "COMMIT; SELECT 1",
)  # fmt: skip
NAMES: Final = ("", "a", "b", "x" * 63 + "y")

texts, names = st.sampled_from(TEXTS), st.sampled_from(NAMES)
prepared_before = st.dictionaries(names.map(str.encode), texts.map(str.encode), max_size=3)
manners = st.builds(
    Manner,
    largest=st.sampled_from((0, 1, 2, 7, 50)),
    client_first=st.sampled_from((0.0, 0.1, 0.5, 1.0)),
    seed=st.integers(0, 1000),
)


@settings(max_examples=300, deadline=None)
@given(said_late(TEXTS, NAMES), prepared_before, st.lists(manners, min_size=1, max_size=3))
def test_a_conversation(client: bytes, prepared: dict[bytes, bytes], ways: list[Manner]) -> None:
    try:
        heard, ends = expected(client, prepared)
    except Excluded as why:
        event(f"excluded: {why}")
        reject()
    first = carry(client, prepared, Manner())
    event("ended" if ends else "over" if first.over else "still owed")
    for manner in ways:
        carried = carry(client, prepared, manner)
        assert carried.to_client == first.to_client == heard
        assert carried.to_server == first.to_server
        assert bool(carried.doubt) == ends, carried.doubt
        assert carried.over == first.over
        if not ends:
            assert carried.left == 0
    assert is_made_of(first.to_server, client)


def is_made_of(sent: bytes, client: bytes) -> bool:
    """Whether the server has got the client's messages in their order, some of them not, and Queries replaced."""
    own = cut(client)
    return all(any(one in {mine, instead_of(mine)} for mine in own) for one in cut(sent))


def instead_of(message: bytes) -> bytes:
    return m.query("ROLLBACK") if message[:1] == b"Q" else message


# Cases.


BELIEVED: Final = {
    "a statement": (
        {b"a": b"COMMIT"},
        m.parse("SELECT 1", "b") + m.close("a") + m.parse("ROLLBACK", "a") + m.SYNC,
        m.bind("a") + m.execute() + m.SYNC,
    ),
    "the statement without a name": (
        {b"": b"COMMIT"},
        m.parse("SELECT 1", "b") + m.parse("ROLLBACK") + m.SYNC,
        m.bind() + m.execute() + m.SYNC,
    ),
    "a portal": (
        {b"a": b"COMMIT", b"b": b"ROLLBACK"},
        m.bind("a", "p") + m.SYNC + m.bind("b", "p") + m.SYNC,
        m.execute("p") + m.SYNC,
    ),
    "the portal without a name": (
        {b"a": b"COMMIT", b"b": b"ROLLBACK"},
        m.bind("a") + m.SYNC + m.parse("SELECT 1") + m.bind("b") + m.SYNC,
        m.execute() + m.SYNC,
    ),
}


@pytest.mark.parametrize(("prepared", "discarded", "commit"), BELIEVED.values(), ids=BELIEVED)
def test_what_the_server_has_not_done_is_not_believed(
    prepared: dict[bytes, bytes], discarded: bytes, commit: bytes
) -> None:
    carried = carry(discarded + commit, prepared, Manner())
    assert m.complete("ROLLBACK") not in carried.to_client
    assert OWED in carried.to_client


def test_a_session_may_end_at_any_time() -> None:
    owed = Owed(OWED, set())
    assert owed.frontend(m.query("COMMIT") + m.query("SELECT 1")) == m.query("ROLLBACK")
    last = m.error("57P01", "FATAL")
    assert owed.backend(last[:9]) == b""
    assert owed.backend(last[9:] + b"more") == last + b"more"
    assert owed.over
    assert owed.released() == m.query("SELECT 1")


def test_a_long_query_that_was_replaced_is_swallowed_to_its_end() -> None:
    text = "COMMIT; SELECT /* " + "x" * 3 * HIGH_WATER + " */"
    for largest in (0, 50_000, 1000):
        carried = carry(m.query(text) + m.query("SELECT 1"), {}, Manner(largest))
        assert carried.to_server == m.query("ROLLBACK") + m.query("SELECT 1")
        assert carried.to_client == OWED + m.ready("I") + m.queried("SELECT", "I")


IMPOSSIBLE: Final = {
    "rows end": m.queried("SELECT 1", "E"),
    "a commit": m.queried("COMMIT", "I"),
    "a rollback that nobody asked for": m.queried("ROLLBACK", "I"),
    "a transaction": m.ready("T"),
    "none": m.ready("I"),
    "a COPY": m.COPY_IN,
    "half of the rows": m.SUSPENDED,
    "a length that is none": b"E\0\0\0\3",
}


@pytest.mark.parametrize("answer", IMPOSSIBLE.values(), ids=IMPOSSIBLE)
def test_what_no_failed_block_says_is_a_doubt(answer: bytes) -> None:
    owed = Owed(OWED, set())
    owed.frontend(m.query("SELECT 1"))
    assert owed.backend(answer) == b""
    assert owed.doubt


# What is kept.

STREAMS: Final[dict[str, Callable[[int], bytes]]] = {
    "statements": lambda number: m.parse("ROLLBACK", f"{number}" * 20),
    "portals": lambda number: m.bind("a", f"{number:>50}"),
    "series": lambda number: m.run(f"SELECT {number}") + m.SYNC,
    "Queries": lambda number: m.query(f"SELECT {number}"),
    "half a Query": lambda number: m.query("x" * 60_000)[number > 0 :],
    "rows to copy": lambda _: m.copy_data(b"x" * 100_000),
}
MOST: Final = 8_000_000  # 10,000 statements and as many portals, as Python counts them


@pytest.mark.parametrize("name", STREAMS)
def test_what_is_kept_is_bounded(name: str) -> None:
    check_bounds(STREAMS[name])


def test_what_is_kept_of_long_names_is_bounded() -> None:
    check_bounds(lambda number: m.bind("a", f"{number}".zfill(60_000)), 300)


def check_bounds(make: Callable[[int], bytes], times: int = 15_000) -> None:
    owed = Owed(OWED, set())
    for number in range(times):
        if owed.held <= HIGH_WATER and not owed.doubt:  # else it is not read from
            owed.frontend(make(number))
    assert kept(owed) < MOST
