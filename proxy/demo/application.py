"""A small application with honest and leaking parts, each with a connection and an application_name of its own.

The mistakes are the ones that people make: a commit that is forgotten, an error that is swallowed, an upload that
stops, a result that nobody reads, a slow call between the last write and the COMMIT.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Final, cast

import psycopg
from psycopg.conninfo import make_conninfo

SCHEMA: Final = """
    CREATE TABLE invoices (id int PRIMARY KEY, status text NOT NULL, amount numeric NOT NULL);
    CREATE TABLE partners (id int PRIMARY KEY, name text NOT NULL);
    INSERT INTO invoices SELECT n, 'new', n * 10 FROM generate_series(1, 100) n;
    CREATE ROLE billing LOGIN PASSWORD 'billing';
    GRANT ALL ON ALL TABLES IN SCHEMA public TO billing;
"""
SLOW_CALL: Final = 1.5  # seconds that the call to somebody else takes
NEXT_JOB: Final = 2.6  # seconds until a leaking part is given its next job, and uses its connection again
STUCK: Final = 4.0  # seconds for which whatever a part reads from, or writes to, is stuck
PAUSE: Final = 0.3  # seconds between two rounds of a part
SOON: Final = "SELECT now()"

Connection = psycopg.AsyncConnection[psycopg.rows.TupleRow]
Told = Callable[[str, psycopg.Error], None]


# The honest parts: busy for longer than the limit, or idle outside of a transaction. None of them is ever flagged.


async def web_shop(connection: Connection) -> None:
    """Short transactions, one after the other."""
    for number in range(10, 101):
        async with connection.transaction():
            await connection.execute("SELECT status FROM invoices WHERE id = %s", [number])
            await connection.execute("UPDATE invoices SET amount = amount + 1 WHERE id = %s", [number])
        await asyncio.sleep(PAUSE / 10)


async def night_report(connection: Connection) -> None:
    """One statement that takes much longer than any limit."""
    await connection.execute("SELECT sum(amount), pg_sleep(5) FROM invoices")
    await connection.commit()


async def price_cache(connection: Connection) -> None:
    """Waits for notifications, outside of a transaction."""
    await connection.set_autocommit(True)
    await connection.execute("LISTEN prices")
    async for _ in connection.notifies():
        pass


# The leaking parts.


async def billing_worker(connection: Connection) -> None:
    """An early return forgets the commit: the row stays locked until the connection is used for the next job."""
    await connection.execute("UPDATE invoices SET status = 'paid' WHERE id = %s", [7])
    await connection.execute("SELECT count(*) FROM invoices WHERE status = 'paid'")
    await asyncio.sleep(NEXT_JOB)
    await connection.execute(SOON)


async def partner_sync(connection: Connection) -> None:
    """A failed statement, an exception that is swallowed, and a connection that is kept."""
    with contextlib.suppress(psycopg.errors.UniqueViolation):
        await connection.execute("INSERT INTO partners VALUES (1, 'ACME'), (1, 'ACME')")
    await asyncio.sleep(NEXT_JOB)
    await connection.execute(SOON)


async def uploader(connection: Connection) -> None:
    """A COPY whose source has stopped to deliver."""
    async with connection.cursor() as cursor, cursor.copy("COPY partners FROM STDIN") as copy:
        await copy.write_row((2, "Umbrella"))
        await asyncio.sleep(STUCK)
        await copy.write_row((3, "Initech"))


async def exporter(connection: Connection) -> None:
    """A result that is asked for and not read."""
    everything = "SELECT n, repeat('x', 1000) FROM generate_series(1, 100000) n"
    async with connection.cursor() as cursor:
        # Typed as an iterator, but it holds the connection's lock until it is closed.
        stream = cast("AsyncGenerator[psycopg.rows.TupleRow, None]", cursor.stream(everything))
        async with contextlib.aclosing(stream) as rows:
            await anext(rows)
            await asyncio.sleep(STUCK)
            async for _ in rows:
                pass


async def checkout(connection: Connection) -> None:
    """The last write, a slow call to somebody else, COMMIT: it ends by itself, and holds its locks until then."""
    await connection.execute("UPDATE invoices SET status = 'sent' WHERE id = %s", [8])
    await asyncio.sleep(SLOW_CALL)
    await connection.commit()


PARTS: Final = (web_shop, night_report, price_cache, billing_worker, partner_sync, uploader, exporter, checkout)


async def run(dsn: str, told: Told) -> None:
    """Run every part until cancelled.

    Args:
        dsn: how to connect.
        told: called with a part's name and the error that it met when it used a connection that was ended.
    """
    async with asyncio.TaskGroup() as group:
        for part in PARTS:
            group.create_task(_again_and_again(part, dsn, told))


async def _again_and_again(part: Callable[[Connection], Awaitable[None]], dsn: str, told: Told) -> None:
    name = part.__name__.replace("_", "-")
    account = {"user": "billing", "password": "billing"} if part is billing_worker else {}
    dsn = make_conninfo(dsn, application_name=name, **account)
    while True:
        connection = await psycopg.AsyncConnection.connect(dsn)
        try:
            await part(connection)
        except psycopg.Error as error:
            told(name, error)
        finally:
            with contextlib.suppress(psycopg.Error):
                await connection.rollback()
            await connection.close()
        await asyncio.sleep(PAUSE)
