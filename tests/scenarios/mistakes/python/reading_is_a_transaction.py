"""A worker looks for something to do, finds nothing, and waits."""

import psycopg

from tests.scenarios.mistakes.python.application import FIXED, call_partner, rest

# The mistake: without autocommit the first SELECT begins a transaction, and nobody ends it.
connection = psycopg.connect(autocommit=FIXED)


def find_job() -> object:
    return connection.execute("SELECT id FROM invoices WHERE status = 'overdue' ORDER BY id LIMIT 1").fetchone()


if find_job() is None:
    call_partner("/slow")  # which answers when there may be something new
rest()
