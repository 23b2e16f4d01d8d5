"""From the hold to the event, by a clock that is turned by hand; numbers in names are lines of docs/protocol.md."""

import pytest

from proxy.report.events import LeakEvent, LeakFlagged
from tests import messages as m
from tests.leash.fake import FakeSession


def test_a_hold_is_flagged_once_and_then_terminated() -> None:
    session = FakeSession(flag_after=1.0, terminate_after=3.0)
    session.begin()
    session.loop.advance(0.99)
    assert session.names() == []
    session.loop.advance(0.02)
    assert session.names() == ["leak.flagged"]
    session.loop.advance(1.9)
    assert session.names() == ["leak.flagged"]
    session.loop.advance(0.1)
    assert session.names() == ["leak.flagged", "leak.terminated"]
    assert b"25P03" in session.words
    assert session.last().leak.id.encode() in session.words
    session.loop.advance(60.0)
    assert len(session.events) == 2
    assert session.loop.pending == 0


def test_a_flagged_leak_is_resolved_by_its_commit() -> None:
    session = FakeSession(flag_after=1.0)
    session.begin()
    session.client(m.query("UPDATE t SET a = 5"))
    session.server(m.queried("UPDATE 1", "T"))
    session.loop.advance(5.0)
    session.client(m.query("COMMIT"))
    session.loop.advance(0.5)
    session.server(m.queried("COMMIT", "I"))
    assert session.names() == ["leak.flagged", "leak.resolved"]
    resolved = session.last()
    assert resolved.outcome == "commit"
    assert resolved.resumed_with == "COMMIT"
    assert resolved.leak.held_s == pytest.approx(5.0)
    assert resolved.leak.transaction.age_s == pytest.approx(5.5)
    assert resolved.leak.transaction.opener == "UPDATE t SET a = ?"


def test_one_leak_one_id_however_many_holds() -> None:
    session = FakeSession(flag_after=1.0)
    session.begin()
    for _ in range(3):
        session.loop.advance(5.0)
        session.client(m.query("SELECT 1"))
        session.server(m.queried("SELECT 1", "T"))
    session.client(m.query("ROLLBACK AND CHAIN"))
    session.server(m.queried("ROLLBACK", "T"))
    assert session.names() == ["leak.flagged", "leak.resolved"]
    assert session.last().outcome == "rollback"
    session.loop.advance(5.0)
    flagged = [event for event in session.events if isinstance(event, LeakEvent)]
    assert len({event.leak.id for event in flagged}) == 2


@pytest.mark.protocol(26, "timers on the wrong clock")
def test_a_statement_longer_than_the_limit_and_then_a_short_pause_is_no_leak() -> None:
    session = FakeSession(flag_after=1.0)
    for _ in range(100):
        session.begin()
        session.client(m.query("SELECT pg_sleep(2)"))
        session.loop.advance(2.0)
        session.server(m.queried("SELECT 1", "T"))
        session.loop.advance(0.5)
        session.client(m.query("COMMIT"))
        session.server(m.queried("COMMIT", "I"))
    assert session.names() == []


def test_a_session_outside_of_a_transaction_has_no_deadline() -> None:
    session = FakeSession(flag_after=1.0)
    session.client(m.query("SELECT 1"))
    session.server(m.queried("SELECT 1", "I"))
    assert session.loop.pending == 1
    session.loop.advance(1.1)
    assert session.loop.pending == 0


def test_requests_move_no_timers() -> None:
    session = FakeSession(flag_after=1.0, terminate_after=2.0)
    for _ in range(1000):
        session.begin()
        session.client(m.query("COMMIT"))
        session.server(m.queried("COMMIT", "I"))
    assert session.loop.pending == 1


def test_without_limits_there_are_no_deadlines() -> None:
    session = FakeSession()
    session.begin()
    session.in_buffer_for_client = 1
    session.guard.holding.client_stuffed()
    assert session.loop.pending == 0


