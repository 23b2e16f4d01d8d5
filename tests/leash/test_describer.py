"""What is told of a transaction: its times, the statements around its longest wait, its tags, what is allowed."""

import pytest

from proxy.report import events
from proxy.wire.statements import STATEMENT_BYTES
from tests import messages as m
from tests.leash.fake import FakeSession

TRACE = "00-5bd66ef5095369c7b0d1f8f4bd33716a-c532cb4098ac3dd2-01"


def facts(session: FakeSession, held: float = 0.0) -> events.TransactionFacts:
    return session.describer.transaction(session.loop.now, held)


def last_flag(session: FakeSession) -> events.TransactionFacts:
    (*_, event) = (event for event in session.events if isinstance(event, events.LeakFlagged))
    return event.leak.transaction


def run(session: FakeSession, sql: str, seconds: float = 0.0, tag: str = "SELECT 1", status: str = "T") -> None:
    """A statement that takes the server so long."""
    session.client(m.query(sql))
    session.loop.advance(seconds)
    session.server(m.queried(tag, status))


def about(value: float) -> object:
    return pytest.approx(value, abs=0.01)


# Times.


def test_age_is_what_it_was_busy_and_what_it_was_idle() -> None:
    session = FakeSession(flag_after=10.0)
    run(session, "BEGIN", 0.5, "BEGIN")
    session.loop.advance(2.0)
    run(session, "UPDATE t SET a = 1", 3.0, "UPDATE 1")
    session.loop.advance(10.1)
    told = last_flag(session)
    assert (told.age_s, told.idle_s, told.busy_s) == (about(15.5), about(12.0), about(3.5))
    assert told.longest_idle_s == about(10.0)


def test_what_is_told_at_its_end_has_the_times_of_its_end() -> None:
    session = FakeSession(flag_after=1.0)
    session.begin()
    session.loop.advance(5.0)
    run(session, "SELECT 1", 2.0)
    session.loop.advance(0.5)
    session.ask("COMMIT", "COMMIT", "I")
    leak = session.last().leak
    told = leak.transaction
    assert leak.held_s == about(5.0)
    assert (told.age_s, told.idle_s, told.busy_s) == (about(7.5), about(5.5), about(2.0))
    assert (told.longest_idle_s, told.idle_after, told.idle_before) == (about(5.0), "BEGIN", "SELECT ?")


@pytest.mark.parametrize("chain", ["COMMIT AND CHAIN", "COMMIT; BEGIN"])
def test_so_it_has_where_the_next_one_has_begun_by_then(chain: str) -> None:
    session = FakeSession(flag_after=1.0)
    session.begin()
    session.loop.advance(5.0)
    session.client(m.query(chain))
    tags = m.complete("COMMIT") + (m.complete("BEGIN") if "BEGIN" in chain else b"")
    session.server(tags + m.ready("T"))
    assert session.names() == ["leak.flagged", "leak.resolved"]
    told = session.last().leak.transaction
    assert (told.age_s, told.idle_s, told.busy_s) == (about(5.0), about(5.0), about(0.0))
    assert (told.longest_idle_s, told.idle_after) == (about(5.0), "BEGIN")


def test_a_transaction_that_was_busy_all_the_time_has_no_long_wait() -> None:
    session = FakeSession(flag_transaction_after=1.0)
    session.begin()
    run(session, "SELECT pg_sleep(5)", 5.0)
    session.ask("COMMIT", "COMMIT", "I")
    assert session.names() == ["leak.flagged", "leak.resolved"]
    told = session.last().leak.transaction
    assert (told.age_s, told.idle_s, told.busy_s) == (about(5.0), about(0.0), about(5.0))
    assert told.longest_idle_s == about(0.0)


