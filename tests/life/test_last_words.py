"""The server's last words at any moment, and a server that goes without any: as without us, and exactly once."""

import contextlib
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator

import psutil
import psycopg
import pytest

from proxy.demo.postgres import Postgres
from proxy.report.events import LeakAbandoned, LeakFlagged, ProtocolViolation
from proxy.settings import Address
from tests import messages as m
from tests.conftest import StartProxy
from tests.life.support import FakeServer, PlainClient, connected, read_startup, speaks, trusting_postgres
from tests.life.test_endings import (
    SESSION_GONE,
    copy_in,
    idle,
    in_failed_transaction,
    in_transaction,
    name,
    running,
    running_in_transaction,
    stalled,
    waits_for,
)
from tests.rawclient import Message, fields

State = Callable[[PlainClient], str]
SLOW = "SELECT pg_sleep(60)"


@pytest.fixture(scope="module")
def judge(trusting: Postgres) -> Iterator[psycopg.Connection]:
    with trusting.connect() as connection:
        yield connection


def copy_out(client: PlainClient) -> str:
    client.query("BEGIN")
    client.send(
        m.query("COPY (SELECT repeat('x', 20000), pg_sleep(60 * (n / 3)) FROM generate_series(1, 9) n) TO STDOUT")
    )
    client.receive_until("d")
    return "PgSleep"


def copy_in_a_series(client: PlainClient) -> str:
    client.query("CREATE TEMP TABLE copied (a int)")
    client.send(m.run("COPY copied FROM STDIN") + m.SYNC)
    client.receive_until("G")
    client.send(m.copy_data())
    return "ClientRead"


def in_a_pipeline(client: PlainClient) -> str:
    """Some of it is answered, some of it runs, and some of it never will.

    All of it at once: what a backend has not read when it ends makes its close a reset, directly and through us.
    """
    client.send(
        m.run("SELECT 1") + m.SYNC + m.run("BEGIN") + m.run(SLOW) + m.run("SELECT 2") + m.SYNC
        + m.query("SELECT 3") + m.run("SELECT 4") + m.SYNC
    )  # fmt: skip
    return "PgSleep"


def in_many_statements(client: PlainClient) -> str:
    client.send(m.query(f"SELECT 1; {SLOW}; SELECT 2"))
    return "PgSleep"


def in_a_function_call(client: PlainClient) -> str:
    client.query("BEGIN")
    # pg_sleep(60.0), in text
    client.send(m.message("F", b"\0\0\x0a\x42" + b"\0\0" + b"\0\1" + b"\0\0\0\x0260" + b"\0\0"))
    return "PgSleep"


STATES: list[State] = [
    idle, in_transaction, in_failed_transaction, running, running_in_transaction, stalled, copy_in, copy_in_a_series,
    copy_out, in_a_pipeline, in_many_statements, in_a_function_call,
]  # fmt: skip


def without(error: Message, code: str) -> dict[str, str]:
    return {name: value for name, value in fields(error).items() if name != code}


@pytest.mark.protocol(10, 21, "a FATAL that is masked")
@pytest.mark.parametrize("state", STATES, ids=name)
def test_a_session_that_is_terminated_hears_it_as_without_us(
    trusting: Postgres, judge: psycopg.Connection, start_trusting: StartProxy, state: State
) -> None:
    proxy = start_trusting()

    def told(address: Address) -> list[Message | dict[str, str]]:
        with connected(address) as client:
            waits_for(judge, client.backend_pid, state(client))
            judge.execute("SELECT pg_terminate_backend(%s)", [client.backend_pid])
            # Where in a COPY it was (field W) depends on how much of it had been read.
            return [without(message, "W") if message.kind == "E" else message for message in client.everything()]

    direct = told(Address(trusting.host, trusting.port))
    assert told(proxy.address) == direct
    assert [error["V"] for error in direct if isinstance(error, dict)].count("FATAL") == 1
    proxy.settle(timeout=SESSION_GONE)
    assert proxy.recorder.of(ProtocolViolation) == []
    assert proxy.recorder.of(LeakAbandoned) == []


