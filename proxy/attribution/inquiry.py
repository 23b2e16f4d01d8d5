"""One question to the server, over a connection of its own: what does this backend hold, and who waits for it.

The only file here that needs psycopg. A fresh connection each time: it has to lead to the leak's own database, for only
there have relations names; and a connection that is kept would be one more that somebody wonders about.

What the answer is made of, all of it from the server's own views ("Monitoring Database Activity", "pg_locks"):

- Who waits is what pg_locks has not granted: every role may see it, and pg_blocking_pids(), which holds the lock
  manager up for a moment, is asked for those alone. It also names those that are ahead in a queue, so that the second
  of three that want one row waits for the first: hence the recursion.
- Since when is pg_locks.waitstart. Postgres 13 has none: there it is the beginning of the statement that waits.
- Of several locks on one relation the strongest is shown. Left out are plain reading locks on system catalogues, what
  every statement takes on indexes and TOAST tables beside their table, and relations that the transaction itself has
  created, for nobody else can see them. Advisory locks are shown without their key: it is a parameter of somebody's.
"""

import logging
from collections.abc import Mapping
from typing import Final, NamedTuple

import psycopg
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import class_row
from psycopg.sql import SQL

from proxy.errors import OperatorError

MAX_LOCKS: Final = 10  # shown by name
MAX_LOCK: Final = 160  # characters: the longest mode, and two names of 63 bytes (NAMEDATALEN)
MAX_REASON: Final = 300  # characters

# The search path makes regclass name the schema, and lets nobody's own functions and operators in. What the inquiry
# itself may take is less than what its asker waits. Compiling the query (jit) takes longer than running it.
OPTIONS: Final = (
    "-c search_path=pg_catalog -c default_transaction_read_only=on -c statement_timeout=800ms -c lock_timeout=500ms"
    " -c jit=off -c max_parallel_workers_per_gather=0"
)
_SECRETS: Final = ("password", "sslpassword")

# What libpq says of a connection string quotes it, secrets included: only these of its words are taken for a hint.
_HINTS: Final = {
    'missing "="': "a part of it has no = in it, and it is no postgresql:// URL",
    "percent-encoded": "a % that is not followed by two hexadecimal digits has to be written %25",
    "unterminated": "a quote is not closed",
    "query parameter": "it has an option that libpq does not know",
    "connection option": "it has an option that libpq does not know",
}
_SHAPE: Final = "write postgresql://user:password@host:port/database, and : @ / % in a password as %3A %40 %2F %25"

logging.getLogger("psycopg").setLevel(logging.ERROR)  # its warnings would go to standard error, past our log

_QUERY: Final = """
WITH RECURSIVE leak AS (
    SELECT %(pid)s::int AS pid, %(user)s::name AS usename, %(database)s::name AS datname
), locks AS MATERIALIZED (
    SELECT * FROM pg_locks WHERE pid <> pg_backend_pid()
), waiting AS MATERIALIZED (
    SELECT locks.pid, {since} AS since, blocker
    FROM locks, unnest(pg_blocking_pids(locks.pid)) AS blocker
    WHERE NOT granted
), blocked AS (
    SELECT waiting.pid, since FROM waiting JOIN leak ON blocker = leak.pid
    UNION
    SELECT waiting.pid, waiting.since FROM waiting JOIN blocked ON blocker = blocked.pid
), victims AS (
    SELECT * FROM blocked WHERE pid <> (SELECT pid FROM leak)
), ranked AS (
    SELECT locks.*, relkind,
        array_position(ARRAY[
            'AccessShareLock', 'RowShareLock', 'RowExclusiveLock', 'ShareUpdateExclusiveLock', 'ShareLock',
            'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock'
        ], mode) AS strength,
        relation < 16384 AS is_system -- FirstNormalObjectId
    FROM locks JOIN leak USING (pid) LEFT JOIN pg_class ON pg_class.oid = relation
    WHERE granted AND locktype IN ('relation', 'advisory')
), held AS (
    SELECT DISTINCT ON (locktype, relation) *,
        CASE WHEN locktype = 'advisory' THEN 'an advisory lock'
             -- what its bytes mean is not known, and the server would not send them
             WHEN getdatabaseencoding() = 'SQL_ASCII'
             THEN regexp_replace(relation::regclass::text COLLATE "C", '[^ -~]', '?', 'g')
             ELSE relation::regclass::text END AS name
    FROM ranked
    WHERE strength IS NOT NULL -- else a predicate lock, which nobody waits for
        AND (locktype = 'advisory' OR relkind IS NOT NULL)
        AND (strength > 1 OR is_system IS NOT TRUE)
        AND (strength > 3 OR relkind IS NULL OR relkind NOT IN ('i', 'I', 't'))
    ORDER BY locktype, relation, strength DESC
)
SELECT
    CASE WHEN activity.pid IS NOT NULL
         THEN coalesce(activity.usename = leak.usename AND activity.datname = leak.datname, false) END AS is_session,
    coalesce(pg_has_role('pg_read_all_stats', 'USAGE') OR pg_has_role(usesysid, 'USAGE'), false) AS is_visible,
    current_user::text AS role,
    extract(epoch FROM clock_timestamp() - xact_start)::float8 AS age_s,
    ARRAY(SELECT mode || ' on ' || name FROM held
          ORDER BY strength DESC, is_system IS TRUE, name LIMIT %(max_locks)s)::text[] AS locks,
    (SELECT count(*) FROM held) AS held,
    (SELECT count(DISTINCT pid) FROM victims) AS blocked_sessions,
    (SELECT extract(epoch FROM clock_timestamp() - min(since))::float8 FROM victims) AS oldest_wait_s,
    age(backend_xid) AS xid_age,
    age(backend_xmin) AS xmin_age
FROM leak LEFT JOIN pg_stat_activity AS activity USING (pid)
"""
_SINCE: Final = SQL("waitstart")
_SINCE_13: Final = SQL("(SELECT query_start FROM pg_stat_get_activity(locks.pid))")
_WAITSTART: Final = 140_000  # the server version that has it


