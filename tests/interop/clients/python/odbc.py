"""Postgres's ODBC driver, by pyodbc."""

import threading
from typing import Any

import pyodbc

from tests.interop.clients.python.script import LARGE_ROWS, Script, environment, main

DRIVER = "PostgreSQL Unicode"


def _connect() -> Any:
    # What is not named here, its libpq takes from the environment.
    names = {
        "Servername": "PGHOST",
        "Port": "PGPORT",
        "Database": "PGDATABASE",
        "Uid": "PGUSER",
        "Pwd": "PGPASSWORD",
        "sslmode": "PGSSLMODE",
    }
    own = "".join(f"{name}={environment(variable)};" for name, variable in names.items())
    return pyodbc.connect(f"DRIVER={{{DRIVER}}};{own}")


def _version() -> str:
    connection = _connect()
    version = connection.getinfo(pyodbc.SQL_DRIVER_VER)
    connection.close()
    return f"{version} (pyodbc {pyodbc.version})"


class Odbc(Script):
    driver = "psqlODBC"
    version = _version()

    def connect(self) -> object:
        self.connection = _connect()
        return self._one("SELECT current_setting('application_name')")

    def _one(self, query: str, *arguments: object) -> Any:
        row = self.connection.execute(query, *arguments).fetchone()
        self.connection.commit()
        return row[0] if len(row) == 1 else list(row)

    def _count(self, step: str) -> object:
        return int(self._one("SELECT count(*) FROM items WHERE step = ?", step))

    def parameters(self) -> object:
        return self._one("SELECT ?::int + 1, ?::text", 41, "naïve 'quoted'")

    def prepared(self) -> object:
        cursor = self.connection.cursor()
        results = [cursor.execute("SELECT ?::int * 2", number).fetchval() for number in (21, 4)]
        self.connection.commit()
        return results

    def commit(self) -> object:
        self.connection.execute("INSERT INTO items VALUES (?)", "commit")
        self.connection.commit()
        return self._count("commit")

    def rollback(self) -> object:
        self.connection.execute("INSERT INTO items VALUES (?)", "rollback")
        try:
            self.connection.execute("SELECT 1 / 0").fetchone()
        except pyodbc.Error as error:
            self.connection.rollback()
            return [self.sqlstate(error), self._count("rollback")]
        return None

    def savepoint(self) -> object:
        self.connection.execute("INSERT INTO items VALUES (?)", "savepoint")
        self.connection.execute("SAVEPOINT here")
        self.connection.execute("INSERT INTO items VALUES (?)", "savepoint")
        try:
            self.connection.execute("SELECT 1 / 0").fetchone()
        except pyodbc.Error:
            self.connection.execute("ROLLBACK TO here")
        self.connection.commit()
        return self._count("savepoint")

    def large(self) -> object:
        rows = len(self.connection.execute(LARGE_ROWS).fetchall())
        self.connection.commit()
        return rows

    def cancel(self) -> object:
        cursor = self.connection.cursor()
        canceller = threading.Thread(target=self._cancel_sleeper, args=[cursor])
        canceller.start()
        try:
            cursor.execute("SELECT pg_sleep(60)")
        except pyodbc.Error as error:
            self.connection.rollback()
            canceller.join()
            return self._one("SELECT 1") if self.sqlstate(error) == "57014" else str(error)
        return None

    def _cancel_sleeper(self, cursor: Any) -> None:
        other = _connect()
        other.execute("SELECT wait_for_sleeper()::text").fetchone()
        other.rollback()
        other.close()
        cursor.cancel()

    def sqlstate(self, error: BaseException) -> str | None:
        return str(error.args[0]) if isinstance(error, pyodbc.Error) else None

    def begin_leak(self) -> None:
        self.connection.execute("INSERT INTO items VALUES (?)", "leak")

    def use_leaked(self) -> None:
        self.connection.execute("SELECT 1").fetchone()

    def commit_leaked(self) -> None:
        self.connection.commit()

    def again(self) -> object:
        self.connection.close()
        self.connection = _connect()
        return self._one("SELECT 1")

    def go_on(self) -> object:
        self.connection.execute("INSERT INTO items VALUES (?)", "after")
        return int(self._one("SELECT pg_backend_pid()"))

    def close(self) -> None:
        self.connection.close()


if __name__ == "__main__":
    main(Odbc())
