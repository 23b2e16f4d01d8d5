"""The payment service is asked in the middle of a transaction, and takes its time."""

import psycopg

from tests.scenarios.mistakes.python.application import FIXED, call_partner, rest


def pay(connection: psycopg.Connection, invoice: int) -> None:
    connection.execute("SELECT amount FROM invoices WHERE id = %s FOR UPDATE", [invoice])
    connection.execute("UPDATE invoices SET status = 'paid' WHERE id = %s", [invoice])
    # The mistake: as long as this takes, nobody else can touch the invoice.
    call_partner("/slow")
    connection.commit()


def pay_and_call(connection: psycopg.Connection, invoice: int) -> None:
    with connection.transaction():
        connection.execute("SELECT amount FROM invoices WHERE id = %s FOR UPDATE", [invoice])
        connection.execute("UPDATE invoices SET status = 'paying' WHERE id = %s", [invoice])
    call_partner("/slow")
    with connection.transaction():
        connection.execute("UPDATE invoices SET status = 'paid' WHERE id = %s", [invoice])


with psycopg.connect() as connection:
    (pay_and_call if FIXED else pay)(connection, invoice=1)
rest()