class Found(NamedTuple):
    """What the server says of a backend.

    Attributes:
        is_session: whether it is a session of this user's in this database; None if there is no such process.
        is_visible: whether the server shows us what other users' sessions do.
        role: who we are.
        age_s: seconds since its transaction began; None if it has none, or is not visible.
        locks: the strongest ones, such as "RowExclusiveLock on public.invoices".
        held: how many there are.
        blocked_sessions: how many wait for it, directly or behind others.
        oldest_wait_s: seconds that the first of them has waited; None if none does, or it is not known.
        xid_age, xmin_age: in transactions; None if it has none.
    """

    is_session: bool | None
    is_visible: bool
    role: str
    age_s: float | None
    locks: list[str]
    held: int
    blocked_sessions: int
    oldest_wait_s: float | None
    xid_age: int | None
    xmin_age: int | None


def parsed(dsn: str) -> dict[str, str]:
    """The parts of a connection string, by libpq's keywords.

    Raises:
        ValueError: libpq cannot make sense of it, or would take a part of a password for something else. The text
            quotes nothing of it.
    """
    try:
        parts = {keyword: str(value) for keyword, value in conninfo_to_dict(dsn).items()}
    except (psycopg.Error, UnicodeError) as error:
        hint = next((hint for word, hint in _HINTS.items() if word in str(error)), _SHAPE)
        raise ValueError(f"libpq cannot read this connection string, which is not shown: {hint}") from None
    if not parts.get("host") and not parts.get("hostaddr"):  # libpq would look for one, and the loop wait
        raise ValueError(f"this connection string, which is not shown, names no host; {_SHAPE}")
    ports = parts.get("port", "")
    if ports and not ports.replace(",", "0").isdecimal():
        raise ValueError(f"the port in this connection string, which is not shown, is not a number; {_SHAPE}")
    names = [*parts.get("host", "").split(","), parts.get("dbname", "")]
    if any("@" in name[1:] and not name.startswith("/") for name in names):  # an abstract socket begins with one
        raise ValueError(f"a host or database in this connection string, which is not shown, has an @ in it; {_SHAPE}")
    return parts


async def ask(parts: Mapping[str, str], pid: int, user: str, database: str) -> Found:
    """Ask about one backend; takes as long as the server does.

    Args:
        parts: how to connect, from `parsed`.
        pid: the backend.
        user: whose session it is.
        database: in which database.

    Raises:
        OperatorError: there was no answer; why, in one line without a secret.
    """
    ours = {"dbname": database, "application_name": "pgleash", "client_encoding": "utf8"}
    options = f"{parts.get('options', '')} {OPTIONS}".lstrip()
    try:
        connection = await psycopg.AsyncConnection.connect(
            **{**parts, **ours, "options": options},  # type: ignore[arg-type]  # keywords of libpq's alone
            autocommit=True,
            prepare_threshold=None,
        )
        try:
            return await _found(connection, {"pid": pid, "user": user, "database": database, "max_locks": MAX_LOCKS})
        finally:
            await connection.close()
    except psycopg.Error as error:
        raise OperatorError(_reason(error, parts)) from None


async def _found(connection: psycopg.AsyncConnection, asked: Mapping[str, object]) -> Found:
    since = _SINCE if connection.info.server_version >= _WAITSTART else _SINCE_13
    async with connection.cursor(row_factory=class_row(Found)) as cursor:
        await cursor.execute(SQL(_QUERY).format(since=since), asked)
        found = await cursor.fetchone()
    if found is None:
        raise psycopg.DataError("the server sent no row")
    return found._replace(locks=[printable(lock, MAX_LOCK) for lock in found.locks])


def _reason(error: psycopg.Error, parts: Mapping[str, str]) -> str:
    """What went wrong. Only the primary message: behind it is a DETAIL, or the text of the query."""
    said = error.diag.message_primary or next(iter(str(error).splitlines()), "") or type(error).__name__
    for secret in filter(None, map(parts.get, _SECRETS)):
        said = said.replace(secret, "***")
    if "startup parameter" in said:  # PgBouncer does not take options
        said += ": attribution.blast_radius_dsn has to lead to Postgres itself, not to a pooler"
    return printable(said.removeprefix("connection failed: "), MAX_REASON)


def printable(text: str, limit: int) -> str:
    """One printable line of at most `limit` characters."""
    shown = "".join(c if c.isprintable() else "?" for c in text[: limit + 1])
    return shown if len(shown) <= limit else f"{shown[: limit - 1]}…"
