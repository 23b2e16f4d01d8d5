"""Clients in processes of their own, and the transports of whoever serves them."""

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Final, cast

from tests.harness import PATIENCE

SECRET: Final = "password=marked"

# Arguments: a family and where to connect, a path or host and port. It leaves when its input ends.
CONNECT: Final = """
import os, socket, sys
family, *where = sys.argv[1:-1]
client = socket.socket(getattr(socket, family))
client.connect(where[0] if len(where) == 1 else (where[0], int(where[1])))
"""
WAIT: Final = """
print("ready", flush=True)
sys.stdin.read()
"""
# A child that shares the socket, and does not outlive its parent.
FORK: Final = """
reading, writing = os.pipe()
child = os.fork()
if child == 0:
    os.close(writing)
    os.read(reading, 1)
    os._exit(0)
print(child, flush=True)
"""
CLOSE: Final = "client.close()"


class Client:
    """A process that has connected."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.pid = process.pid

    def line(self) -> str:
        """The next line that it says."""
        assert self._process.stdout
        return self._process.stdout.readline().strip()

    def end(self) -> None:
        """End it at once."""
        self._process.kill()
        self._process.wait()


@contextlib.contextmanager
def client(family: str, *where: object, then: str = "") -> Iterator[Client]:
    """A client that connects, does what comes then, and says that it is ready."""
    command = [sys.executable, "-ISc", CONNECT + then + WAIT, family, *map(str, where), SECRET]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        connected = Client(process)
        try:
            yield connected
        finally:
            connected.end()


class Connected(asyncio.Protocol):
    """Keeps its transport; a client that has nothing more to say may still listen."""

    def __init__(self, transports: "asyncio.Queue[asyncio.Transport]") -> None:
        self._transports = transports

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transports.put_nowait(cast("asyncio.Transport", transport))

    def eof_received(self) -> bool:
        return True


class Listener:
    """Where clients connect.

    Attributes:
        where: what a client is given, host and port or a path.
    """

    def __init__(self, host: str | Path) -> None:
        self._host = host
        self._transports: asyncio.Queue[asyncio.Transport] = asyncio.Queue()
        self.where: tuple[object, ...] = (host,)

    async def accepted(self) -> asyncio.Transport:
        """The transport of the next client."""
        async with asyncio.timeout(PATIENCE):
            return await self._transports.get()

    async def start(self) -> asyncio.Server:
        loop, protocol = asyncio.get_running_loop(), lambda: Connected(self._transports)
        if isinstance(self._host, Path):
            return await loop.create_unix_server(protocol, self._host)
        server = await loop.create_server(protocol, self._host, 0)
        self.where = (self._host, server.sockets[0].getsockname()[1])
        return server


@contextlib.asynccontextmanager
async def listener(host: str | Path = "127.0.0.1") -> AsyncIterator[Listener]:
    """A listener; a path is a Unix socket's."""
    made = Listener(host)
    server = await made.start()
    try:
        yield made
    finally:
        server.close()
