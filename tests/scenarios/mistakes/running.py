"""One application at a time, the proxy that it talks through, and the partner that it calls."""

import contextlib
import subprocess
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self

from proxy.demo.postgres import Postgres
from tests.harness import PATIENCE, until
from tests.life.support import ROOT, Program, Record, environment, serve
from tests.scenarios.mistakes.catalogue import Mistake

LIMIT = 0.75  # seconds: flag_after; an honest program does not pause for so long, even where the machine is busy
SLOW = 2 * LIMIT  # seconds that a slow partner takes
RESTS = "rests"  # what a program prints when it has done all that it will do

# One shop for all; a mistake has an invoice of its own only where two of its transactions run at once.
USER, DATABASE = "shop", "shop"
TABLES = """
CREATE TABLE invoices (
  id int PRIMARY KEY, customer text NOT NULL, status text NOT NULL DEFAULT 'open', amount numeric NOT NULL DEFAULT 10
);
CREATE TABLE payments (id int PRIMARY KEY, invoice int NOT NULL, amount numeric NOT NULL);
CREATE TABLE audit (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, what text NOT NULL);
INSERT INTO invoices (id, customer) SELECT number, 'customer ' || number FROM generate_series(1, 100) AS number;
INSERT INTO payments SELECT number, number, 10 FROM generate_series(1, 10) AS number;
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO shop;
"""
PRESENT = "SELECT count(*) FROM pg_stat_activity WHERE application_name = %s"


def prepare(server: Postgres) -> None:
    """Make the shop's role, database and tables."""
    with server.connect() as connection:
        connection.execute(f"CREATE ROLE {USER} LOGIN")
        connection.execute(f"CREATE DATABASE {DATABASE}")
    with server.connect(dbname=DATABASE) as connection:
        connection.execute(TABLES)


class Application:
    """A program of the catalogue as a process of its own.

    Attributes:
        process: the process; its pid is what the log has to name.
        said: the lines that it printed.
    """

    def __init__(self, command: list[str], variables: dict[str, str]) -> None:
        self.process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment(variables),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.said: list[str] = []
        self._news = threading.Condition()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.end()

    def _read(self) -> None:
        assert self.process.stdout
        with self.process.stdout as lines:
            for line in lines:
                self._hear(line.rstrip("\n"))
        self._hear("")

    def _hear(self, line: str) -> None:
        with self._news:
            self.said.append(line)
            self._news.notify_all()

    def wait_for_rest(self) -> None:
        """Return when it has done all that it will do."""
        with self._news:
            rests = self._news.wait_for(lambda: RESTS in self.said or "" in self.said, PATIENCE)
        assert rests, f"it has not come to rest: {self.said}"
        assert RESTS in self.said, f"it has ended: {self.said}"

    def end(self) -> int:
        """Let it end, as it does at the end of its input; returns its exit status."""
        assert self.process.stdin
        self.process.stdin.close()
        status = self.process.wait(PATIENCE)
        self._reader.join()
        return status


class Shop:
    """The database and the partner that all applications have; starts one with the proxy before it."""

    def __init__(self, server: Postgres, partner: str) -> None:
        self._server = server
        self._partner = partner

    @contextlib.contextmanager
    def open(
        self, mistake: Mistake, command: list[str], *, fixed: bool, **more: str
    ) -> Iterator[tuple[Program, Application]]:
        """The proxy and the application, running; afterwards both are gone, and so are the application's backends.

        Args:
            mistake: whose application it is.
            command: how to start it.
            fixed: whether without its mistake.
            more: options of the proxy.
        """
        options = {"flag_after": f"{LIMIT}s", "log__level": "debug", **mistake.options, **more}
        with serve(self._server, **options) as program:
            with Application(command, self._variables(mistake, program, fixed=fixed)) as application:
                yield program, application
            self._wait_until_gone(mistake.application_name)

    def _variables(self, mistake: Mistake, program: Program, *, fixed: bool) -> dict[str, str]:
        return {
            "PGHOST": program.address.host,
            "PGPORT": str(program.address.port),
            "PGUSER": USER,
            "PGDATABASE": DATABASE,
            "PGSSLMODE": "disable",
            "PGAPPNAME": mistake.application_name,
            "PARTNER": self._partner,
            "FIXED": "1" if fixed else "0",
        }

    def _wait_until_gone(self, application_name: str) -> None:
        """What it has locked, the next one may need."""
        with self._server.connect() as connection:
            until(lambda: connection.execute(PRESENT, [application_name]).fetchone() == (0,), what="a backend is left")


def leaks(program: Program) -> list[Record]:
    """Every line of the log that blames a client."""
    blaming = [record for record in program.records if record["event"].startswith(("leak.", "client.", "session.forg"))]
    return [record for record in blaming if record["event"] != "leak.report"]


# The partner: somebody else's service, as every application calls one.


class _Partner(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path == "/slow":
            time.sleep(SLOW)  # what a slow service is
        self.send_response(503 if self.path == "/refuses" else 200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextlib.contextmanager
def partner() -> Iterator[str]:
    """The address of a service: /slow takes SLOW seconds, /refuses answers 503, all else 200."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Partner) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()
