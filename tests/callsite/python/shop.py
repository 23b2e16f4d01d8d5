"""The application's own code, on Django; what it does is its argument."""

import json
import os
import sys
import threading

import django
from django.conf import settings
from django.db import connection, models, transaction
from django.http import HttpRequest, HttpResponse
from django.test import Client
from django.urls import path

from tests.callsite.python.callsite.with_django import tell
from tests.callsite.support import PREPARED, TRACE

SCRIPT = sys.argv[1]
EXECUTIONS = 20
KEYS = {"HOST": "PGHOST", "PORT": "PGPORT", "USER": "PGUSER", "PASSWORD": "PGPASSWORD", "NAME": "PGDATABASE"}
PREPARES = {"server_side_binding": True, "prepare_threshold": 5}

settings.configure(
    ALLOWED_HOSTS=["testserver"],
    DATABASES={
        "default": {
            "ENGINE": "django.db.backends.postgresql",
            "OPTIONS": PREPARES if SCRIPT == "prepares" else {},
            "CONN_MAX_AGE": None,
            **{key: os.environ[variable] for key, variable in KEYS.items()},
        }
    },
    MIDDLEWARE=["tests.callsite.python.callsite.with_django.Doing"],
    ROOT_URLCONF=__name__,
)
django.setup()
tell()


class Invoice(models.Model):  # type: ignore[misc]  # Django has no types
    """A row of invoices."""

    id = models.IntegerField(primary_key=True)
    status = models.TextField()

    class Meta:
        app_label = "shop"
        db_table = "invoices"

    def __str__(self) -> str:
        return str(self.status)


def mark_sent() -> None:
    Invoice.objects.filter(id=1).update(status="sent%")  # marks


def rest() -> None:
    sys.stdout.write("rests\n")
    sys.stdout.flush()
    sys.stdin.read()


def write(_request: HttpRequest, partner: str) -> HttpResponse:
    with transaction.atomic():
        mark_sent()
        if SCRIPT in {"writes", "works"}:
            rest()
    return HttpResponse(partner)


urlpatterns = [path("hooks/<partner>/write", write)]


def request(number: int = 1) -> None:
    Client().get("/hooks/7/write", headers={"traceparent": TRACE.format(number)})


def main() -> None:
    if SCRIPT == "writes":
        request()
    elif SCRIPT == "works":
        worker = threading.Thread(target=write, args=[None, "nobody"])
        worker.start()
        worker.join()
    else:
        for number in range(EXECUTIONS):
            request(number)
        with connection.cursor() as cursor:
            cursor.execute(PREPARED)
            sys.stdout.write(f"{json.dumps(cursor.fetchall())}\n")
    rest()


if __name__ == "__main__":
    main()