def test_a_stall_of_a_copy_is_waiting_too() -> None:
    session = FakeSession()
    session.begin()
    session.client(m.query("COPY t FROM STDIN"))
    session.server(m.COPY_IN)
    session.loop.advance(30.0)
    session.client(m.copy_data())
    session.loop.advance(0.5)
    session.client(m.COPY_DONE)
    session.loop.advance(2.0)
    session.server(m.complete("COPY 1") + m.ready("T"))
    told = facts(session)
    assert (told.idle_s, told.busy_s) == (about(30.5), about(2.0))
    assert (told.longest_idle_s, told.idle_after) == (about(30.0), "COPY t FROM STDIN")


def test_a_pipeline_waits_between_its_flushes() -> None:
    session = FakeSession()
    session.begin()
    for seconds in (1.0, 4.0):
        session.client(m.run("SELECT 1") + m.FLUSH)
        session.server(m.ran("SELECT 1"))
        session.loop.advance(seconds)
    session.client(m.SYNC)
    session.server(m.ready("T"))
    told = facts(session)
    assert (told.idle_s, told.busy_s) == (about(5.0), about(0.0))


# The longest wait.


def test_the_longest_wait_is_told_with_the_statements_around_it() -> None:
    session = FakeSession()
    session.begin()
    for pause, sql in ((1.0, "SELECT a"), (8.0, "SELECT b"), (2.0, "SELECT c")):
        session.loop.advance(pause)
        run(session, sql)
    told = facts(session, held=0.5)
    assert (told.longest_idle_s, told.idle_after, told.idle_before) == (about(8.0), "SELECT a", "SELECT b")


def test_the_wait_that_lasts_is_the_longest_once_it_is() -> None:
    session = FakeSession()
    session.begin()
    session.loop.advance(3.0)
    run(session, "SELECT a")
    before, after = facts(session, held=2.9), facts(session, held=3.1)
    assert (before.idle_after, before.idle_before) == ("BEGIN", "SELECT a")
    assert (after.longest_idle_s, after.idle_after, after.idle_before) == (about(3.1), "SELECT a", "")


def test_the_statement_behind_it_is_known_while_it_runs() -> None:
    session = FakeSession()
    session.begin()
    session.loop.advance(3.0)
    session.client(m.query("SELECT a"))
    assert facts(session).idle_before == "SELECT a"


def test_where_nobody_has_waited_there_are_no_statements_around_it() -> None:
    session = FakeSession()
    session.begin()
    session.client(m.query("SELECT a"))
    told = facts(session)
    assert (told.longest_idle_s, told.idle_after, told.idle_before) == (0.0, "", "")


def test_the_waits_of_one_transaction_are_not_the_next_ones() -> None:
    session = FakeSession()
    session.begin()
    session.loop.advance(9.0)
    run(session, "COMMIT AND CHAIN", tag="COMMIT")
    session.loop.advance(2.0)
    run(session, "SELECT a")
    told = facts(session)
    assert (told.age_s, told.idle_s, told.longest_idle_s) == (about(2.0), about(2.0), about(2.0))
    assert (told.idle_after, told.idle_before) == ("COMMIT AND CHAIN", "SELECT a")
    run(session, "COMMIT", tag="COMMIT", status="I")
    session.loop.advance(50.0)
    session.begin()
    assert facts(session).idle_s == 0.0


# Tags.


def test_the_tags_of_a_transaction_are_those_of_all_its_statements_and_later_ones_win() -> None:
    session = FakeSession()
    run(session, "BEGIN /*job='nightly',route='/begin'*/", tag="BEGIN")
    run(session, "SET LOCAL a = 1", tag="SET")
    run(session, "SELECT 1 /*controller='sync',route='/opener'*/")
    run(session, "UPDATE t SET a = 1 /*route='/write'*/", tag="UPDATE 1")
    run(session, "SELECT 2 /*action='last'*/")
    assert facts(session).tags == {"job": "nightly", "controller": "sync", "route": "/write", "action": "last"}


