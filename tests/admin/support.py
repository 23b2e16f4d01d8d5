"""The admin side of a proxy that runs in a thread, and HTTP by hand."""

import http.client
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from proxy.admin.listener import Admin
from proxy.ask.reach import connection_to, read_target
from tests.harness import PATIENCE, Proxy

POD = {"POD_NAME": "billing-6f9c-x2", "OTEL_SERVICE_NAME": "billing"}
Record = dict[str, Any]


class Answer(NamedTuple):
    """What came back."""

    status: int
    headers: http.client.HTTPMessage
    json: Record

    @property
    def error(self) -> str:
        """What is wrong, as it is told."""
        assert self.json["status"] == self.status
        text: str = self.json["error"]
        return text


class Asked:
    """An admin side that can be asked.

    Attributes:
        proxy: whose it is.
        where: its address.
    """

    def __init__(self, proxy: Proxy, where: str) -> None:
        self.proxy = proxy
        self.where = where

    def ask(self, path: str, method: str = "GET", **headers: str) -> Answer:
        connection = connection_to(read_target(self.where))
        try:
            connection.request(method, path, headers=headers)
            response = connection.getresponse()
            body = response.read()
        finally:
            connection.close()
        assert response.headers["Content-Type"].startswith("application/json")
        return Answer(response.status, response.headers, json.loads(body or "{}"))

    def get(self, name: str, **headers: str) -> Record:
        """What a path of the API answers."""
        answer = self.ask(f"/api/{name}", **headers)
        assert answer.status == 200, answer
        return answer.json

    def sessions(self) -> list[Record]:
        found: list[Record] = self.get("sessions")["sessions"]
        return found


@contextmanager
def admin_of(proxy: Proxy) -> Iterator[Asked]:
    """The admin side of a proxy, as its settings say."""
    admin = Admin(proxy.settings, proxy.server, proxy.reporter, POD)
    where: list[str] = []

    async def start() -> None:
        where.append(await admin.start())

    proxy.call(start)
    try:
        yield Asked(proxy, where[0])
    finally:
        proxy.call(admin.stop, PATIENCE)


StartAdmin = Callable[..., Asked]
