"""node-postgres: the tags arrive, and what is prepared is left alone."""

import json
from pathlib import Path

import pytest

from proxy.attribution.tags import merged
from tests.callsite.support import TRACE, expecting, flagged, place_of
from tests.conftest import StartProxy
from tests.kits import languages
from tests.scenarios.callsite.conftest import Start

pytestmark = pytest.mark.timeout(300)  # fetching what the program needs

BILLING = "node/billing.mjs"
ROUTE = {"route": "/hooks/:partner", "traceparent": TRACE.format(1)}
MARK = "UPDATE invoices SET status = $1 WHERE id = $2"
EXECUTIONS = 20


def command(snippets: Path) -> list[str]:
    return languages.node(snippets / "node", "callsite", "billing")


def test_the_place_and_the_route_arrive(start_proxy: StartProxy, start: Start) -> None:
    proxy = expecting(start_proxy, source_location=place_of(BILLING, "marks"), function="markSent", **ROUTE)
    start(proxy, "leak", ROUTE["traceparent"])
    assert flagged(proxy).transaction.opener == MARK


def test_what_has_a_name_is_prepared_once(start_proxy: StartProxy, start: Start) -> None:
    application = start(start_proxy(), "prepares", ROUTE["traceparent"])
    assert json.loads(application.said[0]) == [{"statement": MARK, "plans": str(2 * EXECUTIONS)}]


def test_every_way_to_send_a_statement(start_proxy: StartProxy, start: Start) -> None:
    application = start(start_proxy(), "texts", ROUTE["traceparent"])
    called, pooled, hinted = json.loads(application.said[0])
    for text, end in ((called, "calls"), (pooled, "pools")):
        assert merged([text.encode()]).items() >= {"source_location": place_of(BILLING, end), **ROUTE}.items()
    assert hinted.startswith("/*+ SeqScan(a) */ SELECT")


def test_through_sequelize(start_proxy: StartProxy, start: Start) -> None:
    application = start(start_proxy(), "sequelize", ROUTE["traceparent"])
    (text,) = json.loads(application.said[0])
    assert merged([text.encode()])["source_location"] == place_of(BILLING, "finds")
