"""Fingerprints beside Postgres's own query ids: what the server calls one query has one fingerprint."""

import itertools

import psycopg

from proxy.attribution.fingerprint import fingerprint
from proxy.demo.postgres import Postgres

# To the server the type of a literal counts; so each column here is compared with one type.
STATEMENTS = [
    "SELECT relname FROM pg_class WHERE oid = 1",
    'select "relname"\n from PG_CLASS /* a */ where OID = 2 -- b',
    "SELECT relname FROM pg_class WHERE oid = - 3",
    "SELECT relname FROM pg_class WHERE relname = 'a'",
    "SELECT relname FROM pg_class WHERE relname=U&'\\0061'",
    "SELECT relname FROM pg_class WHERE relname = NULL",
    "SELECT relname FROM pg_class WHERE oid <> 1",
    "SELECT relname FROM pg_class WHERE oid IS NULL",
    "SELECT relname FROM pg_class WHERE oid IS NOT NULL",
    "SELECT relname FROM pg_class",
    "SELECT relkind FROM pg_class",
    "SELECT relpages - 1 FROM pg_class",
    "SELECT relpages -1 FROM pg_class",
    "SELECT relpages- -1 FROM pg_class",
    "SELECT relpages, -1 FROM pg_class",
    "SELECT relpages, - 1 FROM pg_class",
    "SELECT relpages + 1 FROM pg_class",
    "SELECT relpages FROM pg_class ORDER BY relname LIMIT 1",
    "SELECT relpages FROM pg_class ORDER BY relname DESC LIMIT 2",
    "SELECT relpages FROM pg_class ORDER BY relname LIMIT 3",
    "SELECT user",
    'SELECT "user" FROM (SELECT 1 AS "user") AS s',
    "SELECT relname || 'x'::text FROM pg_class",
    "SELECT relname||$$y$$ :: TEXT FROM pg_class",
    "SELECT relname || E'\\x41'::text FROM pg_class",
    'SELECT relname::"char" FROM pg_class',
    "SELECT relname::char FROM pg_class",
    "SELECT relname::bpchar FROM pg_class",
    "SELECT relacl[1] FROM pg_class",
    "SELECT relacl[2] FROM pg_class",
    "SELECT relhasindex = true FROM pg_class",
    "SELECT relhasindex = false FROM pg_class",
    "SELECT relhasindex IS FALSE FROM pg_class",
]


def test_one_query_id_is_one_fingerprint(postgres: Postgres) -> None:
    with postgres.connect() as connection:
        connection.execute("SET compute_query_id = on")
        ids = {statement: query_id(connection, statement) for statement in STATEMENTS}
    assert len(set(ids.values())) < len(ids)
    for one, other in itertools.combinations(STATEMENTS, 2):
        fingerprints = {fingerprint(one.encode()), fingerprint(other.encode())}
        assert (ids[one] == ids[other]) is (len(fingerprints) == 1), (one, other)


def query_id(connection: psycopg.Connection, statement: str) -> int:
    """What compute_query_id makes of a statement."""
    plan = connection.execute(f"EXPLAIN (VERBOSE, FORMAT json) {statement}".encode()).fetchone()
    assert plan
    found = plan[0][0]["Query Identifier"]
    assert isinstance(found, int)
    return found
