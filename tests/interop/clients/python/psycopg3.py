"""psycopg 3."""

import threading

import psycopg
from psycopg import errors, pq

from tests.interop.clients.python.script import COPIED, LARGE_ROWS, Script, main


def _connect() -> psycopg.Connection:
    return psycopg.connect("")  # libpq reads the environment


class Psycopg(Script):
    driver = "psycopg"
    version = f"{psycopg.__version__} (libpq {pq.version_pretty(pq.version())})"

    def connect(self) -> object:
        self.connection = _connect()
        return self._one("SELECT current_setting('application_name')")

    def _one(self, query: str, *arguments: object) -> object:
        row = self.connection.execute(query, arguments).fetchone()
        self.connection.commit()
        assert row
        return row[0] if len(row) == 1 else list(row)

    def _count(self, step: str) -> object:
        return self._one("SELECT count(*) FROM items WHERE step = %s", step)

    def parameters(self) -> object:
        return self._one("SELECT %s::int + 1, %s::text", 41, "naïve 'quoted'")

    def prepared(self) -> object:
        with self.connection.transaction():
            query = "SELECT %s::int * 2"
            return [row[0] for n in (21, 4) for row in self.connection.execute(query, [n], prepare=True)]

    def commit(self) -> object:
        self.connection.execute("INSERT INTO items VALUES (%s)", ["commit"])
        self.connection.commit()
        return self._count("commit")

    def rollback(self) -> object:
        self.connection.execute("INSERT INTO items VALUES (%s)", ["rollback"])
        try:
            self.connection.execute("SELECT 1 / 0")
        except errors.DivisionByZero as error:
            self.connection.rollback()
            return [error.sqlstate, self._count("rollback")]
        return None

    def savepoint(self) -> object:
        with self.connection.transaction():
            self.connection.execute("INSERT INTO items VALUES (%s)", ["savepoint"])
            try:
                with self.connection.transaction():
                    self.connection.execute("INSERT INTO items VALUES (%s)", ["savepoint"])
                    self.connection.execute("SELECT 1 / 0")
            except errors.DivisionByZero:
                pass
        return self._count("savepoint")

    def copy(self) -> object:
        with self.connection.transaction(), self.connection.cursor() as cursor:
            with cursor.copy("COPY copied FROM STDIN") as copy:
                for number in range(COPIED):
                    copy.write_row([number, "copied"])
            with cursor.copy("COPY copied TO STDOUT") as copy:
                return sum(1 for _ in copy.rows())

    def large(self) -> object:
        with self.connection.transaction():
            return len(self.connection.execute(LARGE_ROWS).fetchall())

    def cancel(self) -> object:
        canceller = threading.Thread(target=self._cancel_sleeper)
        canceller.start()
        try:
            self.connection.execute("SELECT pg_sleep(60)")
        except errors.QueryCanceled:
            self.connection.rollback()
            canceller.join()
            return self._one("SELECT 1")
        return None

    def _cancel_sleeper(self) -> None:
        with _connect() as other:
            other.execute("SELECT wait_for_sleeper()")
        self.connection.cancel_safe()

    def notify(self) -> object:
        self.connection.execute("LISTEN news")
        self.connection.commit()
        with _connect() as other:
            other.execute("NOTIFY news, 'hello'")
        return next(notification.payload for notification in self.connection.notifies(timeout=30))

    def begin_leak(self) -> None:
        self.connection.execute("INSERT INTO items VALUES (%s)", ["leak"])

    def use_leaked(self) -> None:
        self.connection.execute("SELECT 1")

    def commit_leaked(self) -> None:
        self.connection.commit()

    def again(self) -> object:
        self.connection.close()
        self.connection = _connect()
        return self._one("SELECT 1")

    def go_on(self) -> object:
        self.connection.execute("INSERT INTO items VALUES (%s)", ["after"])
        return self._one("SELECT pg_backend_pid()")

    def close(self) -> None:
        self.connection.close()


if __name__ == "__main__":
    main(Psycopg())
