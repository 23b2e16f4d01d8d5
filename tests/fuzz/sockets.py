"""Garbage both ways through a real proxy: what arrives is what was sent, whether it is understood or not."""

import random
import select
import socket
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Final, Self

from proxy.report.events import InternalError
from tests import messages as m
from tests.fuzz.case import Case, Chunk
from tests.fuzz.mutate import mutate
from tests.harness import PATIENCE, Proxy, settings_for
from tests.life.support import PlainClient

LARGEST: Final = 300_000  # bytes of pure garbage: more than all buffers on the way take at once
SELDOM: Final = 0.2
# How sessions are asked for: one that is tracked, and three that are not.
STARTUPS: Final = (
    m.startup(user="u"),
    m.startup(user="u", replication="true"),
    m.startup(3 << 16 | 99, user="u"),
    m.startup(2 << 16, user="u"),
)
OPTIONS: Final = {
    "upstream_tls__mode": "disable",
    "flag_after": "10ms",
    "cancel_abandoned": "false",
    "authentication_timeout": "never",
}


class Relay:
    """A proxy between a client and a server, both ours."""

    def __init__(self) -> None:
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        self._listener = self._stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        self._listener.settimeout(PATIENCE)
        upstream = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._proxy = self._stack.enter_context(Proxy(settings_for(upstream, **OPTIONS)))
        return self

    def __exit__(self, *_: object) -> None:
        with self._stack:
            self._proxy.settle()

    def _faults(self) -> list[InternalError]:
        """What the proxy says is wrong with itself."""
        return self._proxy.recorder.of(InternalError)

    def check(self, case: Case) -> None:
        """Say it, chunk by chunk, and hear it: behind each of the startup packets, and behind AuthenticationOk.

        Until then the proxy may hold a message back until it is whole (proxy/wire/authentication.py).
        """
        for startup in STARTUPS:
            self._check(case, startup)

    def _check(self, case: Case, startup: bytes) -> None:
        case = (Chunk(from_client=False, data=m.AUTHENTICATED), *case)
        with PlainClient(self._proxy.address, startup) as client:
            server, _ = self._listener.accept()
            with server:
                said = Said(client.socket, server)
                for from_client, data in case:
                    said.say(data, from_client=from_client)
                said.hear_all(len(startup))
                assert said.to_server == startup + said.by_client
                assert said.to_client == said.by_server
        assert self._faults() == []


class Said:
    """What both say, and what they hear; neither ever waits for the other to listen."""

    def __init__(self, client: socket.socket, server: socket.socket) -> None:
        self._sides = {True: client, False: server}
        for side in self._sides.values():
            side.settimeout(0)
        self.by_client, self.by_server = bytearray(), bytearray()
        self.to_client, self.to_server = bytearray(), bytearray()

    def say(self, data: bytes, *, from_client: bool) -> None:
        (self.by_client if from_client else self.by_server).extend(data)
        sender = self._sides[from_client]
        while data:
            readable, writable, _ = select.select(list(self._sides.values()), [sender], [], PATIENCE)
            self._hear(readable)
            if writable:
                data = data[sender.send(data) :]

    def hear_all(self, startup: int = 0) -> None:
        while len(self.to_client) < len(self.by_server) or len(self.to_server) < startup + len(self.by_client):
            readable = select.select(list(self._sides.values()), [], [], PATIENCE)[0]
            assert readable, (
                f"{len(self.to_client)} of {len(self.by_server)}, {len(self.to_server)} of {len(self.by_client)}"
            )
            self._hear(readable)

    def _hear(self, sides: list[socket.socket]) -> None:
        for side in sides:
            data = side.recv(65_536)
            assert data, "the proxy has ended the conversation"
            (self.to_client if side is self._sides[True] else self.to_server).extend(data)


def any_case(choose: random.Random, known: Sequence[Case]) -> Case:
    """Mutated messages, or pure garbage and much of it, both ways."""
    if choose.random() > SELDOM:
        return mutate(choose, known)
    return tuple(Chunk(side, choose.randbytes(choose.randrange(1, LARGEST))) for side in (True, False, True, False))
