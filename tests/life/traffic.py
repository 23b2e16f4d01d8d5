"""Megabytes through one session, and what the proxy's process takes of memory meanwhile."""

import threading
from typing import Self

import psutil

from tests import messages as m
from tests.life.support import PlainClient, Program, exactly
from tests.rawclient import Message

MEGABYTE = 1_000_000
SAMPLE_EVERY = 0.01  # seconds
PAUSE = 0.3  # seconds that the reader stops: all buffers are full long before
CHUNK = m.copy_data(b"x" * (MEGABYTE - 1) + b"\n")


class Memory:
    """What a process has taken beyond what it had when this began, at the most."""

    def __init__(self, program: Program) -> None:
        self._process = psutil.Process(program.process.pid)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._before = self._process.memory_info().rss
        self._most = self._before

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(SAMPLE_EVERY):
            self._most = max(self._most, self._process.memory_info().rss)

    @property
    def taken(self) -> int:
        return self._most - self._before


class Reader:
    """Reads messages of a megabyte without keeping them."""

    def __init__(self, client: PlainClient) -> None:
        self._socket = client.socket
        self._buffer = memoryview(bytearray(MEGABYTE))
        self.received = 0

    def read(self, length: int) -> None:
        """Take so many bytes."""
        left = length
        while left:
            count = self._socket.recv_into(self._buffer[: min(left, MEGABYTE)])
            assert count, "the stream ended"
            left -= count
        self.received += length


def pause() -> None:
    """Let time pass: it is what the test is about."""
    threading.Event().wait(PAUSE)


def download(client: PlainClient, rows: int, pauses: int = 0) -> int:
    """Read so many rows of a megabyte; returns how many bytes of rows came."""
    client.send(m.query(f"SELECT repeat('x', {MEGABYTE}) FROM generate_series(1, {rows})"))  # noqa: S608 - a number
    assert next_message(client).kind == "T"
    reader = Reader(client)
    row = 1 + 4 + 2 + 4 + MEGABYTE  # type, length, number of columns, length of the column
    for number in range(rows):
        if pauses and number % (rows // pauses) == 0:
            pause()
        reader.read(row)
    assert [next_message(client).kind for _ in range(2)] == ["C", "Z"]
    return reader.received


def next_message(client: PlainClient) -> Message:
    """The next message and not a byte behind it."""
    head = exactly(client.socket, 5)
    return Message(chr(head[0]), exactly(client.socket, int.from_bytes(head[1:], "big") - 4))


def upload(client: PlainClient, megabytes: int) -> None:
    """Send so much to a COPY that keeps nothing."""
    client.send(m.query("COPY taken FROM STDIN WHERE false"))
    client.receive_until("G")
    for _ in range(megabytes):
        client.send(CHUNK)
    client.send(m.COPY_DONE)
    assert [message.kind for message in client.receive_until("Z")] == ["C", "Z"]
