"""A throw-away Postgres: up in about half a second, and gone without a trace.

Its rules, and why:

- *Nothing stays behind*, neither a process nor a directory, whether we stop the server, are interrupted at any moment
  of its start, or die of SIGKILL. So one party does all the cleaning, and it is not us: the *guard*, a shell that is
  started first, holds the reading end of a pipe and waits for its end. `stop()` closes the pipe, and so does our death.
- The guard leads a process group that every program of the server joins: so it ends even a child whose Popen object an
  interrupt has lost, and a terminal's Ctrl-C reaches us alone; we decide when the database goes.
- A process forked from ours without exec (multiprocessing's "fork") inherits the pipe: the guard waits for it, too.
- Nobody else gets in: TCP on 127.0.0.1 alone, a socket in a directory of mode 0700, and SCRAM with a random password.
"""

import os
import secrets
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import psycopg
from psycopg.conninfo import make_conninfo

from proxy.demo import binaries
from proxy.errors import OperatorError

START_DEADLINE = 20.0  # seconds, for initdb and for postgres each; half a second is usual
STOP_DEADLINE = 5.0  # seconds until SIGKILL; a fast shutdown takes a few hundredths
POLL_INTERVAL = 0.01  # seconds between two attempts to connect: a refused one costs a tenth of that
PORT_ATTEMPTS = 5  # each port was free a moment before
PORT_TAKEN = "Address already in use"  # the C library's words; LC_ALL=C keeps them so
LONGEST_SOCKET = 103  # bytes in sockaddr_un.sun_path without the NUL: 103 on macOS, 107 on Linux

# Nothing here has to survive a crash of the machine.
SETTINGS = {
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "off",
    "max_connections": "200",
    "listen_addresses": "127.0.0.1",
    # As files of the data directory: segments in /dev/shm would outlive a SIGKILL.
    "dynamic_shared_memory_type": "mmap",
}

# $1 is the private directory, $2 the deadline in fiftieths of a second. SIGINT is a fast shutdown to postgres and the
# end to initdb. A server that has not gone by the deadline is killed with the whole group, the guard included: its
# backends notice and follow. A server that was killed leaves postmaster.pid; in its seventh line is the id of a segment
# of System V memory that would stay until the next boot, and macOS has room for 32. Removing is repeated because an
# interrupted initdb may still be writing.
GUARD = """
trap '' HUP INT TERM
read -r _
kill -INT 0
tries=$2
while [ $tries -gt 0 ] && kill -0 "$(head -n 1 "$1/data/postmaster.pid")"; do sleep 0.02; tries=$((tries - 1)); done
set -- "$1" $(sed -n 7p "$1/data/postmaster.pid")
ipcrm -m "$3"
for try in 1 2 3 4 5; do rm -rf "$1" && break; sleep 0.2; done
kill -KILL 0
"""


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 that nobody listened on a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _unused_directory(account: binaries.Account) -> Path:
    """Return the name of a directory to create where account gets through and the socket's path fits."""
    name = f"pgleash-{secrets.token_hex(8)}"
    for parent in (tempfile.gettempdir(), "/tmp"):  # noqa: S108 — nobody can guess the name, and mkdir insists on a new one
        path = Path(parent, name)
        if account.may_pass(path.parent) and len(os.fsencode(path / ".s.PGSQL.65535")) <= LONGEST_SOCKET:
            return path
    raise OperatorError(
        f"neither {tempfile.gettempdir()} nor /tmp can hold the embedded Postgres: its account has to get through,"
        f" and a socket's path ends at {LONGEST_SOCKET} bytes: set TMPDIR"
    )