@pytest.mark.protocol(10, 21)
def test_a_session_that_is_terminated_while_it_authenticates(postgres: Postgres, start_proxy: StartProxy) -> None:
    proxy = start_proxy()

    def told(judge: psycopg.Connection, address: Address) -> list[Message]:
        asked = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
        with PlainClient(address, m.startup(user="postgres")) as client:
            client.receive_until("R")
            ((pid,),) = judge.execute(asked).fetchall()
            judge.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])
            return client.everything()

    with postgres.connect() as judge:
        assert told(judge, proxy.address) == told(judge, Address(postgres.host, postgres.port))
    proxy.settle(timeout=SESSION_GONE)


# A server that goes as a whole.


def kill_a_backend(postmaster: psutil.Process, victim: int) -> None:
    """All others are told to go, since shared memory may be broken."""
    del postmaster
    os.kill(victim, signal.SIGKILL)


def kill_the_postmaster(postmaster: psutil.Process, victim: int) -> None:
    del victim
    postmaster.kill()


def stop_immediately(postmaster: psutil.Process, victim: int) -> None:
    del victim
    postmaster.send_signal(signal.SIGQUIT)


def stop_fast(postmaster: psutil.Process, victim: int) -> None:
    del victim
    postmaster.send_signal(signal.SIGINT)


@pytest.mark.protocol(21)
@pytest.mark.parametrize("outage", [kill_a_backend, kill_the_postmaster, stop_immediately, stop_fast], ids=name)
def test_an_outage_looks_as_without_us(start_proxy: StartProxy, outage: Callable[[psutil.Process, int], None]) -> None:
    states = [idle, in_transaction, running, stalled, copy_in]
    with trusting_postgres() as server:
        proxy = start_proxy(upstream=f"{server.host}:{server.port}", flag_after="never")
        direct = [connected(Address(server.host, server.port)) for _ in states]
        proxied = [connected(proxy.address) for _ in states]
        victim = connected(proxy.address)
        with server.connect() as judge:
            for clients in (direct, proxied):
                for client, state in zip(clients, states, strict=True):
                    waits_for(judge, client.backend_pid, state(client))
        outage(psutil.Process(psutil.Process(victim.backend_pid).ppid()), victim.backend_pid)
        for state, one, other in zip(states, proxied, direct, strict=True):
            assert said(one) == said(other), name(state)
        if outage is kill_a_backend:
            assert victim.everything() == []
        victim.close()
        proxy.settle(timeout=SESSION_GONE)
        server.kill()
    assert proxy.recorder.of(ProtocolViolation) == []


def said(client: PlainClient) -> list[tuple[str, str]]:
    """What the server has said at last; a connection that is reset is one that has ended."""
    told = []
    with client, contextlib.suppress(ConnectionResetError):
        while (message := client.receive()) is not None:
            error = Message("E", message.body)
            told.append((message.kind, fields(error)["M"] if message.kind in "EN" else ""))
    return told


# One FATAL, never a second one.


