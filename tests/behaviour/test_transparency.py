"""The same results as without the proxy: the same scripts are run both ways, and what they have seen is compared.

A script takes a connection string and returns its journal: values, errors with their SQLSTATE and text, notices. In
all of them the proxy has to keep track: what it did not understand, it would relay just as well.
"""

import asyncio
import contextlib
import datetime as dt
import decimal
import hashlib
import io
import multiprocessing
import re
import subprocess
import threading
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from difflib import unified_diff
from pathlib import Path
from typing import Any, Final, NamedTuple

import asyncpg
import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict
from psycopg.types.json import Jsonb

from proxy.demo import binaries
from proxy.demo.postgres import Postgres
from proxy.report.events import LeakFlagged
from tests.behaviour.support import Journal, understanding
from tests.conftest import StartProxy
from tests.harness import Proxy, dsn, until

LIMIT = "1s"  # nothing here holds a transaction for so long
MEGABYTE: Final = 1 << 20

Script = Callable[[str], list[object]]
AsyncScript = Callable[[str], Awaitable[list[object]]]


@pytest.fixture
def proxy(start_proxy: StartProxy) -> Iterator[Proxy]:
    with understanding(start_proxy(flag_after=LIMIT)) as proxy:
        yield proxy
    assert proxy.recorder.of(LeakFlagged) == []


@pytest.fixture
def database(postgres: Postgres, request: pytest.FixtureRequest) -> Iterator[str]:
    """An empty database."""
    name = re.sub(r"\W+", "_", request.node.name)[:40]
    with postgres.connect() as connection:
        connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        connection.execute(f"CREATE DATABASE {name}")
        yield name
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


class Done(NamedTuple):
    """How a program has ended; its output byte for byte, as Latin-1."""

    stdout: str
    stderr: str
    status: int


def run(
    postgres: Postgres, proxy: Proxy | None, name: str, *arguments: str, stdin: str = "", database: str = "postgres"
) -> Done:
    """Run one of Postgres's programs, directly or through a proxy."""
    environment = {**postgres.environment(), "PGDATABASE": database, "LC_ALL": "C"}
    if proxy is not None:
        environment |= {"PGHOST": proxy.address.host, "PGPORT": str(proxy.address.port)}
    command = [str(binaries.program(name)), *arguments]
    done = subprocess.run(command, env=environment, input=stdin.encode(), capture_output=True, check=False, timeout=60)
    return Done(done.stdout.decode("latin-1"), done.stderr.decode("latin-1"), done.returncode)


# psql


PSQL = r"""
\set VERBOSITY verbose
SELECT 1 AS one, NULL AS nothing, 'text' AS text;
SELECT 1/0;
SELEC;
SELECT * FROM missing;
\errverbose
CREATE TABLE kept (a int PRIMARY KEY, b text DEFAULT 'b', c bytea);
\copy kept (a, b) from stdin
1	one
2	\N
3	three
\.
\copy kept (a) from stdin
4
four
\.
COPY kept (a, b) FROM STDIN WITH (FORMAT csv);
5,"five, and more"
\.
\copy kept to stdout
COPY kept TO STDOUT WITH (FORMAT csv, HEADER);
\copy (SELECT generate_series(1, 5)) to pstdout
\copy kept to 'FILE' with (format binary)
TRUNCATE kept;
\copy kept from 'FILE' with (format binary)
TABLE kept;
SELECT 1 \; SELECT 2 \; SELECT 3;
SELECT 1 \; SELECT 1/0 \; SELECT 3;
INSERT INTO kept (a) VALUES (6) \; INSERT INTO kept (a) VALUES (6);
DO $$BEGIN RAISE NOTICE 'noticed %', 1; RAISE WARNING 'warned' USING DETAIL = 'd', HINT = 'h'; END$$;
DO $$BEGIN FOR i IN 1..3 LOOP INSERT INTO kept (a) VALUES (100 + i); COMMIT; END LOOP; END$$;
BEGIN;
INSERT INTO kept (a) VALUES (7);
SAVEPOINT s;
INSERT INTO kept (a) VALUES (7);
SELECT 'aborted';
ROLLBACK TO s;
SELECT count(*) FROM kept;
RELEASE s;
COMMIT AND CHAIN;
SELECT count(*) FROM kept;
ROLLBACK;
BEGIN; SELECT 1/0; COMMIT;
COMMIT;
\set ON_ERROR_ROLLBACK on
BEGIN;
SELECT missing;
SELECT 'goes on';
COMMIT;
\set ON_ERROR_ROLLBACK off
SELECT a, b, c FROM kept WHERE a > 1 \gdesc
SELECT missing \gdesc
SELECT 10 AS ten, 11 AS eleven \gset
SELECT :ten + :eleven \gx
SELECT $1::int + $2::int \bind 1 2 \g
SELECT $1::int / $2::int AS quotient \parse divided
\bind_named divided 6 3 \g
\bind_named divided 6 0 \g
\close_prepared divided
\bind_named divided 6 3 \g
\startpipeline
SELECT $1::int \bind 1 \sendpipeline
SELECT 2 \bind \sendpipeline
\syncpipeline
SELECT 1/0 \bind \sendpipeline
SELECT 3 \bind \sendpipeline
\syncpipeline
SELECT 4 \bind \sendpipeline
\flushrequest
\getresults 1
\endpipeline
\set FETCH_COUNT 7
SELECT generate_series(1, 30);
SELECT 1/(5 - generate_series(1, 30));
\unset FETCH_COUNT
SELECT repeat('x', 100) || generate_series(1, 20000);
SELECT repeat('y', 3000000);
COPY (SELECT repeat('z', 50), generate_series(1, 20000)) TO STDOUT;
\d kept
\dt
SELECT 'SELECT ' || n FROM generate_series(1, 3) n \gexec
SELECT a, b, a FROM (VALUES (1, 'x'), (2, 'y')) v (a, b) \crosstabview
LISTEN told;
NOTIFY told, 'payload';
SELECT 1;
SELECT now() > '2001-01-01' \watch c=2 i=0.01
\lo_import 'FILE' 'a comment'
\lo_export :LASTOID 'FILE.out'
\lo_unlink :LASTOID
\lo_unlink :LASTOID
SET client_encoding TO 'LATIN1';
SELECT chr(228);
RESET ALL;
VACUUM kept;
EXPLAIN (COSTS OFF) SELECT * FROM kept WHERE a = 1;
PREPARE p AS SELECT $1::int;
EXECUTE p(1);
EXECUTE p('x');
;
DROP TABLE kept;
\c
SELECT 'reconnected';
SELECT pg_terminate_backend(pg_backend_pid());
"""


