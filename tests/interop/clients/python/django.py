"""Django's ORM on psycopg, outside a request."""

import django
import psycopg
from django.conf import settings
from django.db import DatabaseError, connection, models, transaction

from tests.interop.clients.python.script import LARGE_ROWS, Script, environment, main

DATABASE = {
    "ENGINE": "django.db.backends.postgresql",
    "HOST": environment("PGHOST"),
    "PORT": environment("PGPORT"),
    "USER": environment("PGUSER"),
    "PASSWORD": environment("PGPASSWORD"),
    "NAME": environment("PGDATABASE"),
    # What is not named here, libpq takes from the environment; every statement is prepared at its first use.
    "OPTIONS": {"server_side_binding": True, "prepare_threshold": 0},
}
settings.configure(DATABASES={"default": DATABASE})
django.setup()


class Item(models.Model):  # type: ignore[misc]  # Django has no types
    """A row of items."""

    id = models.AutoField(primary_key=True)
    step = models.TextField()

    class Meta:
        app_label = "interop"
        db_table = "items"

    def __str__(self) -> str:
        return str(self.step)


class Django(Script):
    driver = "Django"
    version = f"{django.__version__} (psycopg {psycopg.__version__})"

    def connect(self) -> object:
        return self._one("SELECT current_setting('application_name')")

    def _one(self, query: str, *arguments: object) -> object:
        with connection.cursor() as cursor:
            cursor.execute(query, arguments)
            row = cursor.fetchone()
            return row[0] if len(row) == 1 else list(row)

    def _count(self, step: str) -> object:
        return Item.objects.filter(step=step).count()

    def parameters(self) -> object:
        return self._one("SELECT %s::int + 1, %s::text", 41, "naïve 'quoted'")

    def prepared(self) -> object:
        return [self._one("SELECT %s::int * 2", number) for number in (21, 4)]

    def commit(self) -> object:
        with transaction.atomic():
            Item.objects.create(step="commit")
        return self._count("commit")

    def rollback(self) -> object:
        try:
            with transaction.atomic():
                Item.objects.create(step="rollback")
                self._one("SELECT 1 / 0")
        except DatabaseError as error:
            return [self.sqlstate(error), self._count("rollback")]
        return None

    def savepoint(self) -> object:
        with transaction.atomic():
            Item.objects.create(step="savepoint")
            try:
                with transaction.atomic():
                    Item.objects.create(step="savepoint")
                    self._one("SELECT 1 / 0")
            except DatabaseError:
                pass
        return self._count("savepoint")

    def large(self) -> object:
        with connection.cursor() as cursor:
            cursor.execute(LARGE_ROWS)
            return len(cursor.fetchall())

    def sqlstate(self, error: BaseException) -> str | None:
        return getattr(error.__cause__, "sqlstate", None)

    def begin_leak(self) -> None:
        transaction.set_autocommit(autocommit=False)
        Item.objects.create(step="leak")

    def use_leaked(self) -> None:
        Item.objects.count()

    def commit_leaked(self) -> None:
        transaction.commit()

    def again(self) -> object:
        connection.close()  # what the end of a request does with a connection in which there was an error
        return self._one("SELECT 1")

    def go_on(self) -> object:
        transaction.rollback()
        Item.objects.create(step="after")
        pid = self._one("SELECT pg_backend_pid()")
        transaction.commit()
        return pid

    def close(self) -> None:
        connection.close()


if __name__ == "__main__":
    main(Django())
