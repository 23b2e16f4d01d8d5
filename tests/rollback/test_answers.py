"""A server that answers our rollback, or a client's COMMIT behind it, otherwise than it should."""

import socket
from collections.abc import Callable

import pytest

from proxy.report.events import LeakRolledBack, LeakTerminated
from tests import messages as m
from tests.conftest import StartProxy
from tests.harness import Proxy
from tests.life.support import FakeServer, PlainClient, read_startup
from tests.rawclient import Message, fields
from tests.rollback.support import LIMITS, OWED, kinds

CANCEL = m.cancel_request(0, b"")[4:8]
STARTED = m.AUTHENTICATED + m.parameter_status("server_version", "18.4") + m.key_data() + m.ready("I")
DONE = m.PARSED + m.BOUND + m.complete("ROLLBACK") + m.CLOSED
RIGHT = DONE + m.error("34000") + m.ready("E")
MIXED = (
    m.NOTICE + m.PARSED + m.NOTIFICATION + m.BOUND + m.parameter_status("application_name", "x")
    + m.complete("ROLLBACK") + m.CLOSED + m.NOTICE + m.error("34000") + m.ready("E") + m.NOTIFICATION
)  # fmt: skip

WRONG = {
    "a message is missing": m.BOUND + m.complete("ROLLBACK") + m.CLOSED + m.error("34000") + m.ready("E"),
    "no transaction": DONE + m.error("34000") + m.ready("I"),
    "another transaction": DONE + m.error("34000") + m.ready("T"),
    "another tag": m.PARSED + m.BOUND + m.complete("COMMIT") + m.CLOSED + m.error("34000") + m.ready("E"),
    "a syntax error": m.error("42601") + m.ready("E"),
    "another error": DONE + m.error("57014") + m.ready("E"),
    "rows": m.PARSED + m.BOUND + m.row(),
    "garbage": b"\0" * 30,
    "a message without end": b"1\x7f\xff\xff\xff",
}
# What follows upon the COMMIT that went to the server as ROLLBACK.
WRONG_LATER = {
    "another tag": m.queried("COMMIT", "I"),
    "nothing": m.ready("I"),
    "another transaction": m.queried("ROLLBACK", "T"),
    "the same one": m.queried("ROLLBACK", "E"),
    "a copy": m.COPY_IN,
    "twice": m.complete("ROLLBACK") + m.queried("ROLLBACK", "I"),
}


def answering(first: bytes, then: bytes = b"", cut: int = 0) -> Callable[[socket.socket], None]:
    """A server that begins a transaction, and answers the rollback, and the next request, with these bytes."""

    def talk(connection: socket.socket) -> None:
        if read_startup(connection)[:4] == CANCEL:
            return
        connection.sendall(STARTED)
        connection.recv(65_536)
        connection.sendall(m.queried("BEGIN", "T"))
        asked = b""
        while not asked.endswith(m.SYNC) and (data := connection.recv(65_536)):
            asked += data
        assert b"ROLLBACK AND CHAIN /* pgleash, leak " in asked
        step = cut or len(first)
        for at in range(0, len(first), step):
            connection.sendall(first[at : at + step])
        if then and connection.recv(65_536):
            connection.sendall(then)
        while connection.recv(65_536):
            pass

    return talk


def begin(proxy: Proxy) -> PlainClient:
    client = PlainClient(proxy.address)
    client.log_in()
    client.query("BEGIN")
    return client


def ended(messages: list[Message]) -> None:
    """The last word was a FATAL, and no COMMIT has seemed to succeed."""
    assert "C" not in kinds(messages)
    assert fields(messages[-1])["S"] == "FATAL"


@pytest.mark.parametrize("answer", WRONG.values(), ids=WRONG)
def test_a_wrong_answer_ends_the_session(start_proxy: StartProxy, answer: bytes) -> None:
    with FakeServer(answering(answer)) as server:
        proxy = start_proxy(**LIMITS, upstream=server.address)
        with begin(proxy) as client:
            ended(client.everything())
    event = proxy.recorder.wait(LeakTerminated)
    assert event.detail.startswith("the server")
    assert proxy.recorder.of(LeakRolledBack) == []
    ((_, account),) = proxy.reporter.ledger
    assert (account.leaks, account.open, account.terminated) == (1, 0, 1)


@pytest.mark.parametrize("cut", [0, 1, 2, 5])
def test_what_was_not_said_to_us_goes_to_the_client(start_proxy: StartProxy, cut: int) -> None:
    with FakeServer(answering(MIXED, m.queried("ROLLBACK", "I"), cut)) as server:
        proxy = start_proxy(**LIMITS, upstream=server.address)
        with begin(proxy) as client:
            assert kinds([client.receive() or pytest.fail("the end") for _ in range(5)]) == "NASNA"
            client.send(m.query("COMMIT"))
            assert kinds(client.receive_until("Z")) == "EZ"


@pytest.mark.parametrize("answer", WRONG_LATER.values(), ids=WRONG_LATER)
def test_a_wrong_answer_later_ends_the_session(start_proxy: StartProxy, answer: bytes) -> None:
    with FakeServer(answering(RIGHT, answer)) as server:
        proxy = start_proxy(**LIMITS, upstream=server.address)
        with begin(proxy) as client:
            proxy.recorder.wait(LeakRolledBack)
            client.send(m.query("COMMIT"))
            messages = client.everything()
            ended(messages)
            assert {fields(message)["C"] for message in messages if message.kind == "E"} == {OWED}
    assert proxy.recorder.wait(LeakTerminated).rolled_back


def test_a_servers_fatal_is_its_own(start_proxy: StartProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the server does not close: nothing more is waited for, and nothing is told twice."""
    monkeypatch.setattr("proxy.ending.END_WITHIN", 0.2)
    with FakeServer(answering(m.PARSED + m.error("57P01", "FATAL"))) as server:
        proxy = start_proxy(**LIMITS, upstream=server.address)
        with begin(proxy) as client:
            (last,) = client.receive_until("E")
            assert fields(last)["C"] == "57P01"
            client.send(m.TERMINATE)
        proxy.settle()
    names = [event.event for _, event in proxy.recorder.events if event.event.startswith("leak.")]
    assert names == ["leak.flagged", "leak.resolved"]
