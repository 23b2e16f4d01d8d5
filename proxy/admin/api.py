"""The paths of the admin side, and their answers: JSON, also where something is wrong."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Final

from aiohttp import web

from proxy.admin.access import Access
from proxy.admin.records import Record, client_records, held_for, open_leak, session_now
from proxy.ending import Stage
from proxy.report import advice
from proxy.report.event import flatten
from proxy.report.events import InternalError
from proxy.report.reporter import Reporter
from proxy.server import Server
from proxy.session import Session

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

JSON: Final = "application/json"
AT_A_TIME: Final = 0.002  # seconds of making records until sessions have their turn
REST: Final = 4  # times as long
# Nobody keeps what is true now alone, no browser takes it for anything but what it is, and no version is told.
HEADERS: Final = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", "Server": "pgleash"}


class Api:
    """Answers from what a proxy knows.

    Args:
        server: the proxy.
        reporter: has the ledger, and takes events.
        access: who may ask.
        resource: where this proxy runs.
    """

    def __init__(self, server: Server, reporter: Reporter, access: Access, resource: Mapping[str, str]) -> None:
        self._server = server
        self._reporter = reporter
        self._access = access
        self._resource = dict(resource)
        self._since = _time()  # the ledger and the habits are as old as this
        self._making = asyncio.Lock()

    def application(self) -> web.Application:
        """What is served."""
        application = web.Application(middlewares=[self._guarded])
        application.add_routes(
            [
                web.get("/api/sessions", self._sessions, allow_head=False),
                web.get("/api/leaks", self._leaks, allow_head=False),
                web.get("/api/clients", self._clients, allow_head=False),
                web.get("/api/advice", self._advice, allow_head=False),
            ]
        )
        return application

    @web.middleware
    async def _guarded(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Refuse who may not ask, before telling even which paths there are."""
        headers = request.headers
        refusal = self._access.refusal(headers.get("Host", ""), headers.get("Authorization", ""))
        if refusal is not None:
            return _error(refusal.status, refusal.reason)
        try:
            return await handler(request)
        except web.HTTPMethodNotAllowed as error:
            allowed = ", ".join(sorted(error.allowed_methods))
            return _error(HTTPStatus.METHOD_NOT_ALLOWED, f"this path takes {allowed} alone", {"Allow": allowed})
        except web.HTTPException as error:
            return _error(HTTPStatus(error.status), error.reason.lower())
        except Exception as error:  # noqa: BLE001 - a fault of ours is an answer, too
            self._reporter.emit(InternalError.of(error))
            return _error(HTTPStatus.INTERNAL_SERVER_ERROR, "pgleash has failed to answer; its log says where")

    # Answers.

    async def _sessions(self, _request: web.Request) -> web.Response:
        sessions = (session_now(each, _now()) for each in self._living())
        return self._answer(sessions=await self._encoded(dict(flatten(session)) for session in sessions))

    async def _leaks(self, _request: web.Request) -> web.Response:
        leaks = (open_leak(each, _now()) for each in self._living())
        return self._answer(
            open=await self._encoded(dict(flatten(leak)) for leak in leaks if leak is not None),
            ledger=await self._encoded(report.fields() for report in self._reporter.ledger.reports()),
        )

    async def _clients(self, _request: web.Request) -> web.Response:
        now = _now()
        held = [(each.facts().client, held_for(each, now)) for each in self._living()]
        return self._answer(clients=await self._encoded(client_records(held, self._reporter.ledger.reports())))

    async def _advice(self, _request: web.Request) -> web.Response:
        return self._answer(
            advice=await self._encoded(
                record for each in self._server.watch.habits for record in advice.as_json([each])
            )
        )

    def _living(self) -> Iterator[Session]:
        """The sessions of this moment, the oldest first, without those that are over by the time of their turn."""
        ordered = sorted(self._server.sessions, key=lambda session: (len(session.id), session.id))
        return (session for session in ordered if session.ending.stage is not Stage.OVER)

    async def _encoded(self, records: Iterable[Record]) -> str:
        """A list of records, made and encoded one by one: between two of them sessions may have their turn.

        However many ask, only one list is being made at a time, so sessions wait for no more than AT_A_TIME.
        """
        encoded: list[str] = []
        async with self._making:
            until = time.monotonic() + AT_A_TIME
            for record in records:
                encoded.append(json.dumps(record))
                if time.monotonic() > until:
                    await asyncio.sleep(REST * AT_A_TIME)
                    until = time.monotonic() + AT_A_TIME
        return f"[{', '.join(encoded)}]"

    def _answer(self, **lists: str) -> web.Response:
        """An answer of lists that are encoded already."""
        told = {"generated_at": _time(), "since": self._since, "resource": self._resource}
        parts = {name: json.dumps(value) for name, value in told.items()} | lists
        body = ", ".join(f'"{name}": {encoded}' for name, encoded in parts.items())
        return web.Response(text=f"{{{body}}}\n", content_type=JSON, headers=HEADERS)


def _time() -> str:
    """The time of the wall."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _now() -> float:
    """The clock by which sessions are judged."""
    return asyncio.get_running_loop().time()


def _error(status: HTTPStatus, reason: str, headers: Mapping[str, str] | None = None) -> web.Response:
    more = {"WWW-Authenticate": "Bearer"} if status is HTTPStatus.UNAUTHORIZED else headers or {}
    body = json.dumps({"error": reason, "status": status.value}) + "\n"
    return web.Response(status=status, text=body, content_type=JSON, headers={**HEADERS, **more})
