"""Python's drivers, each in its own words, behind one interface."""

import asyncio
import contextlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine
from typing import Any, ClassVar, Self, TypeVar

import asyncpg
import pg8000.dbapi
import psycopg
import psycopg2
import sqlalchemy
from psycopg.conninfo import conninfo_to_dict

Value = TypeVar("Value")
Rows = list[tuple[Any, ...]]
DOUBLE = "SELECT 2 * 21"


def address(dsn: str) -> dict[str, Any]:
    """What connects the drivers that do not know libpq's strings."""
    words = conninfo_to_dict(dsn)
    database = words.pop("dbname")
    names = ("user", "password", "host")
    return {"database": database, "port": int(words["port"] or 0)} | {name: words[name] for name in names}


class Driver(ABC):
    """One connection.

    Attributes:
        name: of the driver.
        errors: what it raises.
        heard: the payloads of the notifications that have come.
    """

    name: ClassVar[str]
    errors: ClassVar[type[Exception]]

    def __init__(self) -> None:
        self.heard: list[str] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @abstractmethod
    def begin(self) -> None:
        """Open a transaction, or leave that to the next statement where the driver does."""

    @abstractmethod
    def execute(self, query: str) -> Rows:
        """Run a statement."""

    @abstractmethod
    def commit(self) -> None:
        """The driver's own way to commit."""

    @abstractmethod
    def rollback(self) -> None:
        """The driver's own way to roll back."""

    @abstractmethod
    def close(self) -> None:
        """Close the connection."""

    @abstractmethod
    def parameter(self, name: str) -> str | None:
        """What the server has told the driver of a parameter."""

    @abstractmethod
    def block(self, work: Callable[[], object]) -> None:
        """The driver's own block that commits at its end, with this in it."""

    def prepare(self) -> Callable[[], Rows]:
        """DOUBLE, as a named statement that can be run again and again."""
        self.execute(f"PREPARE double AS {DOUBLE}")
        return lambda: self.execute("EXECUTE double")

    def listen(self, channel: str) -> None:
        """Have notifications heard from now on, as the driver does it."""
        self.execute(f"LISTEN {channel}")
        self.commit()

    def wait(self, news: Callable[[], object]) -> None:
        """Do nothing until this returns; an event loop goes on meanwhile."""
        news()

    def sqlstate(self, error: BaseException) -> str | None:
        """What an application reads from an exception."""
        return getattr(error, "sqlstate", None)


class Psycopg(Driver):
    name = "psycopg"
    errors = psycopg.Error

    def __init__(self, dsn: str) -> None:
        super().__init__()
        self.connection = psycopg.connect(dsn)
        self.connection.add_notify_handler(lambda notification: self.heard.append(notification.payload))

    def begin(self) -> None:
        """Its first statement does."""

    def execute(self, query: str) -> Rows:
        cursor = self.connection.execute(query)
        return cursor.fetchall() if cursor.description else []

    def prepare(self) -> Callable[[], Rows]:
        def run() -> Rows:
            return self.connection.execute(DOUBLE, prepare=True).fetchall()

        run()
        return run

    def commit(self) -> None:
        self.connection.commit()

    def rollback(self) -> None:
        self.connection.rollback()

    def block(self, work: Callable[[], object]) -> None:
        with self.connection.transaction():
            work()

    def parameter(self, name: str) -> str | None:
        return self.connection.info.parameter_status(name)

    def close(self) -> None:
        self.connection.close()


class Looping(Driver):
    """A driver that needs an event loop."""

    connection: Any

    def __init__(self) -> None:
        super().__init__()
        self._runner = asyncio.Runner()

    def _run(self, work: Coroutine[Any, Any, Value]) -> Value:
        return self._runner.run(work)

    def block(self, work: Callable[[], object]) -> None:
        context = self.connection.transaction()
        self._run(context.__aenter__())
        work()
        self._run(context.__aexit__(None, None, None))

    def wait(self, news: Callable[[], object]) -> None:
        self._run(asyncio.to_thread(news))

    def close(self) -> None:
        self._runner.close()


class PsycopgAsync(Looping):
    name = "psycopg, async"
    errors = psycopg.Error

    def __init__(self, dsn: str) -> None:
        super().__init__()
        self.connection = self._run(psycopg.AsyncConnection.connect(dsn))
        self.connection.add_notify_handler(lambda notification: self.heard.append(notification.payload))

    def begin(self) -> None:
        """Its first statement does."""

    async def _execute(self, query: str) -> Rows:
        cursor = await self.connection.execute(query)
        return await cursor.fetchall() if cursor.description else []

    def execute(self, query: str) -> Rows:
        return self._run(self._execute(query))

    def commit(self) -> None:
        self._run(self.connection.commit())

    def rollback(self) -> None:
        self._run(self.connection.rollback())

    def parameter(self, name: str) -> str | None:
        value: str | None = self.connection.info.parameter_status(name)
        return value

    def close(self) -> None:
        self._run(self.connection.close())
        super().close()


