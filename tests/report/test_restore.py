"""Records and their flat fields, there and back."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.report.event import flatten
from proxy.report.events import Blast, Client, Leak, LeakReport, Process, Session, TransactionFacts
from proxy.report.ledger import COUNTS
from proxy.report.now import SessionNow
from proxy.report.restore import restore

SECONDS = st.floats(0, 1e6).map(lambda length: round(length, 3))
COUNTED: dict[str, Any] = dict.fromkeys(COUNTS, 1)
COUNT = st.integers(0, 10**9)
TEXT = st.text(max_size=20)

clients = st.builds(Client, user=TEXT, database=TEXT, application_name=TEXT, address=TEXT)
sessions = st.builds(
    Session,
    client=clients,
    process=st.none() | st.builds(Process, pid=COUNT, executable=TEXT, container_id=TEXT),
    id=TEXT,
    port=st.none() | COUNT,
    backend_pid=st.none() | COUNT,
)
transactions = st.builds(
    TransactionFacts,
    age_s=SECONDS,
    idle_s=SECONDS,
    busy_s=st.none() | SECONDS,
    longest_idle_s=st.none() | SECONDS,
    statements=COUNT,
    opener=TEXT,
    tags=st.none() | st.dictionaries(TEXT, TEXT, min_size=1),
)
# One without anything known is none.
blasts = st.builds(Blast, locks=st.lists(TEXT).map(tuple), blocked_sessions=COUNT, oldest_wait_s=st.none() | SECONDS)
leaks = st.builds(
    Leak,
    id=TEXT,
    leak_class=TEXT,
    hold=TEXT,
    held_s=SECONDS,
    limit_s=st.none() | SECONDS,
    rule=TEXT,
    system=st.just("postgresql"),
    session=sessions,
    transaction=transactions,
    blast=st.none() | blasts,
)
reports = st.builds(
    LeakReport,
    client=clients,
    held_s=SECONDS,
    longest_s=SECONDS,
    last_seen=TEXT,
    **dict.fromkeys(COUNTS, COUNT),
)
looked_at = st.builds(
    SessionNow,
    session=sessions,
    state=TEXT,
    state_s=st.none() | SECONDS,
    transaction=st.none() | transactions,
    leak_id=TEXT,
)


@settings(max_examples=60)
@given(leaks | reports | looked_at)
def test_what_was_flattened_comes_back(record: Leak | LeakReport | SessionNow) -> None:
    fields = json.loads(json.dumps(dict(flatten(record))))
    assert restore(type(record), fields | {"of.another.version": 1}) == record


@pytest.mark.parametrize("broken", [{"report.leaks": "many"}, {"report.leaks": None}, {"db.user": ["a"]}])
def test_what_is_no_record_is_refused(broken: dict[str, object]) -> None:
    client = Client(user="u", database="d", application_name="a", address="")
    report = LeakReport(client=client, held_s=1.0, longest_s=1.0, last_seen="", **COUNTED)
    with pytest.raises(ValueError, match="validation error"):
        restore(LeakReport, dict(flatten(report)) | broken)
    with pytest.raises(ValueError, match="validation error"):
        restore(LeakReport, {})
