"""What tests of a rollback need: a leak, and what the wire shows of its end."""

from typing import Any

import psycopg

from proxy.demo.postgres import Postgres
from proxy.report.events import LeakRolledBack
from tests import messages as m
from tests.harness import Proxy
from tests.rawclient import Message, RawClient, fields

LIMITS = {"flag_after": "20ms", "rollback_after": "60ms", "actions_per_minute": "1000"}
OWED = "25P03"
ABORTED = "25P02"


def one(postgres: Postgres, sql: str, *parameters: object) -> Any:
    with psycopg.connect(postgres.dsn(), autocommit=True) as connection:
        row = connection.execute(sql, parameters).fetchone()
        return row[0] if row else None


def kinds(messages: list[Message]) -> str:
    return "".join(message.kind for message in messages)


def states(messages: list[Message]) -> list[str]:
    return [fields(message)["C"] for message in messages if message.kind == "E"]


def status(messages: list[Message]) -> str:
    assert messages[-1].kind == "Z"
    return messages[-1].body.decode()


def leak(client: RawClient, proxy: Proxy, *statements: str) -> LeakRolledBack:
    """Open a transaction with these statements, and sit on it until it has been rolled back."""
    before = len(proxy.recorder.of(LeakRolledBack))
    client.query("BEGIN")
    for statement in statements:
        client.query(statement)
    return proxy.recorder.wait(LeakRolledBack, count=before + 1)


def bound(sql: str) -> bytes:
    """Parse, Bind and Execute of a statement, without Sync."""
    return m.parse(sql) + m.bind() + m.execute()