def test_psql_prints_the_same(postgres: Postgres, proxy: Proxy, database: str, tmp_path: Path) -> None:
    def prints(through: Proxy | None) -> Done:
        script = PSQL.replace("FILE", str(tmp_path / "file"))
        done = run(postgres, through, "psql", "-X", "-a", stdin=script, database=database)
        (tmp_path / "file").unlink()
        assert (tmp_path / "file.out").exists()
        (tmp_path / "file.out").unlink()
        return Done(without_what_differs(done.stdout), without_what_differs(done.stderr), done.status)

    direct = prints(None)
    proxied = prints(proxy)
    for one, other in zip(direct[:2], proxied[:2], strict=True):
        assert list(unified_diff(one.splitlines(), other.splitlines(), n=0, lineterm="")) == []
    assert proxied == direct
    assert "division by zero" in direct.stderr
    assert "terminating connection due to administrator command" in direct.stderr
    assert len(direct.stdout) > 6 * MEGABYTE


def without_what_differs(printed: str) -> str:
    """Process ids, object ids and times differ from run to run."""
    printed = re.sub(r"server process with PID \d+", "server process with PID ...", printed)
    printed = re.sub(r"large object \d+", "large object ...", printed)
    printed = re.sub(r"^.* \(every 0.01s\)$", "... (every 0.01s)", printed, flags=re.MULTILINE)
    return re.sub(r"^lo_(import|unlink) \d+$", r"lo_\1 ...", printed, flags=re.MULTILINE)


# pgbench

PIPELINE = r"""
\set aid random(1, 100000)
\set delta random(-5000, 5000)
\startpipeline
BEGIN;
UPDATE pgbench_accounts SET abalance = abalance + :delta WHERE aid = :aid;
SELECT abalance FROM pgbench_accounts WHERE aid = :aid;
INSERT INTO pgbench_history (tid, bid, aid, delta, mtime) VALUES (1, 1, :aid, :delta, CURRENT_TIMESTAMP);
COMMIT;
\syncpipeline
SELECT 1;
\endpipeline
"""
BENCHES = {
    **{
        f"{mode} {script or 'default'}": ["-M", mode, *script.split()]
        for mode in ("simple", "extended", "prepared")
        for script in ("", "-S")
    },
    "a connection each": ["-C", "-S"],
    "pipeline extended": ["-M", "extended", "-f", "PIPELINE"],
    "pipeline prepared": ["-M", "prepared", "-f", "PIPELINE"],
}


def test_pgbench_runs_in_all_its_ways(postgres: Postgres, proxy: Proxy, database: str, tmp_path: Path) -> None:
    pipeline = tmp_path / "pipeline.sql"
    pipeline.write_text(PIPELINE)
    prepared = run(postgres, proxy, "pgbench", "-i", "-q", database=database)
    assert prepared.status == 0, prepared.stderr
    for name, options in BENCHES.items():
        arguments = [str(pipeline) if option == "PIPELINE" else option for option in options]
        done = run(postgres, proxy, "pgbench", "-n", "-c", "4", "-j", "2", "-t", "40", *arguments, database=database)
        assert done.status == 0, f"{name}: {done.stderr}"
        assert "number of transactions actually processed: 160/160" in done.stdout, name
        assert "number of failed transactions: 0 (0.000%)" in done.stdout, name


# pg_dump

DUMPED = r"""
CREATE TYPE mood AS ENUM ('sad', 'it''s fine', 'glad');
CREATE DOMAIN positive AS int CHECK (VALUE > 0);
CREATE TABLE people (
    id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text NOT NULL UNIQUE, mood mood, data bytea, doc jsonb,
    size positive, born date, tags text[], score float8 DEFAULT 'NaN',
    upper text GENERATED ALWAYS AS (upper(name)) STORED
);
COMMENT ON TABLE people IS E'a comment\nof two lines; with \\.';
INSERT INTO people (name, mood, data, doc, size, born, tags)
    SELECT 'näme ' || n || E'\t\\', 'glad', decode(md5(n::text), 'hex'), jsonb_build_object('n', n), n,
        '2000-01-01'::date + n, ARRAY['a', NULL, n::text] FROM generate_series(1, 3000) n;
CREATE TABLE events (at timestamptz, person int REFERENCES people, what text) PARTITION BY RANGE (at);
CREATE TABLE events_1 PARTITION OF events FOR VALUES FROM ('2000-01-01') TO ('2001-01-01');
CREATE TABLE events_2 PARTITION OF events DEFAULT;
INSERT INTO events SELECT '2000-06-01'::timestamptz + n * interval '1 hour', n, repeat('e', 500)
    FROM generate_series(1, 3000) n;
CREATE VIEW names AS SELECT name FROM people WHERE mood = 'glad';
CREATE MATERIALIZED VIEW counts AS SELECT count(*) FROM people;
CREATE FUNCTION twice(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1 * 2';
CREATE INDEX people_twice ON people (twice(id)) WHERE size > 5;
CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RETURN NEW; END$$;
CREATE TRIGGER touch BEFORE UPDATE ON people FOR EACH ROW EXECUTE FUNCTION touch();
SELECT lo_from_bytea(0, decode(repeat('00ff0a5c', 5000), 'hex'));
CREATE TABLE wide (a text);
INSERT INTO wide SELECT string_agg(md5(n::text), '') FROM generate_series(1, 60000) n;
"""


