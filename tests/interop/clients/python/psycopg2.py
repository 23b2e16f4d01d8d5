"""psycopg2."""

import io
import select
import threading
from importlib.metadata import version
from typing import Any

import psycopg2
from psycopg2 import errors

from tests.interop.clients.python.script import COPIED, LARGE_ROWS, Script, main


def _connect() -> Any:
    return psycopg2.connect("")  # libpq reads the environment


class Psycopg2(Script):
    driver = "psycopg2"
    version = f"{version('psycopg2-binary')} (libpq {psycopg2.extensions.libpq_version() // 10_000})"

    def connect(self) -> object:
        self.connection = _connect()
        return self._one("SELECT current_setting('application_name')")

    def _rows(self, query: str, *arguments: object) -> list[Any]:
        with self.connection.cursor() as cursor:
            cursor.execute(query, arguments)
            return cursor.fetchall() if cursor.description else []

    def _one(self, query: str, *arguments: object) -> object:
        (row,) = self._rows(query, *arguments)
        self.connection.commit()
        return row[0] if len(row) == 1 else list(row)

    def _count(self, step: str) -> object:
        return self._one("SELECT count(*) FROM items WHERE step = %s", step)

    def parameters(self) -> object:
        return self._one("SELECT %s::int + 1, %s::text", 41, "naïve 'quoted'")

    def prepared(self) -> object:
        self._rows("PREPARE double (int) AS SELECT $1 * 2")
        return [self._one("EXECUTE double (%s)", n) for n in (21, 4)]

    def commit(self) -> object:
        self._rows("INSERT INTO items VALUES (%s)", "commit")
        self.connection.commit()
        return self._count("commit")

    def rollback(self) -> object:
        self._rows("INSERT INTO items VALUES (%s)", "rollback")
        try:
            self._rows("SELECT 1 / 0")
        except errors.DivisionByZero as error:
            self.connection.rollback()
            return [error.pgcode, self._count("rollback")]
        return None

    def savepoint(self) -> object:
        self._rows("INSERT INTO items VALUES (%s)", "savepoint")
        self._rows("SAVEPOINT here")
        self._rows("INSERT INTO items VALUES (%s)", "savepoint")
        try:
            self._rows("SELECT 1 / 0")
        except errors.DivisionByZero:
            self._rows("ROLLBACK TO here")
        self.connection.commit()
        return self._count("savepoint")

    def copy(self) -> object:
        rows = io.StringIO("".join(f"{number}\tcopied\n" for number in range(COPIED)))
        copied = io.StringIO()
        with self.connection, self.connection.cursor() as cursor:
            cursor.copy_expert("COPY copied FROM STDIN", rows)
            cursor.copy_expert("COPY copied TO STDOUT", copied)
        return copied.getvalue().count("\n")

    def large(self) -> object:
        with self.connection, self.connection.cursor("large") as cursor:
            cursor.execute(LARGE_ROWS)
            return sum(1 for _ in cursor)

    def cancel(self) -> object:
        canceller = threading.Thread(target=self._cancel_sleeper)
        canceller.start()
        try:
            self._rows("SELECT pg_sleep(60)")
        except errors.QueryCanceled:
            self.connection.rollback()
            canceller.join()
            return self._one("SELECT 1")
        return None

    def _cancel_sleeper(self) -> None:
        self._elsewhere("SELECT wait_for_sleeper()")
        self.connection.cancel()

    def _elsewhere(self, query: str) -> None:
        other = _connect()
        with other, other.cursor() as cursor:
            cursor.execute(query)
        other.close()

    def notify(self) -> object:
        self._rows("LISTEN news")
        self.connection.commit()
        self._elsewhere("NOTIFY news, 'hello'")
        select.select([self.connection], [], [], 30)
        self.connection.poll()
        return self.connection.notifies.pop().payload

    def sqlstate(self, error: BaseException) -> str | None:
        return getattr(error, "pgcode", None)

    def begin_leak(self) -> None:
        self._rows("INSERT INTO items VALUES (%s)", "leak")

    def use_leaked(self) -> None:
        self._rows("SELECT 1")

    def commit_leaked(self) -> None:
        self.connection.commit()

    def again(self) -> object:
        self.connection.close()
        self.connection = _connect()
        return self._one("SELECT 1")

    def go_on(self) -> object:
        self._rows("INSERT INTO items VALUES (%s)", "after")
        return self._one("SELECT pg_backend_pid()")

    def close(self) -> None:
        self.connection.close()


if __name__ == "__main__":
    main(Psycopg2())
