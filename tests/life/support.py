"""The real program as a process of its own, clients that begin at the first byte, and servers that are not Postgres."""

import contextlib
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Self

import psycopg

from proxy.demo.binaries import NEWEST
from proxy.demo.postgres import Postgres
from proxy.settings import Address
from proxy.wire.messages import CANCEL_REQUEST_CODE, PROTOCOL_3_0, SSL_REQUEST_CODE
from tests import messages as m
from tests.harness import PATIENCE
from tests.life.nursery import Child
from tests.rawclient import Message, RawClient, fields

ROOT = Path(__file__).parents[2]
Record = dict[str, Any]

# What the machine that tests run on may have set, and what would show in the log or in the configuration.
OURS = ("PGLEASH_", "OTEL_", "POD_", "NODE_NAME", "CONTAINER_NAME", "PG")


def environment(variables: Mapping[str, str] | None = None) -> dict[str, str]:
    """Our environment without anything that pgleash or libpq would read, and with these variables."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
    alone = {"PGLEASH_ADMIN__LISTEN": "none"}  # programs side by side would want the same port
    return kept | alone | dict(variables or {})


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "proxy", *arguments]


class Ran(NamedTuple):
    """How a command has ended, and what it wrote."""

    returncode: int
    stdout: str
    stderr: str


def pgleash(*arguments: str, **variables: str) -> Ran:
    """Run a command of pgleash's to its end."""
    child = Child(arguments, environment(variables), {})
    with child.stdout as stdout, child.stderr as stderr, ThreadPoolExecutor(2) as readers:
        said = [readers.submit(output.read) for output in (stdout, stderr)]
        try:
            status = child.wait(PATIENCE)
        finally:
            child.kill()
        return Ran(status, *(output.result() for output in said))


