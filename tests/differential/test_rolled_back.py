"""Behind a rollback of ours a client gets what it would get in a failed transaction, but for what it is owed."""

import socket
from collections import Counter
from pathlib import Path
from typing import Final

import pytest
from hypothesis import given, note, reject
from hypothesis import strategies as st

from tests import messages as m
from tests.behaviour.support import cut
from tests.differential.ground import Ground, faults
from tests.differential.player import GRACE, Manner
from tests.differential.rolled import PREPARED, Gone, begun, difference, play_failed, play_rolled_back, roll_back
from tests.differential.script import Script, Send
from tests.differential.test_random import MINUTES, play_random
from tests.rawclient import now
from tests.wire.late import said_late
from tests.wire.oracle import Excluded

CORPUS: Final = {
    file.stem: Script.read(file.read_text()) for file in Path(__file__).with_name("rolled_back").glob("*.script")
}
TEXTS: Final = (
    "COMMIT", "END", " ; /* /* a */ */ commit work", "COMMIT AND CHAIN", "PREPARE TRANSACTION 'late'", "COMMIT; BEGIN",
    "COMMIT; INSERT INTO truth VALUES (2)", "END AND NO CHAIN", "COMMIT PREPARED 'late'", "COMMIT nonsense",
    "ROLLBACK", "abort", "ROLLBACK AND CHAIN", "ROLLBACK; INSERT INTO truth VALUES (3)", "ROLLBACK; BEGIN",
    "ROLLBACK; BEGIN; INSERT INTO truth VALUES (4); COMMIT", "ROLLBACK TO x", "ROLLBACK; SELECT 1/0", "-- nothing",
    "SELECT 1", "SELECT a FROM truth", "INSERT INTO truth VALUES (5)", "BEGIN", "SAVEPOINT x", "RELEASE x", "", ";",
    "SELEC", "SELECT 1/0", "SELECT 1; COMMIT", "COPY truth TO STDOUT", "DEALLOCATE c", "DISCARD ALL", "FETCH h",
    "PREPARE x AS SELECT 1", "DEALLOCATE ALL", "DECLARE h CURSOR WITH HOLD FOR SELECT 1", "DO $$BEGIN COMMIT; END$$",
)  # fmt: skip
NAMES: Final = ("a", *(name.decode() for name in PREPARED))
MANNERS: Final = (Manner(), Manner(7, 1), Manner(waits=False), Manner(1, 2, waits=False))

PLAYED: Final[Counter[str]] = Counter()

manners = st.builds(
    Manner, largest=st.sampled_from((0, 0, 1, 7, 40)), seed=st.integers(0, 99), waits=st.booleans()
)  # `waits`: the rollback is over when the client goes on; else it goes on at once


def as_script(data: bytes) -> str:
    return str(Script(tuple(map(Send, cut(data)))))


@pytest.mark.parametrize("name", sorted(CORPUS))
def test_a_script_of_the_corpus(ground: Ground, name: str) -> None:
    data = b"".join(step.data for step in CORPUS[name].steps if isinstance(step, Send))
    expected = play_failed(ground, data)
    for manner in MANNERS:
        assert difference(expected, play_rolled_back(ground, data, manner, expected)) is None, manner
    assert faults(ground.proxy) == []


# Said before the server has rolled back: a name that commits, and by then another text under it.
RENAMED: Final = {
    "a name": m.bind("c") + m.execute() + m.close("c") + m.parse("ROLLBACK", "c") + m.SYNC,
    "none": m.bind() + m.execute() + m.SYNC + m.parse("ROLLBACK") + m.SYNC,
}


@pytest.mark.parametrize("late", RENAMED.values(), ids=RENAMED)
def test_what_is_said_meanwhile_is_not_known_before_it_is_said(ground: Ground, late: bytes) -> None:
    expected = play_failed(ground, late)
    assert difference(expected, play_rolled_back(ground, late, Manner(waits=False), expected)) is None


def test_half_a_message_and_the_end_of_the_stream(ground: Ground) -> None:
    if not ground.can_half_close:
        pytest.skip("this client cannot half-close TLS")
    with begun(ground, through=True) as wire:
        roll_back(ground, wire, b"")
        wire.send(m.query("SELECT 1")[:7])
        before = now()
        wire.socket.shutdown(socket.SHUT_WR)
        wire.read_all()
        assert now() - before < GRACE  # directly it takes a thousandth of a second


def is_renamed(data: bytes) -> bool:
    """Whether something else is asked for under a name that is known, or has been bound, which is the case above."""
    known = set(PREPARED) - {b""}
    for message in cut(data):
        kind, words = message[:1], message[5:].split(b"\0")
        if (kind == b"P" and words[0] in known) or (kind == b"C" and words[0][1:] in known):
            return True
        if kind == b"B":
            known.add(words[1])
        elif kind == b"P" and words[0]:
            known.add(words[0])
    return False


def play_one(ground: Ground, late: bytes, manner: Manner) -> None:
    data = late + m.SYNC
    if is_renamed(data):
        manner = manner._replace(waits=True)
    note(f"# {manner}\n{as_script(data)}")
    try:
        expected = play_failed(ground, data)
    except Excluded as why:
        PLAYED[f"excluded: {why}"] += 1
        if isinstance(why, Gone):
            ground.recover()
        reject()
    PLAYED["scripts"] += 1
    found = difference(expected, play_rolled_back(ground, data, manner, expected))
    assert found is None
    assert faults(ground.proxy) == []


@pytest.mark.timeout(0 if MINUTES else 600)  # to make a failing script small takes its time
def test_random_scripts(ground: Ground) -> None:
    play_random(given(late=said_late(TEXTS, NAMES), manner=manners)(play_one), ground, PLAYED)
