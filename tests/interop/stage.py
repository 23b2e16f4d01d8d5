"""Where the script is played: a server that ends idle transactions by itself, or pgleash in front of it."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import psutil
import psycopg
from psycopg import sql

from proxy.settings import Address
from tests.harness import until
from tests.interop.catalogue import Client
from tests.interop.play import Outcome, play
from tests.life.support import Program, Record, serve
from tests.servers.server import RealPostgres

LIMIT = "2s"
ROLL_BACK_LIMIT = "1s"
SECURE = "secure"  # the database that nobody gets into without TLS
RULES = (
    "hostssl all all 127.0.0.1/32 scram-sha-256",
    f"hostnossl {SECURE} all 127.0.0.1/32 reject",
    "hostnossl all all 127.0.0.1/32 scram-sha-256",
)

# wait_for_sleeper returns when another session of its own name is in pg_sleep: then is the time to cancel it.
PREPARE = """
CREATE TABLE items (step text, id serial PRIMARY KEY);
CREATE TABLE copied (number int, note text);
CREATE FUNCTION wait_for_sleeper() RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  deadline timestamptz := clock_timestamp() + interval '30 s';
BEGIN
  WHILE NOT EXISTS (
    SELECT FROM pg_stat_activity
    WHERE wait_event = 'PgSleep' AND pid <> pg_backend_pid() AND application_name = current_setting('application_name')
  ) LOOP
    IF clock_timestamp() > deadline THEN
      RAISE EXCEPTION 'nobody sleeps';
    END IF;
    PERFORM pg_sleep(0.01);
    PERFORM pg_stat_clear_snapshot();
  END LOOP;
END $$;
"""
LEAKING = """
SELECT pid FROM pg_stat_activity
WHERE application_name = %s AND state LIKE 'idle in transaction%%' AND datname = current_database()
"""


def start_server(major: int) -> RealPostgres:
    """A server of this version with both databases.

    Raises:
        Unavailable: its programs cannot be had.
    """
    server = RealPostgres(major, hba=RULES).start()
    with server.connect() as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(SECURE)))
    for database in (server.database, SECURE):
        with server.connect(dbname=database) as connection:
            connection.execute(PREPARE)
    return server


@dataclass(frozen=True)
class Stage:
    """One client, its program, and a server that it plays with, in TLS or without."""

    client: Client
    command: list[str]
    server: RealPostgres
    tls: bool

    @property
    def _database(self) -> str:
        return SECURE if self.tls else self.server.database

    def play_directly(self) -> Outcome:
        """Without us; it is the server who ends the idle transaction."""
        with self._connection() as connection:
            name = sql.Identifier(self._database)
            limit = sql.SQL("ALTER DATABASE {} SET idle_in_transaction_session_timeout = {}")
            connection.execute(limit.format(name, LIMIT))
            try:
                return self._play(Address(self.server.host, self.server.port), self._wait_for_end)
            finally:
                reset = sql.SQL("ALTER DATABASE {} RESET idle_in_transaction_session_timeout")
                connection.execute(reset.format(name))

    def play_through(self, **more: str) -> tuple[Outcome, list[Record]]:
        """With us in between; also the log's lines about leaks."""

        def leaking(program: Program) -> None:
            self._wait_for_end()
            session = program.wait("leak.terminated")["session.id"]
            # Its client has to have seen the end before it goes on, as an idle one would.
            until(lambda: session in [record["session.id"] for record in program.of("session.closed")])

        return self._play_with({"flag_after": "1s", "terminate_after": LIMIT}, leaking, **more)

    def play_rolled_back(self) -> tuple[Outcome, list[Record], dict[str, int]]:
        """The script of leaks that are rolled back; also the log's lines about leaks, and what was committed."""
        counts = itertools.count(1)

        def leaking(program: Program) -> None:
            program.wait("leak.rolled_back", next(counts))

        options = {"flag_after": "never", "rollback_after": ROLL_BACK_LIMIT}
        outcome, leaks = self._play_with(options, leaking, INTEROP_SCRIPT="rolled back")
        with self._connection() as connection:
            rows = connection.execute("SELECT step, count(*) FROM items GROUP BY step").fetchall()
        return outcome, leaks, dict(rows)

    def _play_with(
        self, options: dict[str, str], leaking: Callable[[Program], None], **more: str
    ) -> tuple[Outcome, list[Record]]:
        with serve(self.server, log__level="debug", **options, **self._legs()) as program:
            outcome = self._play(program.address, lambda: leaking(program), **more)
            program.tell()
            assert program.ended() == 0
        leaks = [record for record in program.records if record["event"].startswith("leak.")]
        return outcome, [record for record in leaks if record["event"] != "leak.report"]

    def _legs(self) -> dict[str, str]:
        if not self.tls:
            return {}
        # With the server's own certificate on the first leg, too, SCRAM's channel binding holds across both.
        own = self.server.certificates
        return {
            "client_tls__mode": "require",
            "client_tls__cert_file": str(own.cert_file),
            "client_tls__key_file": str(own.key_file),
            "upstream_tls__mode": "require",
        }

    def _play(self, address: Address, leaking: Callable[[], None], **more: str) -> Outcome:
        variables = {
            "PGHOST": address.host,
            "PGPORT": str(address.port),
            "PGUSER": self.server.user,
            "PGPASSWORD": self.server.password,
            "PGDATABASE": self._database,
            "PGSSLMODE": "disable",
            "PGAPPNAME": self.client.application_name,
        }
        if self.tls:
            authority = str(self.server.certificates.ca_file)
            variables |= {"PGSSLMODE": "verify-full", "PGSSLROOTCERT": authority, "PGCHANNELBINDING": "require"}
        with self._connection() as connection:
            connection.execute("TRUNCATE items, copied")
        return play(self.command, variables | more, leaking)

    def _wait_for_end(self) -> None:
        """Wait until the leaking session's backend is gone, and its socket with it; on a slow machine it is already."""
        with self._connection() as connection:
            found = connection.execute(LEAKING, [self.client.application_name]).fetchall()
        until(lambda: not any(psutil.pid_exists(pid) for (pid,) in found), what="the backend is still there")

    def _connection(self) -> psycopg.Connection:
        return self.server.connect(dbname=self._database)
