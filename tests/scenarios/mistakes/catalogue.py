"""The mistakes: where each is made, and the line of the log that has to name it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePath


@dataclass(frozen=True, eq=False)
class Mistake:
    """A mistake that people make with a library, and what pgleash has to say of it.

    Attributes:
        name: the mistake in words.
        library: the library with which it is made here.
        program: its file below this directory; the first part is the language.
        fix: what the program does with FIXED=1.
        leak_class: of `leak.flagged`; empty: nothing is open, so nothing is flagged.
        hold: its hold.
        opener, first_write, last: its statements, sanitized.
        leaks: how many of it are open in the end.
        events: further events that name the mistake.
        options: of the proxy, beyond flag_after.
    """

    name: str
    library: str
    program: str
    fix: str
    leak_class: str = ""
    hold: str = "idle_in_transaction"
    opener: str = ""
    first_write: str = ""
    last: str = ""
    leaks: int = 1
    events: tuple[str, ...] = ()
    options: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.stem

    @property
    def stem(self) -> str:
        """The file's name without its ending."""
        return PurePath(self.program).stem

    @property
    def language(self) -> str:
        """The directory of the program: python, node, go or java."""
        return PurePath(self.program).parts[0]

    @property
    def application_name(self) -> str:
        """What its sessions are called."""
        return f"shop-{self.stem}"


SET_STATUS = "UPDATE invoices SET status = $1 WHERE id = $2"
SEQUELIZE = 'UPDATE "invoices" SET "status"=$1 WHERE "id" = $2'

