"""A view answers at once, and leaves the work to a thread."""

from concurrent.futures import ThreadPoolExecutor

import django
from django.conf import settings
from django.db import connection, models, transaction
from django.http import HttpRequest, HttpResponse
from django.test import Client
from django.urls import path

from tests.scenarios.mistakes.python.application import FIXED, call_partner, rest

settings.configure(
    ALLOWED_HOSTS=["testserver"],
    # What is not named here, libpq takes from the environment.
    DATABASES={"default": {"ENGINE": "django.db.backends.postgresql", "NAME": "shop", "ATOMIC_REQUESTS": True}},
    ROOT_URLCONF=__name__,
)
django.setup()
executor = ThreadPoolExecutor(1)


class Invoice(models.Model):  # type: ignore[misc]  # Django has no types
    """A row of invoices."""

    status = models.TextField()

    class Meta:
        app_label = "shop"
        db_table = "invoices"

    def __str__(self) -> str:
        return str(self.status)


def send(number: int) -> None:
    # The mistake: the thread has a connection of its own. No request ends here, and so nobody commits or closes it.
    transaction.set_autocommit(autocommit=False)
    Invoice.objects.filter(id=number).update(status="sent")
    call_partner("/sent")


def send_atomically(number: int) -> None:
    try:
        with transaction.atomic():
            Invoice.objects.filter(id=number).update(status="sent")
        call_partner("/sent")
    finally:
        connection.close()


def view(_request: HttpRequest, number: int) -> HttpResponse:
    executor.submit(send_atomically if FIXED else send, number)
    return HttpResponse(status=202)


urlpatterns = [path("invoices/<int:number>/send", view)]
Client().post("/invoices/1/send")
executor.submit(rest).result()  # the same thread: it does not end, and waits for its next task