@pytest.mark.protocol(28)
def test_what_has_arrived_is_read_before_a_late_loop_judges(  # 28
) -> None:
    session = FakeSession(flag_after=1.0, terminate_after=2.0)
    session.begin()
    session.loop.stop_the_world(10.0)
    session.client(m.query("COMMIT"))  # lay in the kernel's buffer all the time
    session.loop.turn()
    assert session.names() == []


@pytest.mark.protocol(26)
def test_the_clock_starts_when_the_message_has_left_for_the_client() -> None:  # 26
    session = FakeSession(flag_after=1.0)
    session.begin()
    session.in_buffer_for_client = 100
    session.guard.holding.client_stuffed()
    session.loop.advance(0.9)
    session.in_buffer_for_client = 0
    session.loop.advance(0.9)
    assert session.names() == []
    session.loop.advance(0.2)
    assert session.last().leak.hold == "idle_in_transaction"


@pytest.mark.protocol(26)
def test_a_client_that_reads_slowly_is_not_a_client_that_has_stopped() -> None:  # 26
    session = FakeSession(flag_after=1.0)
    session.client(m.query("SELECT 1"))
    session.in_buffer_for_client = 100
    session.guard.holding.client_stuffed()
    for _ in range(20):
        session.loop.advance(0.5)
        session.taken_bytes += 1000
    assert session.names() == []
    session.loop.advance(1.1)
    assert session.names() == ["leak.flagged"]
    assert session.last().leak.hold == "unread_results"


def test_less_than_a_segment_is_no_progress() -> None:
    session = FakeSession(flag_after=1.0)
    session.client(m.query("SELECT 1"))
    session.in_buffer_for_client = 100
    session.guard.holding.client_stuffed()
    session.loop.advance(0.5)
    session.taken_bytes += 999
    session.loop.advance(0.6)
    assert session.names() == ["leak.flagged"]


def test_unread_results_end_by_reading_on() -> None:
    session = FakeSession(flag_after=1.0)
    session.client(m.query("SELECT 1"))
    session.in_buffer_for_client = 100
    session.guard.holding.client_stuffed()
    session.loop.advance(3.0)
    session.in_buffer_for_client = 0
    session.server(m.queried("SELECT 1", "I"))
    assert session.names() == ["leak.flagged", "leak.resolved"]
    assert (session.last().outcome, session.last().resumed_with) == ("commit", "")


@pytest.mark.protocol(26)
def test_while_the_server_does_not_take_what_is_sent_it_is_not_the_clients_turn() -> None:  # 26
    session = FakeSession(flag_after=1.0)
    session.client(m.query("COPY t FROM STDIN"))
    session.server(m.COPY_IN)
    session.client(m.copy_data())
    session.in_buffer_for_server = 100
    session.loop.advance(5.0)
    assert session.names() == []
    session.in_buffer_for_server = 0
    session.guard.holding.server_took()
    session.loop.advance(0.9)
    assert session.names() == []
    session.loop.advance(0.2)
    assert session.last().leak.hold == "stalled_copy"


@pytest.mark.protocol(26)
def test_a_copy_that_flows_is_no_leak() -> None:
    session = FakeSession(flag_after=1.0)
    session.client(m.query("COPY t FROM STDIN"))
    session.server(m.COPY_IN)
    for byte in m.copy_data(b"x" * 20):
        session.client(bytes((byte,)))
        session.loop.advance(0.5)
    assert session.names() == []


@pytest.mark.parametrize("how", ["terminate", "eof", "reset", "timeout"])
def test_a_client_that_goes_away_in_a_transaction(how: str) -> None:
    session = FakeSession(flag_after=1.0)
    session.begin()
    session.client(m.query("UPDATE t SET a = 5"))
    session.guard.client_gone(how, session.loop.now)
    assert session.names() == ["leak.abandoned"]
    abandoned = session.last()
    assert (abandoned.how, abandoned.running, abandoned.leak.leak_class) == (how, "UPDATE t SET a = ?", "abandoned")
    assert abandoned.leak.limit_s is None
    session.loop.advance(60.0)
    assert len(session.events) == 1