def test_a_dump_is_the_same_and_can_be_restored(
    postgres: Postgres, proxy: Proxy, database: str, tmp_path: Path
) -> None:
    def dumps(through: Proxy | None, name: str, *options: str) -> str:
        restrict = [] if "-f" in options else ["--restrict-key=fixed"]
        done = run(postgres, through, "pg_dump", *restrict, *options, database=name)
        assert done.status == 0, done.stderr
        return done.stdout

    def restores(through: Proxy | None, name: str, program: str, *arguments: str) -> None:
        with postgres.connect() as judge:
            judge.execute(f"CREATE DATABASE {name}")
        done = run(postgres, through, program, *arguments, database=name)
        assert (done.status, done.stderr) == (0, "")

    assert run(postgres, proxy, "psql", "-Xq", "-v", "ON_ERROR_STOP=1", stdin=DUMPED, database=database).stderr == ""
    direct = dumps(None, database)
    assert len(direct) > 3 * MEGABYTE
    assert dumps(proxy, database) == direct
    options = ["--inserts", "--rows-per-insert=100"]
    assert dumps(proxy, database, *options) == dumps(None, database, *options)

    plain, archive, folder = tmp_path / "plain", tmp_path / "archive", tmp_path / "folder"
    plain.write_text(direct, "latin-1")
    dumps(proxy, database, "-Fc", "-f", str(archive))
    dumps(proxy, database, "-Fd", "-j", "3", "-f", str(folder))
    names = [f"{database}_{number}" for number in range(3)]
    try:
        restores(proxy, names[0], "psql", "-Xq", "-o", "/dev/null", "-v", "ON_ERROR_STOP=1", "-f", str(plain))
        restores(proxy, names[1], "pg_restore", "-d", names[1], "--single-transaction", str(archive))
        restores(proxy, names[2], "pg_restore", "-d", names[2], "-j", "3", str(folder))
        for name in names:
            assert dumps(proxy, name) == direct
    finally:
        with postgres.connect() as judge:
            for name in names:
                judge.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


# psycopg


def parameters(through: str) -> list[object]:
    journal = Journal(psycopg.Error)
    values = (
        1, -(1 << 40), "täxt", "", None, True, 1.5, decimal.Decimal("1e-20"), b"\0\xff", [1, None, 3], [["a"], ["b"]],
        dt.date(2000, 2, 29), dt.datetime(2000, 1, 1, tzinfo=dt.UTC), dt.timedelta(days=1.5),
        uuid.UUID(int=7), Jsonb({"a": [1, None]}),
    )  # fmt: skip
    with psycopg.connect(through) as connection:
        for value in values:
            for binary in (False, True):
                journal.note(connection.execute("SELECT %s", [value], binary=binary).fetchone())
        client_side = psycopg.ClientCursor(connection)
        journal.note(client_side.execute("SELECT %s; SELECT %s", ["it's", 2]).fetchall(), client_side.nextset())
        for sql, wrong in (
            ("SELECT %s::int", ["x"]),
            ("SELECT %s / 0", [1]),
            ("SELECT %s + missing", [1]),
            ("SELEC", []),
            ("SELECT 1; SELECT %s", [1]),
        ):
            with journal.attempt():
                connection.execute(sql, wrong)
            with journal.attempt():
                connection.execute("SELECT 1")
            connection.rollback()
        connection.execute("CREATE TEMP TABLE checked (a int CONSTRAINT small CHECK (a < 3))")
        try:
            connection.execute("INSERT INTO checked VALUES (%s)", [5])
        except psycopg.errors.CheckViolation as error:
            journal.note(error.diag.constraint_name, error.diag.table_name, error.diag.message_detail)
    return journal.entries


def prepared(through: str) -> list[object]:
    journal = Journal(psycopg.Error)
    with psycopg.connect(through, autocommit=True, prepare_threshold=2) as connection:
        connection.prepared_max = 3
        connection.execute("CREATE TEMP TABLE changing AS SELECT 1 AS a")
        for number in range(20):
            for columns in range(number % 5):
                select = ", ".join(["%s::int"] * (columns + 1))
                journal.note(connection.execute(f"SELECT {select}", [number] * (columns + 1)).fetchall())
        for _ in range(3):
            connection.execute("SELECT * FROM changing WHERE a = %s", [1])
        connection.execute("ALTER TABLE changing ADD b text")
        with journal.attempt():
            connection.execute("SELECT * FROM changing WHERE a = %s", [1])
        connection.execute("DEALLOCATE ALL")
        journal.note(connection.execute("SELECT * FROM changing WHERE a = %s", [1]).fetchall())
        cursor = connection.cursor()
        cursor.executemany("SELECT %s::int", [[1], [2], [3]], returning=True)
        journal.note(cursor.fetchall(), cursor.nextset(), cursor.fetchall())
        with journal.attempt():
            cursor.executemany("SELECT 1 / %s::int", [[1], [0], [3]])
        journal.note(connection.info.transaction_status)
    return journal.entries