def _start_guard(directory: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(  # noqa: S603 — a constant script
        ["/bin/sh", "-c", GUARD, "pgleash-guard", directory, str(round(STOP_DEADLINE * 50))],
        cwd="/",
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        process_group=0,
    )


class Postgres:
    """One throw-away server; a context manager, or `start()` and `stop()`.

    Attributes, from `start()` on:
        host, port: where it listens, TCP.
        socket_directory: where its Unix socket is; private to the account it runs as, and to root.
        user, password, database: the superuser's.
        version: major version, 18 or 16.
        log: the file that it logs to; goes with the server.
    """

    host = "127.0.0.1"
    user = "postgres"
    database = "postgres"
    port: int
    socket_directory: Path
    log: Path
    _programs: Path

    def __init__(self, version: int = binaries.NEWEST, settings: Mapping[str, str] | None = None) -> None:
        """Prepare a server of this major version; settings are those of postgresql.conf, over ours."""
        self.version = version
        self.password = secrets.token_urlsafe(16)
        self._settings = {**SETTINGS, **(settings or {})}
        self._account = binaries.Account()
        self._guard: subprocess.Popen[bytes] | None = None
        self._process: subprocess.Popen[bytes] | None = None  # initdb, then postgres

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> Self:
        """Start the server and return when it accepts connections.

        Raises:
            OperatorError: the binaries are missing, or there is nowhere to put the server, or it did not start: then
                with the last lines of what it said.
        """
        try:
            self._prepare()
            self._initialize()
            self._serve()
        except (OSError, subprocess.TimeoutExpired) as error:
            self.stop()
            raise OperatorError(f"the embedded Postgres cannot be started: {error}") from error
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """End the server by a fast shutdown, or SIGKILL after STOP_DEADLINE, and remove its directory; idempotent."""
        if self._process:
            self._process.poll()  # reaps a server that died by itself: the guard would wait for the zombie
        if self._guard:
            self._guard.communicate()
        if self._process:
            self._process.kill()  # only ever finds it alive if somebody has killed the guard
            self._process.wait()

    def kill(self) -> None:
        """End the server like an outage: by SIGKILL; `stop()` is still to be called."""
        if self._process:
            self._process.kill()
            self._process.wait()

    @property
    def pid(self) -> int:
        """The postmaster's process id; 0 before the start."""
        return self._process.pid if self._process else 0

    def dsn(self, **overrides: str | int | None) -> str:
        """Return a libpq connection string for the superuser over TCP; overrides are libpq's keywords."""
        own: dict[str, str | int | None] = {"host": self.host, "port": self.port, "dbname": self.database}
        return make_conninfo("", **{**own, "user": self.user, "password": self.password, **overrides})

    def connect(self, **overrides: str | int | None) -> psycopg.Connection:
        """Return an autocommit connection, by `dsn(**overrides)`.

        Raises:
            psycopg.OperationalError: the server refuses it or is gone.
        """
        return psycopg.connect(self.dsn(**overrides), autocommit=True)

    def environment(self) -> dict[str, str]:
        """Return our environment with libpq's variables for this server, for psql and other children."""
        own = {"PGHOST": self.host, "PGPORT": str(self.port), "PGUSER": self.user, "PGPASSWORD": self.password}
        return {**os.environ, **own, "PGDATABASE": self.database}

    def _prepare(self) -> None:
        self._account = binaries.server_account()
        # Named before it exists, so that the guard is there before it: mkdtemp's result could be lost to an interrupt.
        home = _unused_directory(self._account)
        self._guard = _start_guard(home)
        home.mkdir(mode=0o700)
        self._account.own(home)
        self.socket_directory, self.log = home, home / "log"
        self._programs = self._find_programs(home)

    def _find_programs(self, private: Path) -> Path:
        """Return the directory of the server's programs; a copy, if the account needs one, goes below private."""
        return binaries.directory_for(self._account, self.version, private)

    def _initialize(self) -> None:
        password = self.socket_directory / "password"
        password.write_text(self.password)
        self._account.own(password)
        self._process = initdb = self._run(
            "initdb", "-D", "data", "-U", self.user, "-A", "scram-sha-256", f"--pwfile={password}",
            "--no-sync", "--locale=C", "--encoding=UTF8",
        )  # fmt: skip
        if initdb.wait(START_DEADLINE) != 0:
            raise self._failure("initdb")
        password.unlink()

    def _serve(self) -> None:
        for _ in range(PORT_ATTEMPTS):
            self.port = free_port()
            self._process = server = self._run("postgres", "-D", "data", *self._options())
            if self._answers(server):
                return
            if PORT_TAKEN not in self._said():
                break
        raise self._failure("postgres")

    def _options(self) -> list[str]:
        ours = {"port": str(self.port), "unix_socket_directories": str(self.socket_directory)}
        return [f"-c{name}={value}" for name, value in {**self._settings, **ours}.items()]

    def _run(self, program: str, *arguments: str) -> subprocess.Popen[bytes]:
        with self.log.open("wb") as log:
            return subprocess.Popen(  # noqa: S603 — programs and arguments are our own
                [self._programs / program, *arguments],
                cwd=self.socket_directory,
                env={**os.environ, "LC_ALL": "C"},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                process_group=self._guard.pid if self._guard else None,
                user=self._account.user,
                group=self._account.group,
                extra_groups=self._account.extra_groups,
            )

    def _answers(self, server: subprocess.Popen[bytes]) -> bool:
        """Wait for the first connection; False when server has ended or the deadline has passed."""
        deadline = time.monotonic() + START_DEADLINE
        while server.poll() is None and time.monotonic() < deadline:
            if self._accepts():
                return True
            time.sleep(POLL_INTERVAL)
        return False

    def _accepts(self) -> bool:
        # Over the socket: on a port that was taken, somebody else would answer.
        try:
            self.connect(host=str(self.socket_directory)).close()
        except psycopg.OperationalError:
            return False
        return True

    def _said(self) -> str:
        return self.log.read_text(errors="replace")

    def _failure(self, program: str) -> OperatorError:
        last = self._said().splitlines()[-5:]
        return OperatorError(f"the embedded Postgres did not start; {program} said: {' | '.join(last) or 'nothing'}")