def test_a_client_that_goes_away_outside_of_a_transaction_is_nobodys_business() -> None:
    session = FakeSession(flag_after=1.0)
    session.guard.client_gone("eof", session.loop.now)
    assert session.names() == []


def test_a_server_that_ends_the_session_resolves_the_leak() -> None:
    session = FakeSession(flag_after=1.0)
    session.begin()
    session.loop.advance(2.0)
    session.server(m.error("57P01", "FATAL"))
    session.guard.server_gone(session.loop.now)
    assert session.names() == ["leak.flagged", "leak.resolved"]
    assert session.last().outcome == "rollback"


def test_a_session_that_is_not_understood_is_not_judged_and_its_leak_is_closed() -> None:
    session = FakeSession(flag_after=1.0, terminate_after=2.0)
    session.begin()
    session.loop.advance(1.5)
    session.server(m.message("!"))
    session.loop.advance(60.0)
    assert session.names() == ["leak.flagged", "leak.resolved"]
    assert session.last().outcome == "unknown"
    assert session.words == b""


def test_an_old_transaction_is_flagged_while_it_is_busy() -> None:
    session = FakeSession(flag_transaction_after=10.0)
    session.begin()
    session.client(m.query("SELECT pg_sleep(100)"))
    session.loop.advance(10.1)
    assert session.names() == ["leak.flagged"]
    leak = session.last().leak
    assert (leak.leak_class, leak.hold) == ("old_transaction", "")
    assert leak.held_s == pytest.approx(10.0, abs=0.01)
    session.server(m.queried("SELECT 1", "T"))
    session.client(m.query("COMMIT"))
    session.server(m.queried("COMMIT", "I"))
    assert session.names() == ["leak.flagged", "leak.resolved"]


def test_a_fault_of_ours_while_telling_ends_the_judging_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    session = FakeSession(flag_after=1.0, terminate_after=2.0)
    session.begin()
    monkeypatch.setattr("proxy.leash.describer.sanitize", lambda *_args, **_options: 1 / 0)
    session.loop.advance(60.0)
    assert session.names() == ["proxy.error"]
    assert session.last().kind == "ZeroDivisionError"
    session.client(m.query("COMMIT"))
    session.server(m.queried("COMMIT", "I"))
    assert session.loop.pending == 0


def test_a_fault_of_ours_at_the_end_of_a_flagged_leak_raises_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    session = FakeSession(flag_after=1.0)
    session.begin()
    session.loop.advance(2.0)
    monkeypatch.setattr("proxy.leash.describer.sanitize", lambda *_args, **_options: 1 / 0)
    session.client(m.query("COMMIT"))
    session.server(m.queried("COMMIT", "I"))
    assert session.names() == ["leak.flagged", "proxy.error"]


def test_after_a_terminate_nothing_is_judged_any_more() -> None:
    session = FakeSession(flag_after=1.0, terminate_after=2.0)
    session.begin()
    session.loop.advance(1.0)  # the deadline has fired and is armed anew by the next request
    session.client(m.TERMINATE)
    session.guard.holding.client_stuffed()
    assert session.loop.pending == 0
    session.loop.advance(60.0)
    assert session.names() == ["leak.abandoned"]


def test_a_transaction_that_begins_without_a_request_is_judged_like_any_other() -> None:
    session = FakeSession(flag_after=1.0)
    session.begin()
    session.loop.advance(2.0)
    session.client(m.query("COMMIT; BEGIN"))
    session.loop.advance(10.0)  # a slow commit
    session.server(m.complete("COMMIT") + m.queried("BEGIN", "T"))
    session.loop.advance(1.1)
    assert session.names() == ["leak.flagged", "leak.resolved", "leak.flagged"]