class Program:
    """`pgleash serve` as a process of its own, and what it logs.

    Attributes:
        process: the process.
        records: the lines of its log.
        errors: the lines that it wrote to standard error.
    """

    def __init__(self, *arguments: str, **variables: str) -> None:
        self.process = self._start("serve", *arguments, **variables)
        self.records: list[Record] = []
        self.errors: list[str] = []
        self._news = threading.Condition()
        self._threads = [threading.Thread(target=read) for read in (self._read_log, self._read_errors)]
        for thread in self._threads:
            thread.start()

    def _start(self, *arguments: str, **variables: str) -> "subprocess.Popen[str] | Child":
        return subprocess.Popen(
            command(*arguments),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment(variables),
            cwd=ROOT,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.ended()

    def _read_log(self) -> None:
        assert self.process.stdout
        with self.process.stdout as lines:
            for line in lines:
                with self._news:
                    self.records.append(json.loads(line))
                    self._news.notify_all()
        with self._news:
            self._news.notify_all()

    def _read_errors(self) -> None:
        assert self.process.stderr
        with self.process.stderr as lines:
            self.errors.extend(line.rstrip("\n") for line in lines)

    def of(self, event: str) -> list[Record]:
        with self._news:
            return [record for record in self.records if record["event"] == event]

    def wait(self, event: str, count: int = 1) -> Record:
        """The line of this event, once so many of them have come; the last one."""
        with self._news:
            came = self._news.wait_for(lambda: len(self.of(event)) >= count, PATIENCE)
            assert came, f"no {event}, but {self.records} and {self.errors}"
            return self.of(event)[count - 1]

    @property
    def listen(self) -> list[str]:
        """Where it listens, once it does."""
        addresses: list[str] = self.wait("proxy.started")["proxy.listen"]
        return addresses

    @property
    def address(self) -> Address:
        """The first address."""
        host, _, port = self.listen[0].rpartition(":")
        return Address(host, int(port))

    def tell(self, number: int = signal.SIGTERM) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    def ended(self, timeout: float = PATIENCE) -> int:
        """Its exit status, once it has ended and all that it wrote has been read."""
        status = self.process.wait(timeout)
        for thread in self._threads:
            thread.join(timeout)
        return status


class Forked(Program):
    """The same, up at once; not for what is measured, nor for how a process starts.

    Attributes:
        constants: pgleash's own, by their full names, that are something else for it.
    """

    constants: ClassVar[Mapping[str, float]] = {}

    def _start(self, *arguments: str, **variables: str) -> Child:
        return Child(arguments, environment(variables), self.constants)


def serve(upstream: str | Postgres, **options: str) -> Program:
    """The program on a free port, or where `listen` says; options as flags, with `__` for a dot."""
    return Program(*flags(upstream, **options))


def forked(upstream: str | Postgres, **options: str) -> Program:
    """The same, up at once."""
    return Forked(*flags(upstream, **options))


def flags(upstream: str | Postgres, **options: str) -> list[str]:
    upstream = upstream if isinstance(upstream, str) else f"{upstream.host}:{upstream.port}"
    given = {"listen": "127.0.0.1:0", "upstream": upstream, **options}
    return [part for name, value in given.items() for part in ("--" + name.replace("__", ".").replace("_", "-"), value)]


# Clients.


class PlainClient(RawClient):
    """One connection from its first byte on; nothing is said for it.

    Args:
        address: where to connect.
        first: what to send at once.
    """

    def __init__(self, address: Address, first: bytes = b"") -> None:
        self.socket = socket.create_connection(address, timeout=PATIENCE)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.backend_pid = 0
        self.cancel_key = b""
        self._buffer = b""
        self.send(first)

    def close(self) -> None:
        self.socket.close()

    def byte(self) -> bytes:
        """One byte, which is no message; b"" at the end of the stream."""
        return self.socket.recv(1)

    def log_in(self, protocol: int = PROTOCOL_3_0, **parameters: str) -> list[Message]:
        """Begin a session with a server that trusts everybody; returns what came up to ReadyForQuery."""
        self.send(m.startup(protocol, **({"user": "postgres", "database": "postgres"} | parameters)))
        return self.logged_in()

    def logged_in(self) -> list[Message]:
        """What comes up to the first ReadyForQuery."""
        answers = self.receive_until("Z")
        for answer in answers:
            if answer.kind == "K":
                self.backend_pid = int(struct.unpack_from("!i", answer.body)[0])
                self.cancel_key = answer.body[4:]
        return answers

    def refused(self) -> dict[str, str]:
        """The fields of the only thing that comes before the stream ends: a FATAL."""
        (last,) = self.everything()
        told = fields(last)
        assert told["S"] == told["V"] == "FATAL"
        return told


def connected(address: Address, protocol: int = PROTOCOL_3_0, **parameters: str) -> PlainClient:
    """A session with a server that trusts everybody."""
    client = PlainClient(address)
    client.log_in(protocol, **parameters)
    return client


# Servers.


@contextlib.contextmanager
def trusting_postgres(version: int = NEWEST, **settings: str) -> Iterator[Postgres]:
    """A real server that asks nobody for a password: a session then begins in a tenth of the time."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)  # root's servers run as nobody
        rules = Path(name, "pg_hba.conf")
        rules.write_text("local all all trust\nhost all all 127.0.0.1/32 trust\n")
        with Postgres(version, {"hba_file": str(rules), "log_min_messages": "fatal"} | settings) as server:
            yield server


class FakeServer:
    """Accepts connections and does with each what it is told, in a thread of its own.

    Args:
        talk: what to do with a connection; it is closed afterwards.
        port: where to listen; 0: on a free port.
        host: on which address.
    """

    def __init__(self, talk: Callable[[socket.socket], object], port: int = 0, host: str = "127.0.0.1") -> None:
        self._talk = talk
        self._host = host
        self._listener = socket.create_server((host, port))
        self._connections: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept)]
        self.port: int = self._listener.getsockname()[1]

    @property
    def address(self) -> str:
        return f"{self._host}:{self.port}"

    @property
    def accepted(self) -> int:
        """How many connections there were."""
        return len(self._connections)

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        for connection in list(self._connections):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in list(self._threads):
            thread.join()
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # as Postgres does
            self._connections.append(connection)
            self._threads.append(threading.Thread(target=self._serve, args=[connection]))
            self._threads[-1].start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            self._talk(connection)


def read_startup(connection: socket.socket) -> bytes:
    """A startup packet, or a cancel request, without its length; TLS is not offered."""
    (length,) = struct.unpack("!i", exactly(connection, 4))
    packet = exactly(connection, length - 4)
    if packet == SSL_REQUEST_CODE.to_bytes(4, "big"):
        connection.sendall(b"N")
        return read_startup(connection)
    return packet


def exactly(connection: socket.socket, length: int) -> bytes:
    data = b""
    while len(data) < length:
        more = connection.recv(length - len(data))
        if not more:
            raise ConnectionResetError
        data += more
    return data


def echo(connection: socket.socket) -> None:
    """Begin a session, then send back whatever comes."""
    read_startup(connection)
    connection.sendall(m.STARTED)
    while data := connection.recv(65_536):
        connection.sendall(data)


def speaks(*turns: bytes) -> Callable[[socket.socket], None]:
    """The first turn answers the startup packet, each other one whatever comes next; cancels are not answered."""

    def talk(connection: socket.socket) -> None:
        if CANCEL_REQUEST_CODE.to_bytes(4, "big") in read_startup(connection):
            return
        connection.sendall(turns[0])
        for turn in turns[1:]:
            if not connection.recv(65_536):
                return
            connection.sendall(turn)
        while connection.recv(65_536):
            pass

    return talk


def never_answers(connection: socket.socket) -> None:
    """Begin a session, and then let both the client and whoever cancels wait for ever."""
    if CANCEL_REQUEST_CODE.to_bytes(4, "big") not in read_startup(connection):
        connection.sendall(m.STARTED)
    while connection.recv(65_536):
        pass


def through(address: Address, **parameters: str) -> psycopg.Connection:
    """A connection of psycopg's to a server that trusts everybody, through a proxy."""
    return psycopg.connect(host=address.host, port=address.port, user="postgres", dbname="postgres", **parameters)  # type: ignore[arg-type]
