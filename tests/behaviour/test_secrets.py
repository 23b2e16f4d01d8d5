"""Passwords, parameters, literals, rows, COPY data, keys, the server's details: none of them in any event or line."""

import contextlib
import io
import json

import psycopg
import pytest

from proxy.demo.postgres import Postgres
from proxy.report.events import (
    LeakAbandoned,
    LeakFlagged,
    LeakResolved,
    LeakRolledBack,
    LeakSpared,
    LeakTerminated,
)
from proxy.report.log import Log
from proxy.settings import Log as LogSettings
from proxy.settings import LogFormat, LogLevel
from tests import messages as m
from tests.conftest import StartProxy
from tests.harness import Proxy, dsn
from tests.rawclient import RawClient

SECRET = "s3cr3t-zq7x"  # what never comes out, in whatever place it was put


def leak_everywhere(client: RawClient) -> None:
    client.query(f"SELECT '{SECRET}' AS secret")
    client.query("DROP TABLE IF EXISTS kept")
    client.query("CREATE TEMP TABLE kept (a text UNIQUE)")
    client.query("BEGIN")
    client.send(m.parse("INSERT INTO kept VALUES ($1)") + m.bind("", "", SECRET.encode()) + m.execute() + m.SYNC)
    client.receive_until("Z")
    # ruff: noqa: S608 - the statements are made of what is looked for
    client.query(f"INSERT INTO kept VALUES ($${SECRET}a$$), (E'{SECRET}b'), (U&'{SECRET}c') /* {SECRET} */")
    client.query("SAVEPOINT a")
    client.query(f"INSERT INTO kept VALUES ('{SECRET}')")  # the server's DETAIL repeats the key
    client.query("ROLLBACK TO a")
    client.query(f"SELECT set_config('my.setting', '{SECRET}', true)")
    client.send(m.query("COPY kept FROM STDIN"))
    client.receive_until("G")
    client.send(m.copy_data(f"x{SECRET}\n".encode()) + m.COPY_DONE)
    client.receive_until("Z")
    client.query(f"ALTER ROLE postgres VALID UNTIL 'infinity' -- {SECRET}")


def all_that_is_told(proxy: Proxy, log_format: LogFormat) -> tuple[str, str]:
    """The lines of the log, and with them whatever events and ledger would show of themselves."""
    stream = io.StringIO()
    log = Log(LogSettings(format=log_format, level=LogLevel.DEBUG), {}, stream)
    for _, event in proxy.recorder.events:
        log.write(event)
    log.close()
    proxy.reporter.report()
    lines = stream.getvalue()
    assert len(lines.splitlines()) > len(proxy.recorder.events) / 2
    return lines, lines + repr(proxy.recorder.events) + repr(list(proxy.reporter.ledger))


def test_no_secret_in_what_is_done_about_a_leak(postgres: Postgres, start_proxy: StartProxy) -> None:
    by_tag = '[{"name": "jobs", "match": {"tags": {"job": "*"}}, "rollback_after": "100ms"}]'
    proxy = start_proxy(flag_after="50ms", rollback_after="10s", rules=by_tag)
    with RawClient(dsn(proxy, postgres)) as client:
        leak_everywhere(client)
        client.send(
            m.run(f"SELECT '{SECRET}' /* job:nightly, password:{SECRET}, route:/reset?token={SECRET} */") + m.FLUSH
        )
        client.receive_until("C")
        assert proxy.recorder.wait(LeakSpared).leak.rule == "jobs"
        client.send(m.SYNC)
        client.receive_until("Z")
        proxy.recorder.wait(LeakRolledBack)
        told = [message.body for message in client.query(f"SELECT '{SECRET}'") + client.query("COMMIT")]
    proxy.settle()
    _, everything = all_that_is_told(proxy, LogFormat.JSON)
    assert "INSERT INTO kept VALUES" in everything
    assert SECRET not in everything
    assert SECRET.encode() not in b"".join(told)


@pytest.mark.parametrize("log_format", [LogFormat.JSON, LogFormat.CONSOLE])
def test_no_secret_reaches_the_log(postgres: Postgres, start_proxy: StartProxy, log_format: LogFormat) -> None:
    proxy = start_proxy(flag_after="100ms", terminate_after="500ms")
    with postgres.connect() as admin:
        admin.execute(f"CREATE ROLE keeper LOGIN SUPERUSER PASSWORD '{SECRET}'")
    try:
        with contextlib.suppress(psycopg.OperationalError):
            psycopg.connect(dsn(proxy, postgres, user="keeper", password="wrong" + SECRET))
        address = dsn(proxy, postgres, user="keeper", password=SECRET)
        with RawClient(address) as client:
            leak_everywhere(client)
            proxy.recorder.wait(LeakFlagged)
            client.query("COMMIT")
            proxy.recorder.wait(LeakResolved)
            key = proxy.session_of(client.backend_pid).tracker.flow.backend.cancel_key
            leak_everywhere(client)
            proxy.recorder.wait(LeakTerminated)
        with RawClient(address) as client:
            leak_everywhere(client)
            client.reset()
            proxy.recorder.wait(LeakAbandoned)
    finally:
        proxy.settle()
        with postgres.connect() as admin:
            admin.execute("DROP ROLE keeper")

    lines, everything = all_that_is_told(proxy, log_format)
    assert "INSERT INTO kept VALUES" in everything
    for secret in (SECRET, SECRET[:6], SECRET.upper(), key.hex(), repr(key)):
        assert secret not in everything
    if log_format is LogFormat.JSON:
        assert all(json.loads(line)["event"] for line in lines.splitlines())