def test_what_lies_in_the_buffer_while_the_server_works_is_no_leak() -> None:
    session = FakeSession(flag_after=1.0, terminate_after=2.0)
    session.client(m.query("SELECT repeat('x', 33000); SELECT pg_sleep(100)"))
    session.in_buffer_for_client = 33_000
    session.loop.advance(60.0)
    assert session.names() == []
    session.guard.holding.client_stuffed()
    session.loop.advance(2.1)
    assert session.names() == ["leak.flagged", "leak.terminated"]


def test_a_buffer_for_the_server_that_empties_without_a_call_is_noticed() -> None:
    session = FakeSession(flag_after=10.0)
    session.client(m.query("COPY t FROM STDIN"))
    session.server(m.COPY_IN)
    session.in_buffer_for_server = 100
    session.loop.advance(19.0)
    session.in_buffer_for_server = 0
    session.loop.advance(9.9)
    assert session.names() == []
    session.loop.advance(0.2)
    assert session.names() == ["leak.flagged"]


@pytest.mark.protocol(14)
def test_while_it_is_not_certain_what_is_due_a_leak_is_flagged_and_not_terminated() -> None:  # 14
    session = FakeSession(flag_after=1.0, terminate_after=2.0)
    session.begin()
    session.client(m.run("COPY t FROM STDIN") + m.SYNC)
    session.server(m.PARSED + m.BOUND + m.NO_DATA + m.COPY_IN)
    session.client(m.copy_data() + m.COPY_DONE + m.SYNC)
    session.server(m.error() + m.ready("E"))
    session.loop.advance(60.0)
    assert session.names() == ["leak.flagged"]
    session.client(m.query("SELECT 1"))
    session.server(m.error() + m.ready("E"))
    session.loop.advance(2.1)
    assert session.names() == ["leak.flagged", "leak.terminated"]


def test_the_next_transaction_has_a_deadline_of_its_own() -> None:
    session = FakeSession(flag_after=10.0, terminate_after=3600.0)
    session.begin()
    session.loop.advance(11.0)  # the watchdog waits for terminate_after
    session.client(m.query("COMMIT"))
    session.server(m.queried("COMMIT", "I"))
    session.begin()
    session.loop.advance(11.0)
    assert session.names() == ["leak.flagged", "leak.resolved", "leak.flagged"]


def test_the_next_hold_has_a_deadline_of_its_own() -> None:
    session = FakeSession(flag_after=10.0, rollback_after=30.0, terminate_after=3600.0)
    session.server(m.parameter_status("server_version", "18.4"))
    session.begin()
    session.client(m.run("SELECT 1") + m.FLUSH)
    session.server(m.ran("SELECT 1"))
    session.loop.advance(31.0)
    session.client(m.SYNC)
    session.server(m.ready("T"))
    session.loop.advance(30.1)
    assert len(session.rollbacks) == 1


def test_a_client_whose_host_is_lost_has_abandoned_its_transaction() -> None:
    session = FakeSession(flag_after=10.0)
    session.begin()
    session.host_lost = None  # something that was sent has not been acknowledged
    session.loop.advance(12.0)
    assert session.names() == ["leak.flagged"]
    session.host_lost = True
    session.loop.advance(1.1)
    assert session.names() == ["leak.flagged", "leak.abandoned"]
    assert session.last().how == "timeout"
    assert session.loop.pending == 0


def test_a_rule_that_comes_to_match_while_the_server_works_is_not_missed() -> None:
    """The deadline of an earlier request passes when the statement that has the tag waits behind BEGIN."""
    rule = {"name": "jobs", "match": {"tags": {"job": "*"}}, "flag_after": 1.0}
    session = FakeSession(rules=[rule])
    session.client(m.query("SELECT 1"))
    session.server(m.queried("SELECT 1", "I"))
    session.loop.advance(0.9)
    session.client(m.run("BEGIN") + m.run("UPDATE a SET b = 1 /*job='nightly'*/") + m.SYNC)
    session.loop.advance(0.2)
    session.server(m.ran("BEGIN") + m.ran("UPDATE 1") + m.ready("T"))
    session.loop.advance(3.0)
    assert [event.leak.rule for event in session.events if isinstance(event, LeakFlagged)] == ["jobs"]
