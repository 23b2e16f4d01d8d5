"""Call sites for SQLAlchemy: `tell(engine)`, once for each engine."""

import sys
from typing import Any

import psycopg
from sqlalchemy import Connection, Engine, event

from .place import begin, commented, doing, place


def tell(engine: Engine) -> None:
    """Let each statement say where it comes from, and each transaction what it is for."""
    event.listen(engine, "before_cursor_execute", _tag, retval=True)
    event.listen(engine, "begin", _begin)


def _tag(
    connection: Connection, _cursor: Any, statement: str, parameters: Any, _context: Any, _executemany: bool
) -> tuple[str, Any]:
    prepares_nothing = connection.dialect.driver == "psycopg2"
    return commented(statement, _place() | (doing.get({}) if prepares_nothing else {})), parameters


def _place() -> dict[str, str]:
    """Where asyncio is used, the statement runs in a greenlet, and whoever awaits it waits in the parent of that."""
    greenlet = sys.modules.get("greenlet")
    parent = greenlet.getcurrent().parent if greenlet else None
    return place() or place(parent.gr_frame if parent else None)


def _begin(connection: Connection) -> None:
    driver = connection.connection.driver_connection
    if isinstance(driver, psycopg.Connection):
        begin(driver)
