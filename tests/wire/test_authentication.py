"""The gate that the server's messages pass until the client is in: one table of cases, each cut at every place."""

import struct
from typing import NamedTuple

import pytest

from proxy.wire.authentication import AuthenticationGate, first_message, rejected
from tests import messages as m

PLUS, PLAIN = "SCRAM-SHA-256-PLUS", "SCRAM-SHA-256"
HINT = "set channel_binding=disable"


def authentication(code: int, rest: bytes = b"") -> bytes:
    return m.message("R", struct.pack("!i", code) + rest)


def offer(*mechanisms: str) -> bytes:
    return authentication(10, m.text(*mechanisms, ""))


CONTINUE = authentication(11, b"r=nonce,s=salt,i=4096")
FINAL = authentication(12, b"v=signature")
OK = authentication(0)
BINDING = m.message("E", m.text("SFATAL", "VFATAL", "C28000", "Mchannel binding negotiation error", ""))
HINTED = m.message("E", m.text("SFATAL", "VFATAL", "C28000", "Mchannel binding negotiation error", f"H{HINT}", ""))
WRONG_PASSWORD = m.error("28P01", "FATAL")
NOTICE = m.message("N", m.text("SWARNING", "C01000", "Mnearly expired", ""))
NEGOTIATED = m.message("v", struct.pack("!ii", 3 << 16 | 2, 0))
REST = m.parameter_status("TimeZone", "UTC") + m.key_data() + m.ready("I") + m.queried("SELECT 1", "I")


class Case(NamedTuple):
    said: bytes
    passed: bytes
    open: bool = True
    refused: bool = False
    offered: bool = True


CASES = {
    "an offer of channel binding": Case(offer(PLUS, PLAIN) + CONTINUE, offer(PLAIN) + CONTINUE, open=False),
    "an offer without it": Case(
        offer(PLAIN) + CONTINUE + FINAL + OK + REST, offer(PLAIN) + CONTINUE + FINAL + OK + REST
    ),
    "an offer of nothing else": Case(offer(PLUS), offer(PLUS), open=False),
    "an offer of more": Case(offer("X", PLUS, PLAIN, "Y"), offer("X", PLAIN, "Y"), open=False),
    "until the client is in": Case(
        offer(PLUS, PLAIN) + CONTINUE + FINAL + OK + REST + offer(PLUS, PLAIN),
        offer(PLAIN) + CONTINUE + FINAL + OK + REST + offer(PLUS, PLAIN),
    ),
    "a server that asks for nothing": Case(OK + REST, OK + REST, offered=False),
    "a notice": Case(NOTICE + offer(PLUS, PLAIN), NOTICE + offer(PLAIN), open=False),
    "another version": Case(NEGOTIATED + offer(PLUS, PLAIN), NEGOTIATED + offer(PLAIN), open=False),
    "a refusal": Case(offer(PLUS, PLAIN) + BINDING, offer(PLAIN) + HINTED, refused=True),
    "a refusal of what was not withheld": Case(offer(PLAIN) + BINDING, offer(PLAIN) + BINDING),
    "a refusal with a hint of its own": Case(offer(PLUS, PLAIN) + HINTED, offer(PLAIN) + HINTED, refused=True),
    "a wrong password": Case(offer(PLUS, PLAIN) + WRONG_PASSWORD, offer(PLAIN) + WRONG_PASSWORD),
    "no line for this client": Case(BINDING, BINDING, offered=False),
    "an unknown message": Case(m.message("?") + offer(PLUS, PLAIN), m.message("?") + offer(PLUS, PLAIN), offered=False),
    "an impossible length": Case(b"R\0\0\0\3" + offer(PLUS), b"R\0\0\0\3" + offer(PLUS), offered=False),
    "a message too long to keep": Case(b"R\0\1\0\1" + bytes(70_000), b"R\0\1\0\1" + bytes(70_000), offered=False),
    "an empty one": Case(m.message("R") + OK, m.message("R") + OK, offered=False),
}


def play(case: Case, pieces: list[bytes]) -> None:
    gate = AuthenticationGate(HINT, withhold_plus=True)
    assert b"".join(gate.feed(piece) for piece in pieces) == case.passed
    assert (gate.open, gate.refused, gate.offered) == (case.open, case.refused, case.offered)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_what_the_server_says_passes_whole_byte_by_byte_and_cut_anywhere(case: Case) -> None:
    play(case, [case.said])
    for cut in range(min(len(case.said), 2000)):
        play(case, [case.said[:cut], case.said[cut:]])
    if len(case.said) < 2000:
        play(case, [case.said[place : place + 1] for place in range(len(case.said))])


def test_nothing_is_taken_out_where_it_can_hold() -> None:
    gate = AuthenticationGate(HINT, withhold_plus=False)
    said = offer(PLUS, PLAIN) + CONTINUE + BINDING
    assert gate.feed(said) == said
    assert not gate.refused


@pytest.mark.parametrize("sent", [2, 3 << 16 | 2], ids=["the minor version, as documented", "the whole, as it is"])
def test_the_version_that_the_server_settles_on_is_known(sent: int) -> None:
    gate = AuthenticationGate(HINT, withhold_plus=False)
    gate.feed(m.message("v", struct.pack("!ii", sent, 0)))
    assert gate.version == 3 << 16 | 2


def test_a_rejection_is_the_first_message_and_whole() -> None:
    assert rejected(BINDING)
    assert not rejected(BINDING[:-1])
    assert not rejected(WRONG_PASSWORD)
    assert not rejected(offer(PLAIN) + BINDING)
    assert not rejected(b"")
    assert first_message(OK + REST) == OK
    assert first_message(OK[:4]) is None
