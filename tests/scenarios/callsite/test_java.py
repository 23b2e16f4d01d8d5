"""pgjdbc and HikariCP: the tags arrive, and each place's statement is prepared as it was before."""

from pathlib import Path

import pytest

from proxy.attribution.tags import merged
from tests.callsite.support import expecting, flagged, place_of
from tests.conftest import StartProxy
from tests.kits import languages
from tests.scenarios.callsite.conftest import Start

pytestmark = pytest.mark.timeout(300)  # installing and compiling what the program needs

BILLING = "java/Billing.java"
MAIN = "shop.Billing"
WARNINGS = "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"
EXECUTIONS = 20
THRESHOLD = 5  # pgjdbc's prepareThreshold: from the fifth execution on


def command(snippets: Path) -> list[str]:
    """With a logger, for HikariCP's warnings."""
    java, *rest = languages.java(snippets / "java", "callsite", MAIN)
    return [java, WARNINGS, *(part.replace("slf4j-nop", "slf4j-simple") for part in rest)]


def test_the_place_arrives(start_proxy: StartProxy, start: Start) -> None:
    """From a statement that is prepared, whose text is not sent any more."""
    proxy = expecting(start_proxy, source_location=place_of(BILLING, "marks"), function="shop.Billing.markSent")
    start(proxy, "leaks")
    assert flagged(proxy).transaction.opener == "UPDATE invoices SET status = $1 WHERE id = $2"


def test_as_many_statements_are_prepared_as_there_are_places(start_proxy: StartProxy, start: Start) -> None:
    first, second, _ = start(start_proxy(), "prepares").said
    for line, end in ((first, "marks"), (second, "marks, too")):
        text, _, plans = line.rpartition("|")
        assert merged([text.encode()])["source_location"] == place_of(BILLING, end)
        assert int(plans) == EXECUTIONS - THRESHOLD + 1


def test_a_connection_is_what_it_was(start_proxy: StartProxy, start: Start) -> None:
    """A plain statement has its place, too; unwrap and errors get through."""
    text, threshold, sqlstate, _ = start(start_proxy(), "texts").said
    assert merged([text.encode()])["source_location"] == place_of(BILLING, "executes")
    assert int(threshold) == THRESHOLD
    assert sqlstate == "22012"  # division_by_zero


def test_the_wire_gives_the_answer_of_hikaricp_s_stack(start_proxy: StartProxy, start: Start) -> None:
    """It names the method that took the connection; we name the one that opened the transaction, and its statement."""
    proxy = expecting(start_proxy, source_location=place_of(BILLING, "holds"), function=f"{MAIN}.holdTooLong")
    told = start(proxy, "holds").said
    assert flagged(proxy).transaction.opener == "UPDATE invoices SET status = $1 WHERE id = $2"
    (stack,) = (number for number, line in enumerate(told) if "Apparent connection leak detected" in line)
    assert f"{MAIN}.holdTooLong({place_of(BILLING, 'takes')})" in next(line for line in told[stack:] if MAIN in line)
