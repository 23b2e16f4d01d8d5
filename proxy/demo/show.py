"""The demo: a throw-away Postgres, the proxy in front of it, and an application that leaks."""

import asyncio
import contextlib
import dataclasses
import logging
from typing import Final

import psycopg
import uvloop

from proxy.demo import application
from proxy.demo.postgres import Postgres
from proxy.report.event import Event, key
from proxy.report.log import Log
from proxy.report.reporter import Reporter
from proxy.report.table import ledger_table
from proxy.server import Server
from proxy.settings import Settings, duration_text, load

LIMITS: Final = {
    "flag_after": "1s",
    "rollback_after": "2s",
    "terminate_after": "3s",
    "drain_timeout": "1s",
    "report_every": "never",
    "admin.listen": "none",
}
INTRODUCTION: Final = """\
An embedded Postgres {version}, pgleash in front of it, and an application with {parts} parts, for {length}.
A hold is flagged after {flag_after}, rolled back after {rollback_after} where that is safe, and its session terminated
after {terminate_after}. Five of the parts leak.
"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ApplicationTold(Event):
    """What a part of the application finds when it uses its connection again."""

    event = "application"
    level = "info"
    message: str = key("message")


def show(length: float) -> None:
    """Run the demo for so many seconds and print who leaked.

    Raises:
        OperatorError: the embedded Postgres is not installed or does not start.
    """
    print("starting an embedded Postgres ...", flush=True)
    logging.getLogger("psycopg").setLevel(logging.ERROR)  # it warns of what the application does wrong on purpose
    with Postgres() as postgres:
        with postgres.connect() as connection:
            connection.execute(application.SCHEMA)
        upstream = f"{postgres.host}:{postgres.port}"
        settings = load(None, {}, {**LIMITS, "listen": "127.0.0.1:0", "upstream": upstream, "log.format": "console"})
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            reporter = runner.run(_watch(postgres, settings.settings, length))
    _conclude(reporter)


async def _watch(postgres: Postgres, settings: Settings, length: float) -> Reporter:
    _introduce(postgres, settings, length)
    log = Log(settings.log, {})
    reporter = Reporter(log)
    server = Server(settings, reporter)
    try:
        await server.start()
        address = server.addresses[0]
        await _run_application(postgres.dsn(host=address.host, port=address.port), reporter, length)
    finally:
        await server.drain()
        log.close()
    return reporter


async def _run_application(dsn: str, reporter: Reporter, length: float) -> None:
    def told(name: str, error: psycopg.Error) -> None:
        first_line = str(error).partition("\n")[0]
        reporter.emit(ApplicationTold(message=f"{name} finds: {type(error).__name__}: {first_line}"))

    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(length):
            await application.run(dsn, told)


def _introduce(postgres: Postgres, settings: Settings, length: float) -> None:
    print(
        INTRODUCTION.format(
            version=postgres.version,
            parts=len(application.PARTS),
            length=duration_text(length),
            flag_after=duration_text(settings.flag_after),
            rollback_after=duration_text(settings.rollback_after),
            terminate_after=duration_text(settings.terminate_after),
        ),
        flush=True,
    )


def _conclude(reporter: Reporter) -> None:
    print("\nWho leaked, how often and for how long:\n")
    print(ledger_table(reporter.ledger.reports()))
    print("\nweb-shop, night-report and price-cache were busy or outside of a transaction: never flagged.")