@pytest.mark.protocol(21, "a second FATAL")
def test_a_session_that_both_of_us_end_hears_of_one_end(start_trusting: StartProxy) -> None:
    """The server's own limit passes at about the same time as ours."""
    proxy = start_trusting(flag_after="never", terminate_after="150ms")

    def ended(milliseconds: int) -> list[str]:
        with connected(proxy.address) as client:
            client.query(f"SET idle_in_transaction_session_timeout = {milliseconds}")
            client.query("BEGIN")
            return [fields(message)["C"] for message in client.everything() if message.kind == "E"]

    told: list[list[str]] = []
    threads = [threading.Thread(target=lambda at=at: told.append(ended(at))) for at in range(140, 160)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert told == [["25P03"]] * 20


@pytest.mark.protocol(21, "a second FATAL")
@pytest.mark.parametrize("end", ["stop", "drain"])
def test_a_server_that_has_said_its_last_words_and_lingers_has_said_the_last_ones(
    start_proxy: StartProxy, end: str
) -> None:
    fatal = m.error("57P01", "FATAL")
    with FakeServer(speaks(m.STARTED, m.queried("BEGIN", "T"), fatal)) as server:
        proxy = start_proxy(upstream=server.address, flag_after="never", drain_timeout="100ms")
        with connected(proxy.address) as client:
            client.query("BEGIN")
            client.send(m.query("SELECT 1"))
            assert client.receive_until("E")[-1].body == fatal[5:]
            proxy.call(proxy.server.stop if end == "stop" else proxy.server.drain)
            assert client.everything() == []


# Errors that are not as they should be.

MALFORMED = {
    "no fields": b"\0",
    "no end": b"SERROR\0VERROR\0C22012\0Mwrong\0",
    "nothing": b"",
    "half a field": b"SERROR\0VERR",
    "a field without a value": b"S\0V\0C\0M\0\0",
    "no severity": b"C22012\0Mwrong\0\0",
    "a localized severity alone": "SFEHLER\0C22012\0Mfälsch\0\0".encode(),
    "not UTF-8": b"SERROR\0VERROR\0M\xff\xfe\xfd\0\0",
    "fields of tomorrow": b"SERROR\0VERROR\0\x01x\0\xffy\0\0",
    "a field twice": b"SERROR\0VERROR\0SFATAL\0VERROR\0\0",
}


@pytest.mark.protocol(21, "a malformed ErrorResponse")
@pytest.mark.parametrize("kind", MALFORMED)
def test_a_malformed_error_is_relayed_and_the_session_is_followed_on(start_proxy: StartProxy, kind: str) -> None:
    failed = m.message("E", MALFORMED[kind]) + m.ready("I")
    with FakeServer(speaks(m.STARTED, failed, m.queried("BEGIN", "T"))) as server:
        proxy = start_proxy(upstream=server.address, flag_after="50ms")
        with connected(proxy.address) as client:
            assert [message.body for message in client.query("SELECT 1/0")] == [MALFORMED[kind], b"I"]
            client.query("BEGIN")
            assert proxy.recorder.wait(LeakFlagged).leak.hold == "idle_in_transaction"
    assert proxy.recorder.of(ProtocolViolation) == []


@pytest.mark.protocol(23, "a malformed length")
@pytest.mark.parametrize("length", [0, 3, -1, -(1 << 31)])
def test_a_length_that_cannot_be_is_relayed_and_nothing_is_judged_any_more(
    start_proxy: StartProxy, length: int
) -> None:
    wrong = b"D" + length.to_bytes(4, "big", signed=True) + b"and what follows it" + m.ready("T")
    with FakeServer(speaks(m.STARTED, m.queried("BEGIN", "T") + wrong, b"more")) as server:
        proxy = start_proxy(upstream=server.address, flag_after="50ms", terminate_after="70ms")
        with connected(proxy.address) as client:
            client.query("BEGIN")
            whole = b""
            while len(whole) < len(wrong):
                whole += client._buffer or client.socket.recv(1000)  # noqa: SLF001 - what is there is no message
                client._buffer = b""  # noqa: SLF001
            assert whole == wrong
            with pytest.raises(AssertionError):
                proxy.recorder.wait(LeakFlagged, timeout=0.12)
            client.send(b"on and on")
            assert client.socket.recv(4) == b"more"
    assert len(proxy.recorder.of(ProtocolViolation)) == 1


@pytest.mark.protocol(21)
def test_last_words_arrive_though_the_server_has_not_read_all_that_was_sent(start_proxy: StartProxy) -> None:
    """Its close is a reset then, and our next write may fail before its words were read."""

    def ends(connection: socket.socket) -> None:
        read_startup(connection)
        connection.sendall(m.STARTED)
        connection.recv(3)
        connection.sendall(m.error("57P01", "FATAL"))

    with FakeServer(ends) as server:
        proxy = start_proxy(upstream=server.address, upstream_tls__mode="disable")
        for _ in range(100):
            with connected(proxy.address) as client:
                with contextlib.suppress(OSError):
                    for _ in range(30):
                        client.send(m.query("SELECT 1"))
                assert [message.kind for message in client.everything()] == ["E"]
