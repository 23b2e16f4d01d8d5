"""Where scripts are played: a server, a proxy in front of it, and a database for each of some clients at once."""

import contextlib
import ssl
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import psycopg

from proxy.demo.binaries import NEWEST
from proxy.demo.postgres import Postgres
from proxy.report.events import InternalError
from proxy.settings import Address
from tests.behaviour.support import SCHEMA
from tests.differential.player import Way
from tests.harness import Proxy, settings_for, until
from tests.life.support import trusting_postgres
from tests.servers.certificates import Certificates
from tests.tls.support import trusting

# What scripts use besides the tables of SCHEMA.
MORE: Final = """
    CREATE TABLE wide (n int PRIMARY KEY, t text);
    CREATE PROCEDURE commits(times int) LANGUAGE plpgsql AS
        'BEGIN FOR i IN 1..times LOOP INSERT INTO truth VALUES (i); COMMIT; END LOOP; END';
    CREATE PROCEDURE rolls_back(times int) LANGUAGE plpgsql AS
        'BEGIN FOR i IN 1..times LOOP INSERT INTO truth VALUES (i); ROLLBACK; END LOOP; RAISE ''over''; END';
    CREATE FUNCTION notices(times int) RETURNS SETOF int LANGUAGE plpgsql AS
        'BEGIN FOR i IN 1..times LOOP RAISE NOTICE ''%'', i; RETURN NEXT i; END LOOP; END';
"""
RESET: Final = """
    TRUNCATE truth, truth_deferred, truth_refused, wide;
    INSERT INTO wide SELECT n, repeat('x', n) FROM generate_series(1, 30) n
"""
PREPARED: Final = "SELECT gid FROM pg_prepared_xacts WHERE database = current_database() ORDER BY 1"
LEFT: Final = (
    "SELECT a FROM truth ORDER BY 1",
    "SELECT a FROM truth_deferred ORDER BY 1",
    "SELECT a FROM truth_refused ORDER BY 1",
    "SELECT n, t FROM wide ORDER BY 1",
    PREPARED,
)
CLIENTS: Final = """
    SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND backend_type = 'client backend'
"""


class Ground:
    """A server with databases for clients that do not meet; they are made when they are needed.

    Args:
        postgres: a server that asks nobody for a password.
        proxy: stands in front of it.
        stack: closes what is opened here.
        tls: how clients encrypt what they tell the proxy, or None.
    """

    def __init__(
        self, postgres: Postgres, proxy: Proxy, stack: contextlib.ExitStack, tls: ssl.SSLContext | None = None
    ) -> None:
        self.postgres = postgres
        self.proxy = proxy
        self._stack = stack
        self._tls = tls
        self._judges: list[psycopg.Connection] = []

    def recover(self) -> None:
        """Wait until a server that has crashed is back, and forget the connections to it."""
        until(self._answers, what="the server does not come back")
        for judge in self._judges:
            judge.close()
        self._judges = [self._connect(number) for number in range(len(self._judges))]

    def _answers(self) -> bool:
        try:
            self.postgres.connect().close()
        except psycopg.OperationalError:
            return False
        return True

    def _connect(self, number: int) -> psycopg.Connection:
        return self._stack.enter_context(self.postgres.connect(dbname=f"d{number}"))

    def _judge(self, number: int) -> psycopg.Connection:
        """A connection to this client's database."""
        while len(self._judges) <= number:
            with self.postgres.connect() as connection:
                connection.execute(f"CREATE DATABASE d{len(self._judges)} STRATEGY file_copy")
            self._judges.append(self._connect(len(self._judges)))
            self._judges[-1].execute(SCHEMA + MORE)
        return self._judges[number]

    def direct(self, number: int) -> Way:
        """The way of this client without the proxy."""
        return Way(Address(self.postgres.host, self.postgres.port), f"d{number}")

    def through(self, number: int) -> Way:
        """The way of this client through the proxy."""
        return Way(self.proxy.address, f"d{number}", self._tls)

    @property
    def is_first(self) -> bool:
        """Whether everything is tried here: the newest server, and nothing else that is special."""
        return self.postgres.version == NEWEST and self._tls is None

    @property
    def can_half_close(self) -> bool:
        """Whether a client can end its stream and still read; in TLS only one that has an engine of its own can."""
        return self._tls is None

    def reset(self, number: int) -> None:
        """Put this client's database in order, once nobody uses it any more."""
        judge = self._judge(number)
        until(lambda: judge.execute(CLIENTS).fetchone() == (1,), what="somebody is left in the database")
        for (gid,) in judge.execute(PREPARED).fetchall():
            judge.execute(f"ROLLBACK PREPARED '{gid}'")
        judge.execute(RESET)

    def left(self, number: int) -> list[object]:
        """What is in this client's database now."""
        judge = self._judge(number)
        return [judge.execute(query).fetchall() for query in LEFT]


@contextlib.contextmanager
def grounded(version: int, *, tls: bool = False, **options: str) -> Iterator[Ground]:
    """A ground with a server of this version, and a proxy with these options, which clients reach in TLS or not."""
    # A transaction that a client has prepared may be in its own way: it must not wait for ever.
    settings = {"max_prepared_transactions": "20", "autovacuum": "off", "lock_timeout": "200ms"}
    with contextlib.ExitStack() as stack:
        context = None
        if tls:
            certificates = Certificates(Path(stack.enter_context(tempfile.TemporaryDirectory())))
            context = trusting(certificates.ca_file)
            options |= {
                "client_tls__mode": "require",
                "client_tls__cert_file": str(certificates.cert_file),
                "client_tls__key_file": str(certificates.key_file),
            }
        postgres = stack.enter_context(trusting_postgres(version, **settings))
        proxy = stack.enter_context(Proxy(settings_for(f"{postgres.host}:{postgres.port}", **options)))
        yield Ground(postgres, proxy, stack, context)
        proxy.settle()
        assert faults(proxy) == []


def faults(proxy: Proxy) -> list[InternalError]:
    """What the proxy says is wrong with itself."""
    return proxy.recorder.of(InternalError)
