"""Every way a session ends: the backend is gone, the session too, and each leak is told to be over exactly once."""

import asyncio
import contextlib
import gc
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator

import psutil
import psycopg
import pytest

from proxy.demo.postgres import Postgres
from proxy.report.events import (
    LeakAbandoned,
    LeakFlagged,
    LeakResolved,
    LeakTerminated,
    ProtocolViolation,
    SessionClosed,
)
from proxy.session import Session
from tests import messages as m
from tests.conftest import StartProxy
from tests.harness import Proxy, until
from tests.life.support import FakeServer, PlainClient, connected, never_answers, trusting_postgres
from tests.rawclient import fields, now

BACKEND_GONE = 2.0  # seconds after the client has gone (docs/protocol.md, 24)
SESSION_GONE = 2.5
FLAG = "50ms"


@pytest.fixture(scope="module")
def judge(trusting: Postgres) -> Iterator[psycopg.Connection]:
    with trusting.connect() as connection:
        yield connection


def backends(judge: psycopg.Connection, pid: int, state: str = "%") -> int:
    asked = "SELECT count(*) FROM pg_stat_activity WHERE pid = %s AND state LIKE %s"
    row = judge.execute(asked, [pid, state]).fetchone()
    assert row
    return int(row[0])


def waits_for(judge: psycopg.Connection, pid: int, what: str) -> None:
    """Wait until a backend waits for this (pg_stat_activity.wait_event)."""
    asked = "SELECT wait_event FROM pg_stat_activity WHERE pid = %s"
    until(lambda: judge.execute(asked, [pid]).fetchone() == (what,), what=f"it does not wait for {what}")


# What a session is in the middle of; each returns what it is that the backend waits for.


def idle(client: PlainClient) -> str:
    client.query("SELECT 987654")
    return "ClientRead"


def in_transaction(client: PlainClient) -> str:
    client.query("BEGIN")
    client.query("SELECT 987654")
    return "ClientRead"


def in_failed_transaction(client: PlainClient) -> str:
    client.query("BEGIN")
    client.query("SELECT 987654/0")
    return "ClientRead"


def running(client: PlainClient) -> str:
    client.send(m.query("SELECT pg_sleep(60)"))
    return "PgSleep"


def running_in_transaction(client: PlainClient) -> str:
    client.query("BEGIN")
    client.send(m.run("SELECT pg_sleep(60)") + m.SYNC)
    return "PgSleep"


def copy_in(client: PlainClient) -> str:
    client.query("CREATE TEMP TABLE copied (a int)")
    client.send(m.query("COPY copied FROM STDIN"))
    client.receive_until("G")
    client.send(m.copy_data(b"987654\n"))
    return "ClientRead"


def stalled(client: PlainClient) -> str:
    client.send(m.run("SELECT 987654") + m.FLUSH)
    client.receive_until("C")
    return "ClientRead"


def unread(client: PlainClient) -> str:
    client.query("BEGIN")
    client.send(m.query("SELECT repeat('x', 1000), 987654 FROM generate_series(1, 100000)"))
    client.receive_until("D")
    return "ClientWrite"


State = Callable[[PlainClient], str]
# With whether a transaction is open, and what of it runs.
STATES: dict[State, tuple[bool, str]] = {
    idle: (False, ""),
    in_transaction: (True, ""),
    in_failed_transaction: (True, ""),
    running: (True, "SELECT pg_sleep(?)"),
    running_in_transaction: (True, "SELECT pg_sleep(?)"),
    copy_in: (True, ""),
    stalled: (True, ""),
    unread: (True, "SELECT repeat(?), ? FROM generate_series(?)"),
}

# How a client leaves.


def terminate(client: PlainClient) -> None:
    client.send(m.TERMINATE)


def goodbye(client: PlainClient) -> None:
    """What libpq does: Terminate and close in one breath."""
    client.send(m.TERMINATE)
    client.close()


def eof(client: PlainClient) -> None:
    client.socket.shutdown(socket.SHUT_WR)


def reset(client: PlainClient) -> None:
    client.reset()


Leave = Callable[[PlainClient], None]
LEAVES: dict[Leave, str] = {terminate: "terminate", goodbye: "terminate", eof: "eof", reset: "reset"}


