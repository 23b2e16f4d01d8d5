"""Django: the tags arrive from requests and from threads, and statements are prepared as they would be without."""

import json
import sys
from pathlib import Path

import pytest

from proxy.attribution.tags import merged
from tests.callsite.support import TRACE, expecting, flagged, place_of
from tests.conftest import StartProxy
from tests.scenarios.callsite.conftest import Start

SHOP = "python/shop.py"
MARKS = {"source_location": place_of(SHOP, "marks"), "function": "mark_sent"}
ROUTE = {"route": "hooks/<partner>/write", "traceparent": TRACE.format(1)}
EXECUTIONS = 20
THRESHOLD = 5


def command(_snippets: Path) -> list[str]:
    pytest.importorskip("django", reason="Django is in the extra `interop`")
    return [sys.executable, "-m", "tests.callsite.python.shop"]


def test_the_place_and_the_route_arrive(start_proxy: StartProxy, start: Start) -> None:
    proxy = expecting(start_proxy, **MARKS, **ROUTE)
    start(proxy, "writes")
    leak = flagged(proxy)
    assert leak.transaction.opener == 'UPDATE "invoices" SET "status" = ? WHERE "invoices"."id" = ?'
    assert leak.transaction.statements == 2


def test_the_place_arrives_from_a_thread(start_proxy: StartProxy, start: Start) -> None:
    proxy = expecting(start_proxy, **MARKS)
    start(proxy, "works")
    flagged(proxy)


def test_a_place_is_prepared_once(start_proxy: StartProxy, start: Start) -> None:
    prepared, _ = start(start_proxy(), "prepares").said
    ((text, plans),) = json.loads(prepared)
    assert merged([text.encode()]) == MARKS
    assert plans == EXECUTIONS - THRESHOLD
