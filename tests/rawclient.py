"""A client that says exactly what it is told to, after libpq has logged it in."""

import os
import socket
import struct
import time
from typing import NamedTuple, Self

import psycopg

from tests import messages as m


class Message(NamedTuple):
    kind: str
    body: bytes


class RawClient:
    """One connection, byte by byte."""

    def __init__(self, dsn: str) -> None:
        self._libpq = psycopg.connect(dsn, autocommit=True)
        self.backend_pid = self._libpq.info.backend_pid
        self.socket = socket.socket(fileno=os.dup(self._libpq.fileno()))
        self.socket.settimeout(10)
        # From here on libpq talks to nobody, and the connection is ours alone.
        nobody = os.open(os.devnull, os.O_RDWR)
        os.dup2(nobody, self._libpq.fileno())
        os.close(nobody)
        self._buffer = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.socket.close()
        self._libpq.close()

    def reset(self) -> None:
        """Break the connection."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def receive(self) -> Message | None:
        """The next message; None at the end of the stream."""
        while len(self._buffer) < 5 or len(self._buffer) < self._length():
            data = self.socket.recv(65_536)
            if not data:
                assert not self._buffer, "the stream ended within a message"
                return None
            self._buffer += data
        length = self._length()
        message, self._buffer = self._buffer[:length], self._buffer[length:]
        return Message(chr(message[0]), message[5:])

    def _length(self) -> int:
        return 1 + int(struct.unpack_from("!i", self._buffer, 1)[0])

    def receive_until(self, kind: str) -> list[Message]:
        """Everything up to the next message of this type."""
        messages: list[Message] = []
        while not messages or messages[-1].kind != kind:
            message = self.receive()
            assert message is not None, f"the stream ended before {kind!r}, after {messages}"
            messages.append(message)
        return messages

    def query(self, sql: str) -> list[Message]:
        self.send(m.query(sql))
        return self.receive_until("Z")

    def everything(self) -> list[Message]:
        """All messages to the end of the stream."""
        messages: list[Message] = []
        while (message := self.receive()) is not None:
            messages.append(message)
        return messages


def fields(error: Message) -> dict[str, str]:
    """The fields of an ErrorResponse."""
    assert error.kind == "E"
    texts = (field.decode() for field in error.body.split(b"\0") if field)
    return {text[0]: text[1:] for text in texts}


def now() -> float:
    return time.monotonic()