def name(function: Callable[..., object]) -> str:
    return getattr(function, "__name__", "").replace("_", " ")


def leaves_nothing(judge: psycopg.Connection, pid: int, within: float, what: str) -> None:
    """Wait until the backend has gone."""
    until(lambda: backends(judge, pid) == 0, within, f"a backend is left: {what}")


def rest_of(within: float, began: float) -> float:
    """Seconds that are left of so many."""
    return max(within - (now() - began), 0.0)


@pytest.mark.protocol(24, 27, "a server connection that outlives its client")
@pytest.mark.parametrize("leave", LEAVES, ids=name)
def test_clients_that_leave_take_everything_with_them(
    judge: psycopg.Connection, start_trusting: StartProxy, leave: Leave
) -> None:
    proxy = start_trusting()
    with contextlib.ExitStack() as clients:
        leaving = {
            state: clients.enter_context(connected(proxy.address, application_name=name(state))) for state in STATES
        }
        for state, client in leaving.items():
            waits_for(judge, client.backend_pid, state(client))
        began = now()
        for client in leaving.values():
            leave(client)
        for state, client in leaving.items():
            leaves_nothing(judge, client.backend_pid, rest_of(BACKEND_GONE, began), name(state))
        proxy.settle(timeout=rest_of(SESSION_GONE, began))

    told = {event.leak.client.application_name: event for event in proxy.recorder.of(LeakAbandoned)}
    assert len(told) == len(proxy.recorder.of(LeakAbandoned))
    assert told.keys() == {name(state) for state, (is_open, _) in STATES.items() if is_open}
    for state, client in leaving.items():
        if name(state) in told:
            event = told[name(state)]
            # A close with unread results is a reset, which may overtake the Terminate (RFC 1122, 4.2.2.13).
            hows = {"terminate", "reset"} if (state, leave) == (unread, goodbye) else {LEAVES[leave]}
            assert event.how in hows
            assert (event.running, event.flagged) == (STATES[state][1], False)
            assert event.leak.session.backend_pid == client.backend_pid
            assert event.leak.leak_class == "abandoned"
            assert "987654" not in str(event)
    assert proxy.recorder.of(LeakResolved) == []
    assert proxy.recorder.of(ProtocolViolation) == []


def test_a_session_that_is_over_is_not_judged_any_more(start_trusting: StartProxy) -> None:
    proxy = start_trusting(flag_after="100ms", terminate_after="150ms")
    for leave in LEAVES:
        for state in (idle, in_transaction, stalled):
            with connected(proxy.address) as client:
                state(client)
                leave(client)
    proxy.settle(timeout=SESSION_GONE)
    with pytest.raises(AssertionError):
        proxy.recorder.wait(LeakFlagged, timeout=0.25)
    assert proxy.recorder.of(LeakFlagged) == []
    assert proxy.recorder.of(LeakTerminated) == []


def test_a_client_that_closes_its_sending_side_is_still_answered(start_trusting: StartProxy) -> None:
    """The question, the end of the stream, and only then the answer is read."""
    proxy = start_trusting()
    with connected(proxy.address) as client:
        client.send(m.query("SELECT 987654"))
        client.socket.shutdown(socket.SHUT_WR)
        assert "987654" in str(client.everything())
    proxy.settle(timeout=SESSION_GONE)


def test_what_was_sent_before_terminate_is_carried_out(judge: psycopg.Connection, start_trusting: StartProxy) -> None:
    judge.execute("CREATE TABLE IF NOT EXISTS carried_out (a int)")
    judge.execute("TRUNCATE carried_out")
    proxy = start_trusting()
    for _ in range(20):
        with connected(proxy.address) as client:
            client.send(m.query("INSERT INTO carried_out VALUES (1)") + m.TERMINATE)
    proxy.settle(timeout=SESSION_GONE)
    assert judge.execute("SELECT count(*) FROM carried_out").fetchone() == (20,)


