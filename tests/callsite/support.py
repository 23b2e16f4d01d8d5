"""What the tests of every language need: a proxy that tells whether tags have arrived, and the places in files."""

import json
from pathlib import Path

from proxy.report.events import Leak, LeakFlagged
from tests.conftest import StartProxy
from tests.harness import Proxy

HERE = Path(__file__).parent
CREATE = "CREATE TABLE IF NOT EXISTS invoices (id int, status text); INSERT INTO invoices VALUES (1, 'new')"
TRACE = "00-5bd66ef5095369c7b0d1f8f4bd33716a-{:016x}-01"  # a traceparent, with the number of a span
PREPARED = (
    "SELECT statement, generic_plans + custom_plans AS plans FROM pg_prepared_statements"
    " WHERE statement LIKE '%invoices%' ORDER BY prepare_time"
)
NAMED = "named"


def place_of(file: str, end: str) -> str:
    """Where the line is that ends with this comment, as the snippets write it."""
    lines = enumerate((HERE / file).read_text().splitlines(), 1)
    (number,) = (number for number, line in lines if line.endswith((f"# {end}", f"// {end}")))
    return f"{Path(file).name}:{number}"


def expecting(start_proxy: StartProxy, **tags: str) -> Proxy:
    """A proxy that flags a transaction with these tags at once, and others late: so nothing is flagged half-way."""
    rule = {"name": NAMED, "match": {"tags": tags}, "flag_after": "30ms"}
    return start_proxy(flag_after="5s", rules=json.dumps([rule]))


def flagged(proxy: Proxy) -> Leak:
    """The leak whose line tells these tags and no others, and the trace in fields of its own."""
    leak = proxy.recorder.wait(LeakFlagged).leak
    assert leak.rule == NAMED
    (rule,) = proxy.settings.rules
    expected = {name: glob for name, (glob,) in (rule.match.tags or {}).items()}
    trace = expected.pop("traceparent", "---")
    assert leak.transaction.tags == expected
    assert [leak.transaction.trace_id, leak.transaction.span_id] == trace.split("-")[1:3]
    return leak
