"""Rules in front of a real server: who a client is now, and what its transaction says of itself, decides."""

import json

import pytest

from proxy.demo.postgres import Postgres
from proxy.report.events import LeakFlagged, LeakRolledBack, LeakTerminated
from tests.conftest import StartProxy
from tests.harness import Proxy, dsn
from tests.rawclient import RawClient

QUICK = "60ms"
RULES = [
    {"name": "spared", "match": {"application_name": "pg_dump*"}, "flag_after": QUICK, "terminate_after": "never"},
    {"name": "jobs", "match": {"tags": {"job": "nightly-*"}}, "rollback_after": QUICK},
    {"name": "here", "match": {"application_name": "batch", "address": "127.0.0.0/8"}, "terminate_after": QUICK},
    {"name": "elsewhere", "match": {"address": "10.0.0.0/8"}, "flag_after": "1ms"},
]


@pytest.fixture
def proxy(start_proxy: StartProxy) -> Proxy:
    return start_proxy(flag_after="10s", terminate_after="20s", rules=json.dumps(RULES))


def test_the_name_that_an_application_has_now(proxy: Proxy, postgres: Postgres) -> None:
    with RawClient(dsn(proxy, postgres, application_name="web")) as client:
        client.query("BEGIN")
        client.query("SET application_name = batch")
        event = proxy.recorder.wait(LeakTerminated)
    assert (event.leak.rule, event.leak.client.application_name) == ("here", "batch")
    assert event.leak.held_s < 1


def test_a_name_that_is_given_up_again(proxy: Proxy, postgres: Postgres) -> None:
    with RawClient(dsn(proxy, postgres, application_name="batch")) as client:
        client.query("SET application_name = web")
        client.query("BEGIN")
        with pytest.raises(AssertionError, match="no LeakTerminated"):
            proxy.recorder.wait(LeakTerminated, 0.3)


def test_the_tags_of_the_transaction_that_runs(proxy: Proxy, postgres: Postgres) -> None:
    with RawClient(dsn(proxy, postgres, application_name="web")) as client:
        client.query("BEGIN")
        client.query("SELECT 1 /* job=nightly-7 */")
        assert proxy.recorder.wait(LeakRolledBack).leak.rule == "jobs"
        client.query("ROLLBACK")
        client.query("BEGIN")
        client.query("SELECT 1 /* job=daily */")
        with pytest.raises(AssertionError, match="no LeakRolledBack"):
            proxy.recorder.wait(LeakRolledBack, 0.3, 2)


def test_never_means_never(start_proxy: StartProxy, postgres: Postgres) -> None:
    proxy = start_proxy(terminate_after=QUICK, rules=json.dumps(RULES))
    with RawClient(dsn(proxy, postgres, application_name="pg_dump")) as client:
        client.query("BEGIN")
        assert proxy.recorder.wait(LeakFlagged).leak.rule == "spared"
        with pytest.raises(AssertionError, match="no LeakTerminated"):
            proxy.recorder.wait(LeakTerminated, 0.3)
        client.query("COMMIT")
