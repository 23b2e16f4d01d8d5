"""A gigabyte each way through one session of the real program, with a reader that stops now and then: memory is flat.

Only the proxy's own memory is measured, from outside, all the time.
"""

import contextlib
import os
import select
import signal
from collections.abc import Iterator

import psycopg
import pytest

from proxy.demo.postgres import Postgres
from tests import messages as m
from tests.harness import until
from tests.life.support import PlainClient, Program, connected, serve
from tests.life.traffic import CHUNK, MEGABYTE, PAUSE, Memory, download, pause, upload
from tests.rawclient import now

GIGABYTE = 1000 * MEGABYTE
ALLOWED = 10 * MEGABYTE


@pytest.fixture
def program(trusting: Postgres) -> Iterator[Program]:
    with serve(trusting) as program:
        yield program


@pytest.mark.protocol(22, 25, "memory for a reader that is slow")
def test_a_gigabyte_from_the_server_to_a_reader_that_pauses(program: Program) -> None:
    with connected(program.address) as client:
        download(client, 20)
        with Memory(program) as memory:
            began = now()
            assert download(client, 1000, pauses=2) > GIGABYTE
        assert memory.taken < ALLOWED
        assert now() - began < 15


@pytest.mark.protocol(22, 25)
def test_a_gigabyte_from_a_client_to_the_server(program: Program) -> None:
    with connected(program.address) as client:
        client.query("CREATE TEMP TABLE taken (a text)")
        upload(client, 20)
        with Memory(program) as memory:
            began = now()
            upload(client, 1000)
        assert memory.taken < ALLOWED
        assert now() - began < 15


@contextlib.contextmanager
def stopped(pid: int) -> Iterator[None]:
    """Stop a process; skip the test where that is not ours to do."""
    try:
        os.kill(pid, signal.SIGSTOP)
    except PermissionError:
        pytest.skip("the backend is not ours to stop")
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def push(client: PlainClient) -> int:
    """Send as much as is taken without waiting; returns how many bytes that was."""
    sent = 0
    with contextlib.suppress(TimeoutError, BlockingIOError):
        while select.select([], [client.socket], [], PAUSE)[1]:
            sent += client.socket.send(CHUNK[sent % len(CHUNK) :])
    return sent


@pytest.mark.protocol(25)
def test_a_server_that_stops_reading_stops_the_client(program: Program) -> None:
    with connected(program.address) as client:
        client.query("CREATE TEMP TABLE taken (a text)")
        upload(client, 20)
        client.send(m.query("COPY taken FROM STDIN WHERE false"))
        client.receive_until("G")
        with Memory(program) as memory:
            with stopped(client.backend_pid):
                sent = push(client)
                assert 0 < sent < 64 * MEGABYTE, "the client is not made to wait"
            rest = -sent % len(CHUNK)
            client.send(CHUNK[len(CHUNK) - rest :] if rest else b"")
            for _ in range(100):
                client.send(CHUNK)
        client.send(m.COPY_DONE)
        assert [message.kind for message in client.receive_until("Z")] == ["C", "Z"]
        assert memory.taken < ALLOWED


@pytest.mark.protocol(25, 27, "memory for a reader that is slow")
def test_a_client_that_stops_reading_stops_the_server(trusting: Postgres, program: Program) -> None:
    with trusting.connect() as judge, connected(program.address) as client:
        download(client, 20)
        with Memory(program) as memory:
            client.send(m.query("SELECT repeat('x', 1000000) FROM generate_series(1, 1000)"))
            waits = "SELECT wait_event FROM pg_stat_activity WHERE pid = %s"
            until(lambda: judge.execute(waits, [client.backend_pid]).fetchone() == ("ClientWrite",), what="it goes on")
            pause()
            still = judge.execute(waits, [client.backend_pid]).fetchone()
            assert still == ("ClientWrite",)
        assert memory.taken < ALLOWED
        client.reset()
        gone = "SELECT count(*) FROM pg_stat_activity WHERE pid = %s"
        until(lambda: judge.execute(gone, [client.backend_pid]).fetchone() == (0,), 2.0, "the backend is left")


def test_many_sessions_that_come_and_go_leave_no_memory(program: Program) -> None:
    def come_and_go(times: int) -> None:
        for _ in range(times):
            with connected(program.address) as client:
                client.query("SELECT 1")
                client.send(m.TERMINATE)

    come_and_go(200)
    with Memory(program) as memory:
        come_and_go(800)
    assert memory.taken < 2 * MEGABYTE


def test_other_sessions_are_served_while_one_does_not_read(program: Program) -> None:
    with connected(program.address) as stuck:
        stuck.send(m.query("SELECT repeat('x', 1000000) FROM generate_series(1, 1000)"))
        with psycopg.connect(
            host=program.address.host, port=program.address.port, user="postgres", dbname="postgres", autocommit=True
        ) as other:
            began = now()
            for _ in range(100):
                other.execute("SELECT 1")
            assert now() - began < 2.0
