"""Call sites for Django: `tell()` in the `ready` of an AppConfig, and `Doing` at the head of MIDDLEWARE."""

from collections.abc import Callable
from typing import Any

import psycopg
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created
from django.http import HttpRequest, HttpResponseBase

from .place import begin, commented, doing, place


def tell() -> None:
    """Let each statement of every connection say where it comes from, whichever thread, job or command opens it."""
    connection_created.connect(_wrap)


class Doing:
    """Middleware that says which route is being served, and in which trace."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        before = doing.set({})
        try:
            return self._get_response(request)
        finally:
            doing.reset(before)

    def process_view(self, request: HttpRequest, *_: Any) -> None:
        """From here on the route is known."""
        trace = request.headers.get("traceparent")
        doing.set({"route": request.resolver_match.route} | ({"traceparent": trace} if trace else {}))


def _wrap(connection: BaseDatabaseWrapper, **_: Any) -> None:
    if connection.vendor == "postgresql" and _tag not in connection.execute_wrappers:
        connection.execute_wrappers.append(_tag)


def _tag(execute: Callable[..., Any], sql: Any, params: Any, many: bool, context: dict[str, Any]) -> Any:
    driver = context["connection"].connection
    tags = place()
    if isinstance(driver, psycopg.Connection):
        begin(driver)
    else:
        tags |= doing.get({})  # psycopg2 prepares nothing
    return execute(commented(sql, tags) if isinstance(sql, str) else sql, params, many, context)
