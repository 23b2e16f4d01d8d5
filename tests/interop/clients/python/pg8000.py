"""pg8000, by its own interface."""

import io

from pg8000 import __version__
from pg8000.exceptions import DatabaseError
from pg8000.native import Connection

from tests.interop.clients.python.script import COPIED, LARGE_ROWS, Script, environment, main, tls_context


def _connect() -> Connection:
    return Connection(
        environment("PGUSER"),
        host=environment("PGHOST"),
        port=int(environment("PGPORT")),
        password=environment("PGPASSWORD"),
        database=environment("PGDATABASE"),
        application_name=environment("PGAPPNAME"),
        ssl_context=tls_context(),
    )


class Pg8000(Script):
    driver = "pg8000"
    version = __version__

    def connect(self) -> object:
        self.connection = _connect()
        return self._one("SELECT current_setting('application_name')")

    def _one(self, query: str, **arguments: object) -> object:
        (row,) = self.connection.run(query, **arguments)
        return row[0] if len(row) == 1 else list(row)

    def _count(self, step: str) -> object:
        return self._one("SELECT count(*) FROM items WHERE step = :step", step=step)

    def _insert(self, step: str) -> None:
        self.connection.run("INSERT INTO items VALUES (:step)", step=step)

    def parameters(self) -> object:
        return self._one("SELECT CAST(:number AS int) + 1, CAST(:text AS text)", number=41, text="naïve 'quoted'")

    def prepared(self) -> object:
        double = self.connection.prepare("SELECT CAST(:number AS int) * 2")
        results = [double.run(number=number)[0][0] for number in (21, 4)]
        double.close()
        return results

    def commit(self) -> object:
        self.connection.run("START TRANSACTION")
        self._insert("commit")
        self.connection.run("COMMIT")
        return self._count("commit")

    def rollback(self) -> object:
        self.connection.run("START TRANSACTION")
        self._insert("rollback")
        try:
            self.connection.run("SELECT 1 / 0")
        except DatabaseError as error:
            self.connection.run("ROLLBACK")
            return [self.sqlstate(error), self._count("rollback")]
        return None

    def savepoint(self) -> object:
        self.connection.run("START TRANSACTION")
        self._insert("savepoint")
        self.connection.run("SAVEPOINT here")
        self._insert("savepoint")
        try:
            self.connection.run("SELECT 1 / 0")
        except DatabaseError:
            self.connection.run("ROLLBACK TO here")
        self.connection.run("COMMIT")
        return self._count("savepoint")

    def copy(self) -> object:
        rows = io.BytesIO(b"".join(b"%d\tcopied\n" % number for number in range(COPIED)))
        copied = io.BytesIO()
        self.connection.run("COPY copied FROM STDIN", stream=rows)
        self.connection.run("COPY copied TO STDOUT", stream=copied)
        return copied.getvalue().count(b"\n")

    def large(self) -> object:
        return len(self.connection.run(LARGE_ROWS))

    def notify(self) -> object:
        self.connection.run("LISTEN news")
        other = _connect()
        other.run("NOTIFY news, 'hello'")
        other.close()
        self.connection.run("SELECT 1")
        ((_, _, payload),) = self.connection.notifications
        return payload

    def sqlstate(self, error: BaseException) -> str | None:
        told = error.args[0] if error.args else None
        return told.get("C") if isinstance(told, dict) else None

    def begin_leak(self) -> None:
        self.connection.run("START TRANSACTION")
        self._insert("leak")

    def use_leaked(self) -> None:
        self.connection.run("SELECT 1")

    def commit_leaked(self) -> None:
        self.connection.run("COMMIT")

    def again(self) -> object:
        self.connection = _connect()
        return self._one("SELECT 1")

    def go_on(self) -> object:
        self.connection.run("START TRANSACTION")
        self._insert("after")
        self.connection.run("COMMIT")
        return self._one("SELECT pg_backend_pid()")

    def close(self) -> None:
        self.connection.close()


if __name__ == "__main__":
    main(Pg8000())