MISTAKES = (
    Mistake(
        name="a managed transaction's callback whose inner promise is not awaited",
        library="Sequelize on node-postgres",
        program="node/callback_not_awaited.mjs",
        fix="an async callback that awaits all that it starts",
        leak_class="uncommitted_write",
        opener=SEQUELIZE,
        first_write=SEQUELIZE,
        last=SEQUELIZE,
    ),
    Mistake(
        name="a transaction by hand, never committed where an integration is switched on",
        library="Sequelize on node-postgres",
        program="node/never_committed.mjs",
        fix="a managed transaction, and the partner is told behind it",
        leak_class="uncommitted_write",
        opener=SEQUELIZE,
        first_write=SEQUELIZE,
        last=SEQUELIZE,
    ),
    Mistake(
        name="thirty connections of a pool go one by one",
        library="Sequelize on node-postgres",
        program="node/thirty_connections.mjs",
        fix="rollback() in catch",
        leak_class="uncommitted_write",
        opener=SEQUELIZE,
        first_write=SEQUELIZE,
        last=SEQUELIZE,
        leaks=30,
        events=("client.exhausted",),
    ),
    Mistake(
        name="an exception between Session() and close(): the session is never returned",
        library="SQLAlchemy",
        program="python/session_not_closed.py",
        fix="with Session(engine) as session, session.begin()",
        leak_class="uncommitted_write",
        opener="SELECT invoices.id, invoices.status FROM invoices WHERE invoices.id = $1::INTEGER",
        first_write="UPDATE invoices SET status=$1::VARCHAR WHERE invoices.id = $2::INTEGER",
        last="UPDATE invoices SET status=$1::VARCHAR WHERE invoices.id = $2::INTEGER",
    ),
    Mistake(
        name="pool.connect() without release: an error is thrown",
        library="node-postgres",
        program="node/thrown_error.mjs",
        fix="ROLLBACK in catch, release() in finally",
        leak_class="uncommitted_write",
        opener=SET_STATUS,
        first_write=SET_STATUS,
        last=SET_STATUS,
    ),
    Mistake(
        name="pool.connect() without release: early return",
        library="node-postgres",
        program="node/early_return.mjs",
        fix="one function that begins, ends and releases, whatever its callback does",
        leak_class="open_read",
        opener="SELECT status FROM invoices WHERE id = $1",
        last="SELECT status FROM invoices WHERE id = $1",
    ),
    Mistake(
        name="pool.connect() without release: callback error path",
        library="node-postgres",
        program="node/callback_error_path.mjs",
        fix="ROLLBACK and release() before the error is passed on",
        leak_class="ignored_error",
        hold="idle_in_failed_transaction",
        opener=SET_STATUS,
        first_write=SET_STATUS,
        last="INSERT INTO payments VALUES ($1, $2, $3)",
    ),
    Mistake(
        name="a request is aborted while the pool is awaited: BEGIN, then nobody",
        library="an HTTP server on node, node-postgres",
        program="node/aborted_request.mjs",
        fix="listen for 'close' before the first await",
        leak_class="open_read",
        opener="SELECT status, sum(amount), pg_sleep(?) FROM invoices GROUP BY status",
        last="SELECT status, sum(amount), pg_sleep(?) FROM invoices GROUP BY status",
    ),
    Mistake(
        name="a task outside the request's life, in a worker thread",
        library="Django",
        program="python/worker_thread.py",
        fix="transaction.atomic() in the task, and connection.close() at its end",
        leak_class="uncommitted_write",
        opener='UPDATE "invoices" SET "status" = ? WHERE "invoices"."id" = ?',
        first_write='UPDATE "invoices" SET "status" = ? WHERE "invoices"."id" = ?',
        last='UPDATE "invoices" SET "status" = ? WHERE "invoices"."id" = ?',
    ),
    Mistake(
        name="a failed statement, a swallowed exception, and the connection is kept",
        library="psycopg",
        program="python/swallowed_exception.py",
        fix="the statement in a savepoint of its own: with connection.transaction()",
        leak_class="ignored_error",
        hold="idle_in_failed_transaction",
        opener="UPDATE invoices SET status = ? WHERE id = $1",
        first_write="UPDATE invoices SET status = ? WHERE id = $1",
        last="INSERT INTO payments VALUES ($1, $2, ?)",
        events=("client.silent_rollback",),
    ),
    Mistake(
        name="autocommit off, one SELECT, then a long wait",
        library="psycopg",
        program="python/reading_is_a_transaction.py",
        fix="autocommit=True",
        leak_class="open_read",
        opener="SELECT id FROM invoices WHERE status = ? ORDER BY id LIMIT ?",
        last="SELECT id FROM invoices WHERE status = ? ORDER BY id LIMIT ?",
    ),
    Mistake(
        name="last write, slow remote call, COMMIT",
        library="psycopg",
        program="python/slow_call.py",
        fix="COMMIT, then the call, then another transaction",
        leak_class="uncommitted_write",
        opener="SELECT amount FROM invoices WHERE id = $1 FOR UPDATE",
        first_write="UPDATE invoices SET status = ? WHERE id = $1",
        last="UPDATE invoices SET status = ? WHERE id = $1",
        events=("leak.resolved",),
    ),
    Mistake(
        name="a connection is handed out with a transaction still open",
        library="a hand-made pool of node-postgres's clients",
        program="node/handmade_pool.mjs",
        fix="ROLLBACK before a connection goes back",
        leak_class="uncommitted_write",
        opener=SET_STATUS,
        first_write=SET_STATUS,
        last=SET_STATUS,
        events=("client.dirty_checkout",),
    ),
    Mistake(
        name="all of a pool's connections in transactions, no query running",
        library="node-postgres",
        program="node/pool_exhausted.mjs",
        fix="the second statement on the connection that is there",
        leak_class="uncommitted_write",
        opener="UPDATE invoices SET amount = amount + $1 WHERE id = $2",
        first_write="UPDATE invoices SET amount = amount + $1 WHERE id = $2",
        last="UPDATE invoices SET amount = amount + $1 WHERE id = $2",
        leaks=5,
        events=("client.exhausted",),
    ),
    Mistake(
        name="a connection is taken and never returned, without a transaction",
        library="node-postgres",
        program="node/forgotten.mjs",
        fix="release()",
        last="SELECT count(*) FROM invoices WHERE status = $1",
        events=("session.forgotten",),
        options={"flag_idle_session_after": "0.75s"},
    ),
    Mistake(
        name="early return before rows.Close(), no deferred Rollback",
        library="Go database/sql on lib/pq",
        program="go/rows_not_closed.go",
        fix="defer Rollback() and rows.Close()",
        leak_class="open_read",
        opener="SELECT id FROM invoices WHERE status = $1 ORDER BY id",
        last="SELECT id FROM invoices WHERE status = $1 ORDER BY id",
    ),
    Mistake(
        name="an error is returned, no deferred Rollback",
        library="Go database/sql on lib/pq",
        program="go/no_deferred_rollback.go",
        fix="defer Rollback()",
        leak_class="uncommitted_write",
        opener=SET_STATUS,
        first_write=SET_STATUS,
        last=SET_STATUS,
    ),
    Mistake(
        name="early return before rows.Close(), of more rows than buffers hold",
        library="Go database/sql on lib/pq",
        program="go/rows_not_read.go",
        fix="defer rows.Close()",
        leak_class="unread_results",
        hold="unread_results",
        opener="SELECT repeat(customer, ?) FROM invoices, generate_series(?)",
        last="SELECT repeat(customer, ?) FROM invoices, generate_series(?)",
    ),
    Mistake(
        name="a connection is taken and never returned, without a transaction",
        library="Go database/sql on lib/pq",
        program="go/conn_not_returned.go",
        fix="defer Close()",
        last="SELECT count(*) FROM invoices WHERE status = $1",
        events=("session.forgotten",),
        options={"flag_idle_session_after": "0.75s"},
    ),
    Mistake(
        name="a connection is held too long, during a remote call",
        library="HikariCP with pgjdbc",
        program="java/HeldTooLong.java",
        fix="commit and close before the call",
        leak_class="uncommitted_write",
        opener=SET_STATUS,
        first_write=SET_STATUS,
        last=SET_STATUS,
        events=("leak.resolved",),
    ),
)