class Psycopg2(Driver):
    name = "psycopg2"
    errors = psycopg2.Error

    def __init__(self, dsn: str) -> None:
        super().__init__()
        self.connection: Any = psycopg2.connect(dsn)

    def begin(self) -> None:
        """Its first statement does."""

    def execute(self, query: str) -> Rows:
        with self.connection.cursor() as cursor:
            cursor.execute(query)
            rows = cursor.fetchall() if cursor.description else []
        self.heard += [notification.payload for notification in self.connection.notifies]
        self.connection.notifies.clear()
        return rows

    def commit(self) -> None:
        self.connection.commit()

    def rollback(self) -> None:
        self.connection.rollback()

    def block(self, work: Callable[[], object]) -> None:
        with self.connection:
            work()

    def sqlstate(self, error: BaseException) -> str | None:
        return getattr(error, "pgcode", None)

    def parameter(self, name: str) -> str | None:
        value: str | None = self.connection.get_parameter_status(name)
        return value

    def close(self) -> None:
        self.connection.close()


class Asyncpg(Looping):
    name = "asyncpg"
    errors = asyncpg.PostgresError

    def __init__(self, dsn: str) -> None:
        super().__init__()
        self.connection: asyncpg.Connection = self._run(asyncpg.connect(**address(dsn)))

    def begin(self) -> None:
        self.transaction = self.connection.transaction()
        self._run(self.transaction.start())

    def execute(self, query: str) -> Rows:
        return [tuple(row) for row in self._run(self.connection.fetch(query))]

    def prepare(self) -> Callable[[], Rows]:
        statement = self._run(self.connection.prepare(DOUBLE))
        return lambda: [tuple(row) for row in self._run(statement.fetch())]

    def commit(self) -> None:
        self._run(self.transaction.commit())

    def rollback(self) -> None:
        self._run(self.transaction.rollback())

    def listen(self, channel: str) -> None:
        self._run(self.connection.add_listener(channel, lambda *event: self.heard.append(str(event[-1]))))

    def parameter(self, name: str) -> str | None:
        value: str | None = getattr(self.connection.get_settings(), name)
        return value

    def close(self) -> None:
        self._run(self.connection.close())
        super().close()


class Pg8000(Driver):
    name = "pg8000"
    errors = pg8000.dbapi.Error

    def __init__(self, dsn: str) -> None:
        super().__init__()
        self.connection = pg8000.dbapi.connect(**address(dsn))

    def begin(self) -> None:
        """Its first statement does."""

    def execute(self, query: str) -> Rows:
        cursor = self.connection.cursor()
        cursor.execute(query)
        rows = [tuple(row) for row in cursor.fetchall()] if cursor.description else []
        self.heard += [payload for _, _, payload in self.connection.notifications]
        self.connection.notifications.clear()
        return rows

    def commit(self) -> None:
        self.connection.commit()

    def rollback(self) -> None:
        self.connection.rollback()

    def block(self, work: Callable[[], object]) -> None:
        """It has none."""
        work()
        self.commit()

    def sqlstate(self, error: BaseException) -> str | None:
        told = error.args[0] if error.args else None
        return told.get("C") if isinstance(told, dict) else None

    def parameter(self, name: str) -> str | None:
        value = self.connection.parameter_statuses.get(name)
        return None if value is None else str(value)

    def close(self) -> None:
        self.connection.close()


class Sqlalchemy(Driver):
    name = "SQLAlchemy"
    errors = sqlalchemy.exc.DBAPIError

    def __init__(self, dsn: str) -> None:
        super().__init__()
        self._engine = sqlalchemy.create_engine("postgresql+psycopg://", connect_args=conninfo_to_dict(dsn))
        self.connection = self._engine.connect()
        self._below.add_notify_handler(lambda notification: self.heard.append(notification.payload))

    @property
    def _below(self) -> psycopg.Connection:
        below = self.connection.connection.driver_connection
        assert isinstance(below, psycopg.Connection)
        return below

    def begin(self) -> None:
        """Its first statement does."""

    def execute(self, query: str) -> Rows:
        result = self.connection.execute(sqlalchemy.text(query))
        return [tuple(row) for row in result] if result.returns_rows else []

    def commit(self) -> None:
        """After a COMMIT that has failed it wants to be told to roll back, as if there were something left."""
        try:
            self.connection.commit()
        except sqlalchemy.exc.DBAPIError:
            self.connection.rollback()
            raise

    def rollback(self) -> None:
        self.connection.rollback()

    def block(self, work: Callable[[], object]) -> None:
        with self.connection.begin():
            work()

    def sqlstate(self, error: BaseException) -> str | None:
        return super().sqlstate(getattr(error, "orig", error))

    def parameter(self, name: str) -> str | None:
        return self._below.info.parameter_status(name)

    def close(self) -> None:
        self.connection.close()
        self._engine.dispose()


DRIVERS: list[Callable[[str], Driver]] = [Psycopg, PsycopgAsync, Psycopg2, Asyncpg, Pg8000, Sqlalchemy]


def swallow(driver: Driver, query: str) -> None:
    """A statement whose error nobody looks at."""
    with contextlib.suppress(driver.errors):
        driver.execute(query)