def server_side_cursors(through: str) -> list[object]:
    journal = Journal(psycopg.Error)
    with psycopg.connect(through) as connection:
        with connection.cursor("plain") as cursor:
            cursor.itersize = 100
            cursor.execute("SELECT generate_series(1, %s)", [350])
            journal.note(cursor.fetchone(), cursor.fetchmany(5), sum(1 for _ in cursor))
        with connection.cursor("scrolls", scrollable=True) as cursor:
            cursor.execute("SELECT generate_series(1, 10)")
            journal.note(cursor.fetchall())
            cursor.scroll(-4)
            journal.note(cursor.fetchmany(2))
            with journal.attempt():
                cursor.scroll(100)
                journal.note(cursor.fetchone())
        with connection.cursor("held", withhold=True) as cursor:
            cursor.execute("SELECT generate_series(1, 10)")
            connection.commit()
            journal.note(cursor.fetchmany(3))
        with journal.attempt(), connection.cursor("fails") as cursor:
            cursor.execute("SELECT 1 / (5 - generate_series(1, 10))")
            journal.note(cursor.fetchmany(3))
            cursor.fetchall()
        journal.note(connection.info.transaction_status)
        connection.rollback()
        with connection.cursor() as cursor:
            journal.note(list(cursor.stream("SELECT generate_series(1, 5)")))
            with journal.attempt():
                journal.note(list(cursor.stream("SELECT 1 / (3 - generate_series(1, 5))")))
    return journal.entries


def copies(through: str) -> list[object]:
    journal = Journal(psycopg.Error, ZeroDivisionError)
    rows = [(number, f"t\t\\{number}", None if number % 3 else b"\0\n") for number in range(3000)]
    with psycopg.connect(through) as connection, connection.cursor() as cursor:
        cursor.execute("CREATE TEMP TABLE copied (a int, b text, c bytea)")
        for options in ("", "WITH (FORMAT binary)"):
            with cursor.copy(f"COPY copied FROM STDIN {options}") as copy:
                copy.set_types(["int4", "text", "bytea"])
                for row in rows:
                    copy.write_row(row)
            journal.note(cursor.statusmessage)
            with cursor.copy(f"COPY copied TO STDOUT {options}") as copy:
                copy.set_types(["int4", "text", "bytea"])
                journal.note(list(copy.rows()))
        connection.commit()
        with journal.attempt(), cursor.copy("COPY copied FROM STDIN") as copy:
            copy.write("1\tone\t\\N\n")
            raise ZeroDivisionError
        connection.rollback()
        with journal.attempt(), cursor.copy("COPY copied FROM STDIN") as copy:
            copy.write("one\tone\t\\N\n" * 20000)
        journal.note(connection.info.transaction_status)
        connection.rollback()
        with journal.attempt(), cursor.copy("COPY (SELECT generate_series(1, 100000000)) TO STDOUT") as copy:
            journal.note(copy.read())
            raise ZeroDivisionError  # psycopg cancels the statement
        connection.rollback()
        with journal.attempt(), cursor.copy("COPY (SELECT 1 / (3 - generate_series(1, 5))) TO STDOUT") as copy:
            journal.note([bytes(data) for data in copy])
        connection.rollback()
        with journal.attempt(), cursor.copy("COPY missing TO STDOUT"):
            pass
        connection.rollback()
        journal.note(cursor.execute("SELECT count(*), sum(a) FROM copied").fetchone())
    return journal.entries


def pipelines(through: str) -> list[object]:
    journal = Journal(psycopg.Error)
    with psycopg.connect(through, autocommit=True) as connection:
        with connection.pipeline():
            cursors = [connection.execute("SELECT %s::int", [number]) for number in range(500)]
            journal.note([cursor.fetchone() for cursor in cursors])
        with journal.attempt(), connection.pipeline() as pipeline:
            connection.execute("SELECT 1")
            connection.execute(
                "SELECT 1 / %s::int", [0]
            )  # raised by what happens to be called when the answer is there
            connection.execute("SELECT 2")
            pipeline.sync()
        journal.note(connection.info.transaction_status, connection.execute("SELECT 3").fetchone())
        connection.execute("CREATE TEMP TABLE piped (a int PRIMARY KEY DEFERRABLE INITIALLY DEFERRED)")
        with journal.attempt(), connection.pipeline(), connection.transaction():
            connection.execute("INSERT INTO piped VALUES (1)")
            connection.execute("INSERT INTO piped VALUES (1)")
        with journal.attempt(), connection.pipeline(), connection.transaction():
            connection.execute("INSERT INTO piped VALUES (2)")
            with journal.attempt(), connection.transaction():
                connection.execute("SELECT missing")
            connection.execute("INSERT INTO piped VALUES (3)")
        journal.note(
            connection.execute("SELECT a FROM piped ORDER BY a").fetchall(), connection.info.transaction_status
        )
    return journal.entries


def cancels(through: str) -> list[object]:
    return _cancels(through, psycopg.Connection.cancel_safe)


def cancels_as_of_old(through: str) -> list[object]:
    return _cancels(through, psycopg.Connection.cancel)


def _cancels(through: str, cancel: Callable[[psycopg.Connection], None]) -> list[object]:
    journal = Journal(psycopg.Error)
    with psycopg.connect(through) as connection, psycopg.connect(through, autocommit=True) as judge:

        def running() -> bool:
            query = "SELECT count(*) = 1 FROM pg_stat_activity WHERE pid = %s AND wait_event = 'PgSleep'"
            return judge.execute(query, [connection.info.backend_pid]).fetchone() == (True,)

        def cancel_it() -> None:
            until(running)
            cancel(connection)

        for _ in range(3):
            canceller = threading.Thread(target=cancel_it)
            canceller.start()
            with journal.attempt():
                connection.execute("SELECT pg_sleep(30)")
            canceller.join()
            journal.note(connection.info.transaction_status)
            connection.rollback()
            journal.note(connection.execute("SELECT 1").fetchone())
        connection.rollback()
        cancel(connection)  # nothing runs: nothing happens
        journal.note(connection.execute("SELECT 2").fetchone())
    return journal.entries