def test_a_bare_begin_has_tags() -> None:
    session = FakeSession(flag_after=1.0)
    session.ask("BEGIN /*route='/hooks'*/", "BEGIN", "T")
    session.loop.advance(1.1)
    assert last_flag(session).tags == {"route": "/hooks"}


def test_the_tags_of_the_statement_that_runs_count() -> None:
    session = FakeSession()
    session.begin()
    session.client(m.query("SELECT 1 /*route='/now'*/"))
    assert facts(session).tags == {"route": "/now"}


@pytest.mark.parametrize("length", [10, STATEMENT_BYTES, 2500, 3000, 100_000])
@pytest.mark.parametrize("how", ["query", "series"])
def test_tags_at_the_end_of_a_text_are_found_however_long_it_is(length: int, how: str) -> None:
    sql = f"SELECT '{'x' * length}' /*route='/hooks',job='nightly'*/"
    session = FakeSession()
    session.begin()
    session.client(m.query(sql) if how == "query" else m.run(sql) + m.SYNC)
    assert facts(session).tags == {"route": "/hooks", "job": "nightly"}


def test_without_tags_there_are_none() -> None:
    session = FakeSession()
    session.begin()
    assert facts(session).tags is None


def test_a_trace_has_fields_of_its_own() -> None:
    session = FakeSession(flag_after=1.0)
    session.begin()
    session.ask(f"SELECT 1 /*traceparent='{TRACE}',route='/a'*/", "SELECT 1", "T")
    session.loop.advance(1.1)
    fields = session.last().fields()
    assert fields["trace_id"] == "5bd66ef5095369c7b0d1f8f4bd33716a"
    assert fields["span_id"] == "c532cb4098ac3dd2"
    assert fields["transaction.tags"] == {"route": "/a"}


def test_tags_that_nobody_knows_are_shown_where_somebody_asked_for_them() -> None:
    sql = "SELECT 1 /*tenant='shop',password='hunter2'*/"
    for options, tags in (({}, None), ({"attribution": {"tags": ["ten*"]}}, {"tenant": "shop"})):
        session = FakeSession(**options)
        session.begin()
        session.ask(sql, "SELECT 1", "T")
        assert facts(session).tags == tags


# How much may be told.


def leaked(statements: str) -> dict[str, object]:
    session = FakeSession(flag_after=1.0, log={"statements": statements})
    session.begin()
    session.ask("UPDATE t SET a = 'secret' WHERE id = 7", "UPDATE 1", "T")
    session.loop.advance(1.1)
    fields: dict[str, object] = session.last().fields()
    return fields


def test_sanitized_statements_have_no_literals() -> None:
    fields = leaked("sanitized")
    for name in ("opener", "first_write", "last", "idle_after"):
        assert fields[f"transaction.{name}"] == "UPDATE t SET a = ? WHERE id = ?"


def test_a_fingerprint_may_be_all_that_is_told() -> None:
    fields = leaked("fingerprint")
    assert fields["transaction.fingerprint"] == leaked("sanitized")["transaction.fingerprint"]
    assert "UPDATE" not in str(fields)
    assert fields["leak.summary"] == "a (u@d, 127.0.0.1) has been idle for 1.0 s in a transaction"


def test_nothing_is_told_of_statements_where_that_is_off() -> None:
    fields = leaked("off")
    assert "UPDATE" not in str(fields)
    assert not [name for name in fields if name in {"transaction.fingerprint", "transaction.opener"}]


@pytest.mark.parametrize("statements", ["sanitized", "fingerprint", "off"])
def test_its_class_is_known_though_its_text_is_not_told(statements: str) -> None:
    assert leaked(statements)["leak.class"] == "uncommitted_write"


def test_new_terms_hold_for_what_is_told_from_now_on() -> None:
    session = FakeSession(flag_after=1.0)
    session.begin()
    session.terms.change(session.settings(flag_after=1.0, log={"statements": "off"}))
    session.loop.advance(1.1)
    assert last_flag(session).opener == ""
