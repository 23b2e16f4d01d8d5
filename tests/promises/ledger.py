"""The tables, what each client knows of its transactions, and the judgement of one by the other.

A transaction has a ticket. It adds one to an account, as a program does that has read the balance before, and writes
lines with its ticket's number; each line records in which transaction of the server's it was written.
"""

import enum
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import psycopg
from psycopg.rows import class_row

ACCOUNTS: Final = 300  # few enough for clients to wait for each other
# now() is the beginning of the transaction: its name, even before it has written anything.
SCHEMA: Final = """
DROP TABLE IF EXISTS accounts, lines, afterwards;
CREATE UNLOGGED TABLE accounts (id bigint PRIMARY KEY, balance bigint NOT NULL);
CREATE OR REPLACE FUNCTION began() RETURNS bigint STABLE LANGUAGE sql
  AS 'SELECT (extract(epoch FROM now()) * 1000000)::bigint';
CREATE UNLOGGED TABLE lines (ticket bigint NOT NULL, line bigint NOT NULL, account bigint NOT NULL,
  xid bigint NOT NULL DEFAULT pg_current_xact_id()::text::bigint, began bigint NOT NULL DEFAULT began());
CREATE UNLOGGED TABLE afterwards (ticket bigint NOT NULL);
"""
READ: Final = "SELECT began(), balance FROM accounts WHERE id = $1"
READ_FOR_UPDATE: Final = f"{READ} FOR UPDATE"
UPDATE: Final = "UPDATE accounts SET balance = $2 WHERE id = $1"
WRITE: Final = "INSERT INTO lines (ticket, line, account) VALUES ($1, $2, $3)"
AFTERWARDS: Final = "INSERT INTO afterwards VALUES ($1)"
WRONG: Final = "SELECT 1 / (id - id) FROM accounts WHERE id = $1"
LONG: Final = "SELECT $1::bigint FROM pg_sleep(0.05)"


class Fate(enum.Enum):
    """What a client knows of a transaction's end."""

    COMMITTED = "acknowledged"
    NOTHING = "not committed"
    UNKNOWN = "lost or given up during COMMIT"


@dataclass(slots=True)
class Ticket:
    """One transaction, as its client knows it.

    Attributes:
        number, account: what it writes.
        began: the server's name for its transaction; None until it was told.
        written: the lines whose INSERT was answered by a success, and not rolled back by the client.
        fate: how it ended.
        failed: whether the client was told of an error that the transaction cannot survive.
        ours: whether it was told that pgleash rolled it back.
    """

    number: int
    account: int
    began: int | None = None
    written: set[int] = field(default_factory=set)
    fate: Fate = Fate.NOTHING
    failed: bool = False
    ours: bool = False


@dataclass(frozen=True)
class Entry:
    """What the table has of one ticket."""

    ticket: int
    lines: list[int]
    xids: list[int]
    began: list[int]
    accounts: list[int]


ENTRIES: Final = """
SELECT ticket, array_agg(line ORDER BY line) AS lines, array_agg(DISTINCT xid) AS xids,
  array_agg(DISTINCT began) AS began, array_agg(DISTINCT account) AS accounts
FROM lines GROUP BY ticket"""


class Broken(NamedTuple):
    """A promise that was not kept."""

    promise: str
    proof: str


class Ledger:
    """The tables, seen past the proxy.

    Args:
        connection: in autocommit, straight to the server.
    """

    def __init__(self, connection: psycopg.Connection) -> None:
        self._connection = connection

    def open(self) -> None:
        """Begin with empty tables."""
        for statement in SCHEMA.split(";\n"):
            self._connection.execute(statement)
        self._connection.execute("INSERT INTO accounts SELECT id, 0 FROM generate_series(1, %s) AS id", [ACCOUNTS])

    def judge(self, tickets: Collection[Ticket]) -> Iterator[Broken]:
        """Compare what is in the tables with what the clients know."""
        with self._connection.cursor(row_factory=class_row(Entry)) as cursor:
            entries = {entry.ticket: entry for entry in cursor.execute(ENTRIES)}
        for ticket in tickets:
            yield from judged(ticket, entries.get(ticket.number))
        yield from self._balances(entries.values())
        yield from self._strays(ticket.number for ticket in tickets if ticket.failed and not ticket.ours)

    def _strays(self, failed: Iterable[int]) -> Iterator[Broken]:
        """Statements behind a COMMIT that failed; if the transaction had failed before, Postgres itself runs them."""
        query = "SELECT ticket FROM afterwards WHERE ticket NOT IN (SELECT ticket FROM lines)"
        excused = set(failed)
        for (ticket,) in self._connection.execute(query):
            if ticket not in excused:
                yield Broken("a statement behind a COMMIT that failed was committed", f"ticket {ticket}")

    def _balances(self, entries: Iterable[Entry]) -> Iterator[Broken]:
        expected = Counter(account for entry in entries for account in entry.accounts)
        for account, balance in self._connection.execute("SELECT id, balance FROM accounts"):
            if balance != expected[account]:
                yield Broken("an account has another balance", f"{account}: {balance}, not {expected[account]}")


def judged(ticket: Ticket, entry: Entry | None) -> Iterator[Broken]:
    """What one transaction left, against what its client knows."""
    proof = f"{ticket}, {entry}"
    if entry is None:
        if ticket.fate is Fate.COMMITTED:
            yield Broken("an acknowledged commit is not in the table", proof)
        return
    if ticket.fate is Fate.NOTHING:
        yield Broken("in the table without an acknowledged commit", proof)
    if len(entry.xids) > 1 or len(entry.began) > 1 or entry.accounts != [ticket.account]:
        yield Broken("statements ran in different transactions", proof)
    if ticket.began not in (None, *entry.began):
        yield Broken("statements ran in another transaction than the first", proof)
    if entry.lines != sorted(ticket.written):
        yield Broken("a transaction is in the table in part", proof)
