"""A worker books payments that may have been booked already."""

import contextlib

import psycopg

from tests.scenarios.mistakes.python.application import FIXED, call_partner, rest


def book(connection: psycopg.Connection, payment: int) -> None:
    connection.execute("UPDATE invoices SET status = 'paid' WHERE id = %s", [payment])
    # The mistake: the exception goes, the failed transaction stays; nothing in it can succeed any more.
    with contextlib.suppress(psycopg.errors.UniqueViolation):
        connection.execute("INSERT INTO payments VALUES (%s, %s, 10)", [payment, payment])


def book_with_savepoint(connection: psycopg.Connection, payment: int) -> None:
    connection.execute("UPDATE invoices SET status = 'paid' WHERE id = %s", [payment])
    with contextlib.suppress(psycopg.errors.UniqueViolation), connection.transaction():
        connection.execute("INSERT INTO payments VALUES (%s, %s, 10)", [payment, payment])
    connection.commit()


connection = psycopg.connect()
(book_with_savepoint if FIXED else book)(connection, payment=1)
call_partner("/slow")  # the worker waits for its next job
connection.commit()  # psycopg raises nothing here, whatever the server has made of it
rest()
