"""The application's own code, on SQLAlchemy."""

from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import AsyncConnection

MARK = text("UPDATE invoices SET status = :status WHERE id = :id")
COUNT = text("SELECT count(*) FROM invoices WHERE status LIKE :status")


def mark_sent(connection: Connection) -> None:
    connection.execute(MARK, {"status": "sent", "id": 1})  # marks


def mark_paid(connection: Connection) -> None:
    connection.execute(MARK, {"status": "paid", "id": 1})  # marks, too


async def mark_later(connection: AsyncConnection) -> None:
    await connection.execute(MARK, {"status": "sent", "id": 1})  # awaits


def count(connection: Connection) -> None:
    connection.execute(COUNT, {"status": "se%"})  # counts