def notifications(through: str) -> list[object]:
    journal = Journal(psycopg.Error)
    with psycopg.connect(through, autocommit=True) as listener, psycopg.connect(through) as teller:
        listener.execute("LISTEN news")
        listener.execute("LISTEN other")
        for number in range(50):
            teller.execute("SELECT pg_notify('news', %s)", [f"{number} " + "x" * 5000])
        teller.execute("NOTIFY other")
        teller.commit()
        told = list(listener.notifies(timeout=10, stop_after=51))
        journal.note([(one.channel, one.payload, one.pid == teller.info.backend_pid) for one in told])
        with listener.transaction():
            teller.execute("NOTIFY news, 'while in a transaction'")
            teller.commit()
            journal.note(listener.execute("SELECT 1").fetchone())
        listener.execute("NOTIFY news, 'to myself'")
        journal.note([one.payload for one in listener.notifies(timeout=10, stop_after=2)])
    return journal.entries


def megabytes(through: str) -> list[object]:
    journal = Journal(psycopg.Error)
    text, data = "tä" * (MEGABYTE // 3), bytes(range(256)) * (MEGABYTE // 256)
    with psycopg.connect(through) as connection:
        row = connection.execute("SELECT %s, %b", [text, data], binary=True).fetchone()
        journal.note(row == (text, data))
        journal.note(connection.execute("SELECT md5(%s), length(%s::bytea)", [text, data]).fetchone())
        rows = connection.execute("SELECT repeat('x', 1000000) || n FROM generate_series(1, 30) n").fetchall()
        journal.note(hashlib.md5(repr(rows).encode(), usedforsecurity=False).hexdigest())
        journal.note(len(connection.execute("SELECT generate_series(1, 200000)").fetchall()))
        with journal.attempt():
            connection.execute(f"SELECT '{text}'::int")
    return journal.entries


def two_phases(through: str) -> list[object]:
    journal = Journal(psycopg.Error)
    with psycopg.connect(through) as connection:
        connection.execute("DROP TABLE IF EXISTS phased")
        connection.execute("CREATE TABLE phased (a int)")
        connection.commit()
        for name, end in (("one", connection.tpc_commit), ("two", connection.tpc_rollback)):
            xid = connection.xid(1, f"global {name}", "branch")
            connection.tpc_begin(xid)
            connection.execute("INSERT INTO phased VALUES (1)")
            connection.tpc_prepare()
            journal.note(connection.info.transaction_status)
            with psycopg.connect(through, autocommit=True) as other:
                journal.note([(found.gtrid, found.bqual) for found in other.tpc_recover()])
            end()
            journal.note(connection.execute("SELECT count(*) FROM phased").fetchone())
            connection.commit()
        connection.execute("DROP TABLE phased")
    return journal.entries


def notices(through: str) -> list[object]:
    journal = Journal(psycopg.Error)
    with psycopg.connect(through, autocommit=True) as connection:
        connection.add_notice_handler(
            lambda notice: journal.note(notice.severity, notice.sqlstate, notice.message_primary, notice.message_hint)
        )
        for level in ("DEBUG", "LOG", "INFO", "NOTICE", "WARNING"):
            connection.execute(f"DO $$BEGIN RAISE {level} 'raised'; END$$")
        connection.execute("SET client_min_messages TO debug1")
        connection.execute("DO $$BEGIN FOR i IN 1..300 LOOP RAISE NOTICE '%', i USING HINT = 'h'; END LOOP; END$$")
        connection.execute("COMMIT")
        connection.execute("BEGIN; BEGIN; ROLLBACK")
        connection.execute("DROP TABLE IF EXISTS missing")
    return journal.entries


def transactions(through: str) -> list[object]:
    journal = Journal(psycopg.Error)
    with psycopg.connect(through) as connection:
        journal.note(connection.info.transaction_status)
        connection.execute("CREATE TEMP TABLE nested (a int)")
        with connection.transaction():
            connection.execute("INSERT INTO nested VALUES (1)")
            with journal.attempt(), connection.transaction():
                connection.execute("INSERT INTO nested VALUES (2)")
                connection.execute("SELECT 1/0")
            with connection.transaction(force_rollback=True):
                connection.execute("INSERT INTO nested VALUES (3)")
            connection.execute("INSERT INTO nested VALUES (4)")
        journal.note(connection.execute("SELECT * FROM nested").fetchall(), connection.info.transaction_status)
        connection.commit()
        connection.read_only = True
        connection.isolation_level = psycopg.IsolationLevel.SERIALIZABLE
        with journal.attempt():
            connection.execute("CREATE TABLE not_created (a int)")
        connection.commit()  # answered by ROLLBACK, which psycopg does not mind
        connection.read_only = None
        for sql in (
            "SET TimeZone TO 'Asia/Tokyo'",
            "SET application_name TO 'näme'",
            "SELECT pg_catalog.set_config('search_path', 'x', false)",
        ):
            connection.execute(sql)
        names = ("TimeZone", "application_name", "server_version", "standard_conforming_strings", "is_superuser")
        journal.note([connection.info.parameter_status(name) for name in names])
        connection.rollback()
        journal.note([connection.info.parameter_status(name) for name in names])
        connection.commit()
        with journal.attempt():
            connection.execute("SELECT pg_terminate_backend(pg_backend_pid())")
        journal.note(connection.closed, connection.broken)
    with journal.attempt(), psycopg.connect(through, dbname="missing"):
        pass
    return [re.sub(r"port \d+", "port ...", repr(entry)) for entry in journal.entries]


SYNC: Final[list[Script]] = [
    parameters, prepared, server_side_cursors, copies, pipelines, cancels, notifications, megabytes, two_phases,
    notices, transactions,
]  # fmt: skip


@pytest.mark.protocol(13, 16, 17, 19, "pipelines with errors")
@pytest.mark.parametrize("script", SYNC, ids=lambda script: script.__name__)
def test_psycopg_sees_the_same(postgres: Postgres, proxy: Proxy, script: Script) -> None:
    direct = script(postgres.dsn())
    assert direct
    assert script(dsn(proxy, postgres)) == direct


def test_psycopg_s_old_way_to_cancel(postgres: Postgres, proxy: Proxy) -> None:
    """In a process of its own: PQcancel keeps Python's lock until the cancel has been answered, by our thread."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as elsewhere:
        direct = elsewhere.submit(cancels_as_of_old, postgres.dsn()).result(30)
        assert elsewhere.submit(cancels_as_of_old, dsn(proxy, postgres)).result(30) == direct


# psycopg, the asynchronous one


async def async_statements(through: str) -> list[object]:
    journal = Journal(psycopg.Error)
    async with await psycopg.AsyncConnection.connect(through) as connection:
        connection.add_notice_handler(lambda notice: journal.note(notice.severity, notice.message_primary))
        await connection.execute("DO $$BEGIN RAISE WARNING 'raised'; END$$")
        for value in (1, "täxt", None, b"\0", [1, 2]):
            cursor = await connection.execute("SELECT %s", [value], prepare=True)
            journal.note(await cursor.fetchone())
        with journal.attempt():
            await connection.execute("SELECT 1/%s::int", [0])
        await connection.rollback()
        async with connection.transaction():
            with journal.attempt():
                async with connection.transaction():
                    await connection.execute("SELEC")
            cursor = await connection.execute("SELECT 'goes on'")
            journal.note(await cursor.fetchone())
        cursor = await connection.execute("SELECT md5(%s), %b", ["x" * MEGABYTE, b"y" * MEGABYTE])
        journal.note(await cursor.fetchone())
        async with connection.cursor("named") as named:
            await named.execute("SELECT generate_series(1, 250)")
            journal.note([row async for row in named])
        journal.note([row async for row in connection.cursor().stream("SELECT generate_series(1, 9)")])
    return journal.entries


async def async_copies(through: str) -> list[object]:
    journal = Journal(psycopg.Error, ZeroDivisionError)
    async with await psycopg.AsyncConnection.connect(through) as connection, connection.cursor() as cursor:
        await cursor.execute("CREATE TEMP TABLE copied (a int, b text)")
        for options in ("", "WITH (FORMAT binary)"):
            async with cursor.copy(f"COPY copied FROM STDIN {options}") as copy:
                copy.set_types(["int4", "text"])
                for number in range(2000):
                    await copy.write_row((number, "ä" * number))
            async with cursor.copy(f"COPY copied TO STDOUT {options}") as copy:
                copy.set_types(["int4", "text"])
                journal.note([row async for row in copy.rows()])
        await connection.commit()
        with journal.attempt():
            async with cursor.copy("COPY copied FROM STDIN") as copy:
                await copy.write("1\tone\n")
                raise ZeroDivisionError
        await connection.rollback()
        with journal.attempt():
            async with cursor.copy("COPY copied FROM STDIN") as copy:
                await copy.write("one\tone\n" * 50000)
        await connection.rollback()
        with journal.attempt():
            async with cursor.copy("COPY (SELECT generate_series(1, 100000000)) TO STDOUT") as copy:
                journal.note(bytes(await copy.read()))
                raise ZeroDivisionError
        journal.note(connection.info.transaction_status)
    return journal.entries


async def async_pipelines(through: str) -> list[object]:
    journal = Journal(psycopg.Error)
    async with await psycopg.AsyncConnection.connect(through, autocommit=True) as connection:
        async with connection.pipeline():
            cursors = [await connection.execute("SELECT %s::int", [number]) for number in range(300)]
            journal.note([await cursor.fetchone() for cursor in cursors])
        with journal.attempt():
            async with connection.pipeline() as pipeline:
                await connection.execute("SELECT 1 / %s::int", [0])
                await connection.execute("SELECT 1")
                await pipeline.sync()
        cursor = await connection.execute("SELECT 2")
        journal.note(await cursor.fetchone(), connection.info.transaction_status)
    return journal.entries


async def async_cancels(through: str) -> list[object]:
    journal = Journal(psycopg.Error)

    async def asleep(judge: psycopg.AsyncConnection, pid: int) -> None:
        query = "SELECT count(*) FROM pg_stat_activity WHERE pid = %s AND wait_event = 'PgSleep'"
        async with asyncio.timeout(10):
            while await (await judge.execute(query, [pid])).fetchone() != (1,):
                pass

    async with (
        await psycopg.AsyncConnection.connect(through) as connection,
        await psycopg.AsyncConnection.connect(through, autocommit=True) as judge,
    ):
        pid = connection.info.backend_pid
        sleeping = asyncio.create_task(connection.execute("SELECT pg_sleep(30)"))
        await asleep(judge, pid)
        await connection.cancel_safe()
        with journal.attempt():
            await sleeping
        await connection.rollback()
        sleeping = asyncio.create_task(connection.execute("SELECT pg_sleep(30)"))
        await asleep(judge, pid)
        sleeping.cancel()  # psycopg cancels the statement
        with contextlib.suppress(asyncio.CancelledError):
            await sleeping
        journal.note(connection.info.transaction_status)
        await connection.rollback()
        journal.note(await (await connection.execute("SELECT 1")).fetchone())
    return journal.entries


async def async_notifications(through: str) -> list[object]:
    journal = Journal(psycopg.Error)
    async with (
        await psycopg.AsyncConnection.connect(through, autocommit=True) as listener,
        await psycopg.AsyncConnection.connect(through) as teller,
    ):
        await listener.execute("LISTEN news")
        for number in range(20):
            await teller.execute("SELECT pg_notify('news', %s)", [str(number)])
        await teller.commit()
        journal.note([one.payload async for one in listener.notifies(timeout=10, stop_after=20)])
        xid = teller.xid(2, "global async", "branch")
        await teller.tpc_begin(xid)
        await teller.execute("SELECT 1")
        await teller.tpc_prepare()
        await teller.tpc_rollback()
        journal.note(teller.info.transaction_status)
    return journal.entries


ASYNC: Final[list[AsyncScript]] = [
    async_statements, async_copies, async_pipelines, async_cancels, async_notifications,
]  # fmt: skip


@pytest.mark.protocol(13, "pipelines with errors")
@pytest.mark.parametrize("script", ASYNC, ids=lambda script: script.__name__)
async def test_asynchronous_psycopg_sees_the_same(postgres: Postgres, proxy: Proxy, script: AsyncScript) -> None:
    direct = await script(postgres.dsn())
    assert direct
    assert await script(dsn(proxy, postgres)) == direct


# asyncpg


async def connect(through: str) -> "asyncpg.Connection[Any]":
    connection: asyncpg.Connection[Any] = await asyncpg.connect(**arguments(through))
    return connection


def arguments(through: str) -> dict[str, Any]:
    """What asyncpg wants to know, of a connection string of libpq's."""
    known = conninfo_to_dict(through)
    names = {"host": "host", "port": "port", "user": "user", "password": "password", "dbname": "database"}
    return {theirs: known[ours] for ours, theirs in names.items()}


def asyncpg_journal() -> Journal:
    return Journal(asyncpg.PostgresError, asyncpg.InterfaceError, TimeoutError, ZeroDivisionError)


async def asyncpg_statements(through: str) -> list[object]:
    journal = asyncpg_journal()
    connection = await connect(through)
    connection.add_log_listener(lambda _, notice: journal.note(notice.severity, notice.message))
    await connection.execute("DO $$BEGIN RAISE NOTICE 'raised'; END$$")
    journal.note(await connection.execute("CREATE TEMP TABLE t (a int PRIMARY KEY, b text); INSERT INTO t VALUES (1)"))
    statement = await connection.prepare("SELECT $1::int + a AS sum, $2::text FROM t")
    journal.note(statement.get_parameters(), statement.get_attributes(), statement.get_statusmsg())
    for number in range(5):
        journal.note(await statement.fetch(number, "x"), await statement.fetchval(number, None))
    for sql, values in (
        (
            "SELECT $1::int[], $2::timestamptz, $3::numeric",
            ([1, None], dt.datetime.min.replace(year=2000, tzinfo=dt.UTC), decimal.Decimal(1)),
        ),
        ("SELECT $1::bytea, $2::jsonb, $3::uuid", (b"\0", '{"a": 1}', uuid.UUID(int=1))),
        ("SELECT 1 / $1::int", (0,)),
        ("SELEC", ()),
        ("SELECT $1::int", ("x",)),
        ("INSERT INTO t VALUES ($1)", (1,)),
    ):
        with journal.attempt():
            journal.note(await connection.fetch(sql, *values))
    await connection.executemany("INSERT INTO t VALUES ($1, $2)", [(number, "b") for number in range(2, 5000)])
    with journal.attempt():
        await connection.executemany("INSERT INTO t VALUES ($1, $2)", [(6000, "b"), (3, "twice"), (6001, "b")])
    journal.note(await connection.fetchmany("SELECT $1::int", [(1,), (2,)]))
    journal.note(await connection.fetchrow("SELECT count(*), max(a) FROM t"))
    journal.note(await connection.fetchval("SELECT length($1 || $2::text)", "x" * MEGABYTE, "y"))
    journal.note(len(await connection.fetch("SELECT generate_series(1, 100000)")))
    await connection.execute("ALTER TABLE t ADD c int")
    with journal.attempt():
        journal.note(await statement.fetchval(1, "x"))
    journal.note(connection.get_settings().application_name, connection.is_in_transaction())
    await connection.close()
    return journal.entries


async def asyncpg_transactions(through: str) -> list[object]:
    journal = asyncpg_journal()
    connection = await connect(through)
    await connection.execute("CREATE TEMP TABLE t (a int UNIQUE DEFERRABLE INITIALLY DEFERRED)")
    async with connection.transaction():
        await connection.execute("INSERT INTO t VALUES (1)")
        with journal.attempt():
            async with connection.transaction():
                await connection.execute("INSERT INTO t VALUES (2)")
                await connection.fetch("SELECT 1/0")
        with journal.attempt():
            async with connection.transaction():
                await connection.execute("INSERT INTO t VALUES (3)")
                raise ZeroDivisionError
        journal.note(await connection.fetch("SELECT * FROM t"))
        with journal.attempt():
            await connection.fetch("SELEC")
        with journal.attempt():
            await connection.fetch("SELECT 'aborted'")
    with journal.attempt():
        async with connection.transaction():
            await connection.execute("INSERT INTO t VALUES (7), (7)")
    with journal.attempt():
        await connection.fetch("INSERT INTO t VALUES ($1), ($1)", 7)
    async with connection.transaction(isolation="serializable", readonly=True, deferrable=True):
        with journal.attempt():
            await connection.execute("CREATE TABLE not_created (a int)")
    journal.note(connection.is_in_transaction(), await connection.fetch("SELECT * FROM t"))
    async with connection.transaction():
        cursor = connection.cursor("SELECT generate_series(1, 100)", prefetch=7)
        journal.note([row[0] async for row in cursor])
        stepped = await connection.cursor("SELECT generate_series(1, $1::int)", 20)
        journal.note(
            await stepped.fetch(3), await stepped.forward(5), await stepped.fetchrow(), await stepped.fetch(50)
        )
        with journal.attempt():
            journal.note([row async for row in connection.cursor("SELECT 1/(5 - generate_series(1, 9))", prefetch=2)])
    with journal.attempt():
        connection.cursor("SELECT 1")
        await connection.cursor("SELECT 1")
    await connection.close()
    return journal.entries


async def asyncpg_copies(through: str) -> list[object]:
    journal = asyncpg_journal()
    connection = await connect(through)
    await connection.execute("CREATE TEMP TABLE t (a int, b text)")
    records = [(number, "ä" * (number % 50)) for number in range(5000)]
    journal.note(await connection.copy_records_to_table("t", records=records))
    for options in ({}, {"format": "binary"}, {"format": "csv", "header": True}):
        written = io.BytesIO()
        journal.note(await connection.copy_from_query("SELECT * FROM t WHERE a < $1", 4000, output=written, **options))
        journal.note(written.getvalue())
        written.seek(0)
        journal.note(await connection.copy_to_table("t", source=written, **options))
    with journal.attempt():
        await connection.copy_to_table("t", source=io.BytesIO(b"one\tone\n" * 100000))
    with journal.attempt():
        await connection.copy_records_to_table("missing", records=records)

    async def failing() -> AsyncIterator[tuple[int, str]]:
        yield 1, "one"
        raise ZeroDivisionError

    with journal.attempt():
        await connection.copy_records_to_table("t", records=failing())
    with journal.attempt():
        await connection.copy_from_query("SELECT 1/(5 - generate_series(1, 9))", output=io.BytesIO())
    with journal.attempt():
        await connection.copy_from_query("SELECT pg_sleep(30)", output=io.BytesIO(), timeout=0.1)
    journal.note(await connection.fetchrow("SELECT count(*), sum(a) FROM t"))
    await connection.close()
    return journal.entries


async def asyncpg_cancels(through: str) -> list[object]:
    journal = asyncpg_journal()
    connection = await connect(through)
    for _ in range(3):
        with journal.attempt():
            await connection.fetch("SELECT pg_sleep(30)", timeout=0.05)
        journal.note(await connection.fetchval("SELECT 1"))
    with journal.attempt():
        async with connection.transaction():
            await connection.execute("SELECT pg_sleep(30)", timeout=0.05)
    journal.note(connection.is_in_transaction(), await connection.fetchval("SELECT 2"))
    with journal.attempt():
        await connection.execute("SELECT pg_terminate_backend(pg_backend_pid())")
    with journal.attempt():
        await connection.execute("SELECT 1")
    journal.note(connection.is_closed())
    return journal.entries


async def asyncpg_notifications(through: str) -> list[object]:
    journal = asyncpg_journal()
    listener, teller = await connect(through), await connect(through)
    told: asyncio.Queue[tuple[str, object, bool]] = asyncio.Queue()
    await listener.add_listener(
        "news", lambda _, pid, channel, payload: told.put_nowait((channel, payload, pid == teller.get_server_pid()))
    )
    for number in range(20):
        await teller.execute("SELECT pg_notify('news', $1)", str(number))
    async with asyncio.timeout(10):
        journal.note([await told.get() for _ in range(20)])
    async with listener.transaction():
        await teller.execute("NOTIFY news, 'while in a transaction'")
        journal.note(await listener.fetchval("SELECT 1"), told.qsize())
    async with asyncio.timeout(10):
        journal.note(await told.get())
    await listener.close()
    await teller.close()
    return journal.entries


async def asyncpg_pools(through: str) -> list[object]:
    journal = asyncpg_journal()
    async with asyncpg.create_pool(**arguments(through), min_size=1, max_size=1) as pool:
        async with pool.acquire() as connection:
            await connection.execute("SET work_mem TO '1MB'")
            await connection.fetch("SELECT pg_advisory_lock(1)")
            await connection.execute("DECLARE held CURSOR WITH HOLD FOR SELECT 1")
        async with pool.acquire() as connection:
            journal.note(await connection.fetchval("SHOW work_mem"))
            journal.note(await connection.fetchval("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"))
            journal.note(await connection.fetch("SELECT name FROM pg_cursors"))
        with journal.attempt():
            async with pool.acquire() as connection:
                await connection.execute("BEGIN")
                await connection.execute("SELECT 1/0")
        async with pool.acquire() as connection:
            journal.note(connection.is_in_transaction(), await connection.fetchval("SELECT 1"))
        journal.note(await asyncio.gather(*[pool.fetchval("SELECT $1::int", number) for number in range(50)]))
    return journal.entries


ASYNCPG: Final[list[AsyncScript]] = [
    asyncpg_statements, asyncpg_transactions, asyncpg_copies, asyncpg_cancels, asyncpg_notifications, asyncpg_pools,
]  # fmt: skip


@pytest.mark.parametrize("script", ASYNCPG, ids=lambda script: script.__name__)
async def test_asyncpg_sees_the_same(postgres: Postgres, proxy: Proxy, script: AsyncScript) -> None:
    direct = await script(postgres.dsn())
    assert direct
    assert await script(dsn(proxy, postgres)) == direct