def test_an_abandoned_statement_runs_on_where_that_is_asked_for(
    judge: psycopg.Connection, start_trusting: StartProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("proxy.ending.END_WITHIN", 0.8)  # a little longer than until a statement would be cancelled
    proxy = start_trusting(cancel_abandoned="false")
    with contextlib.ExitStack() as clients:
        pids = []
        for leave in LEAVES:
            client = clients.enter_context(connected(proxy.address))
            pids.append(client.backend_pid)
            waits_for(judge, client.backend_pid, running(client))
            leave(client)
        proxy.settle(timeout=SESSION_GONE)
    try:
        assert [backends(judge, pid, "active") for pid in pids] == [1] * len(pids)
    finally:
        judge.execute("SELECT pg_terminate_backend(pid, 1000) FROM unnest(%s::int[]) pid", [pids])
    abandoned = proxy.recorder.of(LeakAbandoned)
    assert [(event.how, event.running) for event in abandoned] == [
        (how, "SELECT pg_sleep(?)") for how in LEAVES.values()
    ]


# The server ends it.


@pytest.mark.protocol(21, "a FATAL that is masked")
@pytest.mark.parametrize("state", [idle, in_transaction, running, stalled, copy_in], ids=name)
def test_the_servers_last_words_arrive_once(
    judge: psycopg.Connection, start_trusting: StartProxy, state: State
) -> None:
    proxy = start_trusting()
    with connected(proxy.address) as client:
        waits_for(judge, client.backend_pid, state(client))
        judge.execute("SELECT pg_terminate_backend(%s)", [client.backend_pid])
        errors = [fields(message) for message in client.everything() if message.kind == "E"]
        (fatal,) = [error for error in errors if error["S"] == "FATAL"]
        assert (fatal["C"], fatal["M"]) == ("57P01", "terminating connection due to administrator command")
        assert "pgleash" not in str(errors)
    proxy.settle(timeout=SESSION_GONE)
    assert proxy.recorder.of(LeakAbandoned) == []


@pytest.mark.protocol(21)
def test_all_that_the_server_has_sent_arrives_before_the_end(start_trusting: StartProxy) -> None:
    """Also to a client that reads late: the server has gone, the rows lie in our buffer and in the kernel's."""
    proxy = start_trusting()
    with connected(proxy.address) as client:
        many = "SELECT repeat('x', 100) FROM generate_series(1, 3000)"
        client.send(m.query(f"{many}; SELECT pg_terminate_backend(pg_backend_pid())"))
        session = proxy.session_of(client.backend_pid)
        until(lambda: proxy.ask(lambda: session.server.closed), what="the server has not gone")
        told = client.everything()
        assert sum(message.kind == "D" for message in told) == 3000 + 1
        assert fields(told[-1])["C"] == "57P01"
    proxy.settle(timeout=SESSION_GONE)


@pytest.mark.protocol(21)
def test_a_backend_that_is_killed_is_the_end_of_the_stream(start_proxy: StartProxy) -> None:
    with trusting_postgres() as server:
        proxy = start_proxy(upstream=f"{server.host}:{server.port}", flag_after=FLAG)
        with connected(proxy.address) as killed, connected(proxy.address) as other:
            in_transaction(killed)
            proxy.recorder.wait(LeakFlagged)
            os.kill(killed.backend_pid, signal.SIGKILL)
            assert killed.everything() == []
            assert [message.kind for message in other.everything()] in (["N"], ["N", "E"], [])
            assert proxy.recorder.wait(LeakResolved).outcome == "rollback"
        proxy.settle(timeout=SESSION_GONE)
        server.kill()  # it is busy recovering, and would take its time to stop


@pytest.mark.protocol(21)
def test_a_server_that_is_killed_is_the_end_of_the_stream(start_proxy: StartProxy) -> None:
    with trusting_postgres() as server:
        proxy = start_proxy(upstream=f"{server.host}:{server.port}", flag_after="never")
        with connected(proxy.address) as one, connected(proxy.address) as two:
            in_transaction(one)
            idle(two)
            server.kill()
            for client in (one, two):
                assert sum(message.kind == "E" for message in client.everything()) <= 1
        proxy.settle(timeout=SESSION_GONE)
        with PlainClient(proxy.address, m.startup(user="postgres")) as late:
            assert late.refused()["C"] == "08001"


# A leak that was flagged is over exactly once.


def sql(*statements: str) -> Callable[[PlainClient], None]:
    def end(client: PlainClient) -> None:
        for statement in statements:
            client.query(statement)

    return end


def begin(client: PlainClient) -> None:
    in_transaction(client)


def begin_copy(client: PlainClient) -> None:
    copy_in(client)


def begin_series(client: PlainClient) -> None:
    stalled(client)


def begin_reading(client: PlainClient) -> None:
    unread(client)


def finish_copy(client: PlainClient) -> None:
    client.send(m.COPY_DONE)
    client.receive_until("Z")


def fail_copy(client: PlainClient) -> None:
    client.send(m.copy_fail())
    client.receive_until("Z")


def finish_series(client: PlainClient) -> None:
    client.send(m.SYNC)
    client.receive_until("Z")


def read_and_commit(client: PlainClient) -> None:
    client.receive_until("Z")
    client.query("COMMIT")


def send_garbage(client: PlainClient) -> None:
    client.send(b"\x00garbage")
    client.everything()


def go_on_and_reset(client: PlainClient) -> None:
    client.query("SELECT 1")
    client.send(m.query("SELECT pg_sleep(60)"))
    client.reset()


def be_ended_by_the_server(client: PlainClient) -> None:
    client.send(m.query("SELECT pg_terminate_backend(pg_backend_pid())"))
    client.everything()


Step = Callable[[PlainClient], None]
# Name: how it begins, how it ends, the event that tells so, and the outcome or how.
ENDS: dict[str, tuple[Step, Step, type[LeakResolved | LeakAbandoned], str]] = {
    "commit": (begin, sql("COMMIT"), LeakResolved, "commit"),
    "late commit": (begin, sql("SELECT 1", "SELECT 2", "COMMIT"), LeakResolved, "commit"),
    "rollback": (begin, sql("ROLLBACK"), LeakResolved, "rollback"),
    "an error, then commit": (begin, sql("SELECT 1/0", "COMMIT"), LeakResolved, "rollback"),
    "commit and chain": (begin, sql("COMMIT AND CHAIN", "COMMIT"), LeakResolved, "commit"),
    "rollback and begin": (begin, sql("ROLLBACK; BEGIN", "COMMIT"), LeakResolved, "rollback"),
    "copy done": (begin_copy, finish_copy, LeakResolved, "commit"),
    "copy fail": (begin_copy, fail_copy, LeakResolved, "rollback"),
    "sync": (begin_series, finish_series, LeakResolved, "commit"),
    "read on": (begin_reading, read_and_commit, LeakResolved, "commit"),
    "the server": (begin, be_ended_by_the_server, LeakResolved, "rollback"),
    "garbage": (begin, send_garbage, LeakResolved, "unknown"),
    "terminate": (begin, terminate, LeakAbandoned, "terminate"),
    "goodbye": (begin, goodbye, LeakAbandoned, "terminate"),
    "eof": (begin, eof, LeakAbandoned, "eof"),
    "reset": (begin, reset, LeakAbandoned, "reset"),
    "reset in a copy": (begin_copy, reset, LeakAbandoned, "reset"),
    "reset in a series": (begin_series, reset, LeakAbandoned, "reset"),
    "reset while not reading": (begin_reading, reset, LeakAbandoned, "reset"),
    "reset in the next statement": (begin, go_on_and_reset, LeakAbandoned, "reset"),
}


def test_a_statement_behind_a_startup_packet_whose_client_is_gone_is_cancelled(
    trusting: Postgres, start_trusting: StartProxy
) -> None:
    """It begins to run when nobody is there any more, and the key for its cancel comes only then."""
    proxy = start_trusting()
    for _ in range(5):
        PlainClient(proxy.address, m.startup(user="postgres") + m.query("SELECT pg_sleep(30), 'gone'")).close()
    proxy.recorder.wait(SessionClosed, count=5)
    with trusting.connect() as judge:
        left = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%''gone''%' AND pid <> pg_backend_pid()"
        until(lambda: judge.execute(left).fetchone() == (0,), 2.0, "a statement runs on")


@pytest.mark.parametrize("end", ENDS)
def test_a_flagged_leak_is_over_exactly_once(start_trusting: StartProxy, end: str) -> None:
    starts, ends, kind, outcome = ENDS[end]
    proxy = start_trusting(flag_after=FLAG)
    with connected(proxy.address) as client:
        starts(client)
        flagged = proxy.recorder.wait(LeakFlagged)
        ((_, account),) = list(proxy.reporter.ledger)
        assert (account.leaks, account.open) == (1, 1)
        ends(client)
        over = proxy.recorder.wait(kind)
        assert over.leak.id == flagged.leak.id
        assert over.flagged
        assert (over.outcome if isinstance(over, LeakResolved) else over.how) == outcome
        assert over.leak.held_s > 0.049  # the difference of two times that are whole milliseconds
    proxy.settle(timeout=SESSION_GONE)
    assert len(proxy.recorder.of(LeakFlagged)) == 1
    assert len(proxy.recorder.of(LeakResolved)) + len(proxy.recorder.of(LeakAbandoned)) == 1
    ((_, account),) = list(proxy.reporter.ledger)
    assert (account.leaks, account.open) == (1, 0)
    assert (account.resolved, account.abandoned) == ((1, 0) if kind is LeakResolved else (0, 1))
    assert account.longest_s == account.held_s == over.leak.held_s


def test_a_transaction_too_old_that_is_abandoned_has_held_all_along(start_trusting: StartProxy) -> None:
    proxy = start_trusting(flag_after="never", flag_transaction_after=FLAG)
    with connected(proxy.address) as client:
        running_in_transaction(client)
        flagged = proxy.recorder.wait(LeakFlagged)
        assert flagged.leak.leak_class == "old_transaction"
        client.reset()
        over = proxy.recorder.wait(LeakAbandoned)
        assert (over.leak.id, over.flagged) == (flagged.leak.id, True)
        assert over.leak.held_s > 0.049  # the difference of two times that are whole milliseconds
    ((_, account),) = list(proxy.reporter.ledger)
    assert (account.leaks, account.open, account.abandoned) == (1, 0, 1)
    assert account.held_s == over.leak.held_s


def test_a_leak_that_the_server_ends_from_outside_is_over_exactly_once(
    judge: psycopg.Connection, start_trusting: StartProxy
) -> None:
    proxy = start_trusting(flag_after=FLAG)
    with connected(proxy.address) as client:
        in_transaction(client)
        proxy.recorder.wait(LeakFlagged)
        judge.execute("SELECT pg_terminate_backend(%s)", [client.backend_pid])
        assert len(client.everything()) == 1
        assert proxy.recorder.wait(LeakResolved).outcome == "rollback"
    proxy.settle(timeout=SESSION_GONE)
    assert len(proxy.recorder.of(LeakResolved)) == 1
    assert proxy.recorder.of(LeakAbandoned) == []
    assert [account.open for _, account in proxy.reporter.ledger] == [0]


@pytest.mark.parametrize("leave", [None, *LEAVES], ids=lambda leave: name(leave) if leave else "stays")
def test_a_leak_that_was_terminated_is_over_exactly_once(start_trusting: StartProxy, leave: Leave | None) -> None:
    """Also when the client goes after it: that is what the termination makes it do."""
    proxy = start_trusting(flag_after=FLAG, terminate_after="100ms")
    with connected(proxy.address) as client:
        in_transaction(client)
        proxy.recorder.wait(LeakTerminated)
        if leave:
            with contextlib.suppress(ConnectionError):
                leave(client)
        else:
            assert fields(client.everything()[-1])["C"] == "25P03"
    proxy.settle(timeout=SESSION_GONE)
    assert len(proxy.recorder.of(LeakTerminated)) == 1
    assert proxy.recorder.of(LeakResolved) == []
    assert proxy.recorder.of(LeakAbandoned) == []
    ((_, account),) = list(proxy.reporter.ledger)
    assert (account.leaks, account.open, account.terminated, account.abandoned) == (1, 0, 1, 0)


@pytest.mark.parametrize("end", ["stop", "drain"])
def test_a_leak_that_is_open_when_the_proxy_ends_is_over_exactly_once(start_trusting: StartProxy, end: str) -> None:
    proxy = start_trusting(flag_after=FLAG, drain_timeout="200ms")
    with connected(proxy.address) as client:
        in_transaction(client)
        flagged = proxy.recorder.wait(LeakFlagged)
        proxy.call(proxy.server.stop if end == "stop" else proxy.server.drain)
        (fatal,) = client.everything()
        assert fields(fatal)["C"] == "57P01"
    (resolved,) = proxy.recorder.of(LeakResolved)
    assert (resolved.leak.id, resolved.outcome) == (flagged.leak.id, "rollback")
    assert proxy.recorder.of(LeakAbandoned) == []
    assert [account.open for _, account in proxy.reporter.ledger] == [0]


def test_two_leaks_of_one_session_are_two(start_trusting: StartProxy) -> None:
    proxy = start_trusting(flag_after=FLAG)
    with connected(proxy.address) as client:
        for number in (1, 2):
            in_transaction(client)
            proxy.recorder.wait(LeakFlagged, count=number)
            client.query("COMMIT")
            proxy.recorder.wait(LeakResolved, count=number)
    first, second = proxy.recorder.of(LeakFlagged)
    assert first.leak.id != second.leak.id
    assert [event.leak.id for event in proxy.recorder.of(LeakResolved)] == [first.leak.id, second.leak.id]
    assert [(account.leaks, account.open, account.resolved) for _, account in proxy.reporter.ledger] == [(2, 0, 2)]


# Nothing is left.


def live_sessions() -> int:
    gc.collect()
    return sum(isinstance(each, Session) for each in gc.get_objects())


def tasks(proxy: Proxy) -> int:
    """The tasks of the proxy's loop, without the one that asks."""
    return proxy.ask(lambda: len(asyncio.all_tasks())) - 1


def come_and_go(proxy: Proxy, number: int) -> None:
    """One session, which ends one way or the other."""
    with connected(proxy.address) as client:
        (idle, in_transaction, in_failed_transaction, stalled)[number // 4 % 4](client)
        (goodbye, eof, reset, terminate)[number % 4](client)


@pytest.mark.protocol(24, "a server connection that outlives its client")
def test_hundreds_of_sessions_leave_no_task_no_descriptor_and_no_session(start_trusting: StartProxy) -> None:
    proxy = start_trusting()
    come_and_go(proxy, 0)
    proxy.settle(timeout=SESSION_GONE)
    process = psutil.Process()
    before = (tasks(proxy), process.num_fds(), threading.active_count(), live_sessions())
    for number in range(200):
        come_and_go(proxy, number)
    proxy.settle(timeout=SESSION_GONE)
    after = (tasks(proxy), process.num_fds(), threading.active_count(), live_sessions())
    assert after == before
    proxy.call(proxy.reporter.close)  # which tells how many had no line of their own
    told = sum(event.repeated or 1 for event in proxy.recorder.of(LeakAbandoned))
    assert told == 148  # 37 times four had a transaction open


def test_sessions_whose_statement_was_cancelled_leave_nothing_either(
    judge: psycopg.Connection, start_trusting: StartProxy
) -> None:
    proxy = start_trusting()
    come_and_go(proxy, 0)
    proxy.settle(timeout=SESSION_GONE)
    process = psutil.Process()
    before = (tasks(proxy), process.num_fds(), live_sessions())
    for _ in range(20):
        with connected(proxy.address) as client:
            waits_for(judge, client.backend_pid, running(client))
            client.reset()
    proxy.settle(timeout=SESSION_GONE)
    until(lambda: (tasks(proxy), process.num_fds(), live_sessions()) == before, 2.0, "something is left")


def test_a_proxy_that_stops_while_it_cancels_leaves_no_task(
    start_proxy: StartProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("proxy.upstream.CANCEL_TIMEOUT", 0.5)
    with FakeServer(never_answers) as server:
        proxy = start_proxy(upstream=server.address)
        with connected(proxy.address) as client:
            client.send(m.query("SELECT 1"))
            client.reset()
        until(lambda: server.accepted == 2, what="it does not cancel")
        proxy.call(proxy.server.stop, timeout=1.0)
        assert tasks(proxy) == 0
