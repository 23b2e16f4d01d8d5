"""What is done about a leak, and what stands in its way: on a clock that is turned by hand."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from proxy.leash.budget import Budget
from proxy.report.events import LeakRolledBack, LeakSpared, LeakTerminated
from tests import messages as m
from tests.leash.fake import FakeSession

VERSION = m.parameter_status("server_version", "18.4")


def session(**options: object) -> FakeSession:
    session = FakeSession(**options)
    session.server(VERSION)
    return session


def spared(session: FakeSession) -> list[tuple[str, str]]:
    return [(event.action, event.reason) for event in session.events if isinstance(event, LeakSpared)]


def roll_back(session: FakeSession, problem: str = "") -> None:
    """Let the server answer what it was asked for."""
    _, _, told = session.rollbacks.pop()
    if not problem:
        session.tracker.flow.rolled_back()
    told(problem)


def test_a_rollback_is_told_when_the_server_has_done_it() -> None:
    leaking = session(flag_after=10, rollback_after=30, terminate_after=60)
    leaking.begin()
    leaking.loop.advance(30.1)
    ((leak_id, owed, _),) = leaking.rollbacks
    assert leaking.names() == ["leak.flagged"]
    assert leak_id.encode() in owed
    assert b"transaction rolled back by pgleash after 30.0 s idle in transaction" in owed
    leaking.loop.advance(20)  # nothing else is due while the server has not answered
    roll_back(leaking)
    assert leaking.names() == ["leak.flagged", "leak.rolled_back"]
    leaking.loop.advance(9)
    assert leaking.names() == ["leak.flagged", "leak.rolled_back"]
    leaking.loop.advance(2)
    assert leaking.names() == ["leak.flagged", "leak.rolled_back", "leak.terminated"]
    event: LeakTerminated = leaking.last()
    assert (event.leak.hold, event.leak.leak_class) == ("idle_in_transaction", "open_read")
    assert event.summary.endswith("been idle for 60.0 s in a transaction opened by BEGIN, rolled back before")
    assert leaking.words


def test_a_block_that_is_over_is_over() -> None:
    leaking = session(rollback_after=30, terminate_after=60)
    leaking.begin()
    leaking.loop.advance(31)
    roll_back(leaking)
    event: LeakRolledBack = leaking.last()
    assert not event.flagged
    leaking.client(m.query("ROLLBACK"))
    leaking.server(m.queried("ROLLBACK", "I"))
    leaking.loop.advance(100)
    assert leaking.names() == ["leak.rolled_back", "leak.returned"]
    leaking.begin()
    leaking.loop.advance(31)
    roll_back(leaking)
    assert leaking.last().leak.id != event.leak.id


def test_a_failed_block_may_grow_as_old_as_another_transaction() -> None:
    leaking = session(rollback_after=30, terminate_transaction_after=50)
    leaking.begin()
    leaking.loop.advance(31)
    roll_back(leaking)
    leaking.loop.advance(49)
    assert leaking.names() == ["leak.rolled_back"]
    leaking.loop.advance(2)
    assert leaking.last().rolled_back


def test_what_went_wrong_ends_the_session_and_is_told() -> None:
    leaking = session(flag_after=10, rollback_after=30)
    leaking.begin()
    leaking.loop.advance(31)
    roll_back(leaking, "the server did not answer")
    event: LeakTerminated = leaking.last()
    assert (event.detail, event.flagged, event.rolled_back) == ("the server did not answer", True, False)
    assert b"the server did not answer" in leaking.words


def test_a_client_that_goes_while_it_is_rolled_back_has_not_abandoned_it() -> None:
    leaking = session(flag_after=10, rollback_after=30)
    leaking.begin()
    leaking.loop.advance(31)
    told = leaking.rollbacks[0][2]
    leaking.guard.client_gone("eof", leaking.loop.now)
    assert leaking.names() == ["leak.flagged", "leak.rolled_back"]
    told("")
    leaking.loop.advance(100)
    assert leaking.names() == ["leak.flagged", "leak.rolled_back"]
    ((_, account),) = leaking.reporter.ledger
    assert (account.open, account.rolled_back, account.abandoned) == (0, 1, 0)


def test_a_doubt_comes_later_too() -> None:
    leaking = session(rollback_after=30)
    leaking.begin()
    leaking.loop.advance(31)
    told = leaking.rollbacks[0][2]
    roll_back(leaking)
    told("something else came")
    event: LeakTerminated = leaking.last()
    assert (event.detail, event.flagged, event.rolled_back) == ("something else came", False, True)


@pytest.mark.parametrize("version", ["11.22", "9.6.24", ""])
def test_a_server_that_cannot_chain_is_spared(version: str) -> None:
    leaking = session(rollback_after=30)
    leaking.server(m.parameter_status("server_version", version))
    leaking.begin()
    leaking.loop.advance(31)
    assert leaking.last().detail == "ROLLBACK AND CHAIN needs Postgres 12 or later"
    assert leaking.rollbacks == []


def test_what_is_unsafe_is_tried_again_in_the_next_hold_and_told_once() -> None:
    leaking = session(flag_after=10, rollback_after=30)
    leaking.begin()
    for _ in range(3):
        leaking.client(m.run("SELECT 1") + m.FLUSH)
        leaking.server(m.ran("SELECT 1"))
        leaking.loop.advance(31)
    assert spared(leaking) == [("rollback", "unsafe")]
    leaking.client(m.SYNC)
    leaking.server(m.ready("T"))
    leaking.loop.advance(31)
    assert len(leaking.rollbacks) == 1


def test_what_was_not_read_and_then_is_may_be_rolled_back() -> None:
    leaking = session(flag_after=1, rollback_after=3)
    leaking.begin()
    leaking.client(m.query("SELECT 1"))
    leaking.server(m.complete("SELECT 1"))
    leaking.in_buffer_for_client = 100_000
    leaking.guard.holding.client_stuffed()
    leaking.server(m.ready("T"))
    leaking.loop.advance(4)
    assert spared(leaking) == [("rollback", "unsafe")]
    leaking.in_buffer_for_client = 0
    leaking.guard.holding.client_took()
    leaking.loop.advance(3.1)
    assert len(leaking.rollbacks) == 1


def test_what_was_not_safe_for_a_moment_is_done_in_the_next() -> None:
    leaking = session(rollback_after=3)
    leaking.begin()
    leaking.loop.advance(2.9)
    leaking.server(m.NOTIFICATION[:7])
    leaking.loop.advance(0.5)
    assert leaking.last().detail == "a message was begun and not ended"
    leaking.server(m.NOTIFICATION[7:])
    leaking.loop.advance(0.5)
    assert len(leaking.rollbacks) == 1
    assert spared(leaking) == [("rollback", "unsafe")]


def test_observing_says_what_would_have_been_and_does_nothing() -> None:
    leaking = session(flag_after=10, rollback_after=30, terminate_after=60, mode="observe")
    leaking.begin()
    leaking.loop.advance(100)
    assert spared(leaking) == [("rollback", "observe"), ("terminate", "observe")]
    assert leaking.rollbacks == []
    assert leaking.words == b""
    assert leaking.last().summary.endswith("; its session would have been ended (mode is observe)")
    leaking.client(m.query("COMMIT"))
    leaking.server(m.queried("COMMIT", "I"))
    assert leaking.names()[-1] == "leak.resolved"
    ((_, account),) = leaking.reporter.ledger
    assert (account.leaks, account.open, account.spared, account.resolved) == (1, 0, 1, 1)


def test_what_is_spared_is_a_leak_though_no_flag_was_asked_for() -> None:
    leaking = session(terminate_after=60, mode="observe")
    leaking.begin()
    leaking.loop.advance(100)
    assert leaking.names() == ["leak.flagged", "leak.spared"]


def test_a_budget_that_is_spent_spares_and_recovers() -> None:
    leaking = session(terminate_after=60, actions_per_minute=1)
    assert leaking.terms.budget.take(leaking.loop.now + 45)
    leaking.begin()
    leaking.loop.advance(61)
    assert spared(leaking) == [("terminate", "budget")]
    leaking.loop.advance(43)
    assert leaking.words == b""
    leaking.loop.advance(2)
    assert leaking.names() == ["leak.flagged", "leak.spared", "leak.terminated"]
    assert leaking.words


def test_a_budget_counts_any_minute() -> None:
    budget = Budget(2)
    assert [budget.take(now) for now in (0.0, 30.0, 59.9, 60.0, 60.1, 89.9, 90.0)] == [
        True, True, False, True, False, False, True,
    ]  # fmt: skip
    assert budget.free_at(90.0) == 120.0


@example(1023.9999999, 60.0)
@given(st.floats(0.0, 1e7), st.floats(59.999, 60.001))
def test_a_budget_is_free_when_it_says_so(taken: float, after: float) -> None:
    budget = Budget(1)
    budget.take(taken)
    now = taken + after
    assert budget.take(now) or (budget.free_at(now) > now and budget.take(budget.free_at(now)))


def test_a_budget_is_told_of_once_a_minute_and_everything_counts() -> None:
    budget = Budget(1)
    assert [budget.spared.happened(now) for now in (100.0, 101.0, 159.0, 160.0, 161.0)] == [1, 0, 0, 3, 0]


def test_a_budget_may_shrink_and_grow() -> None:
    budget = Budget(3)
    assert [budget.take(float(now)) for now in range(3)] == [True] * 3
    budget.per_minute = 1
    assert not budget.take(10.0)
    assert budget.free_at(10.0) == 62.0
    budget.per_minute = 4
    assert budget.take(10.0)


# By hand.


def test_somebody_rolls_back_and_is_named() -> None:
    leaking = session(mode="observe")
    leaking.begin()
    leaking.loop.advance(5)
    assert leaking.guard.enforcer.roll_back("ann") == ""
    assert leaking.guard.enforcer.roll_back("bob") == "it has been rolled back already"
    roll_back(leaking)
    event: LeakRolledBack = leaking.last()
    assert (event.asked_by, event.leak.limit_s, event.leak.held_s) == ("ann", None, 5.0)
    assert event.leak.leak_class == "open_read"
    assert leaking.guard.enforcer.roll_back("bob") == "it has been rolled back already"


def test_somebody_asks_for_what_is_not_possible() -> None:
    idle = session()
    assert idle.guard.enforcer.roll_back("ann") == "no transaction is idle"
    idle.client(m.query("BEGIN"))
    assert idle.guard.enforcer.roll_back("ann") == "no transaction is idle"


def test_a_session_that_is_ending_is_left_alone() -> None:
    ending = session()
    ending.begin()
    ending.guard.stop()
    assert ending.guard.enforcer.roll_back("ann") == "the session is ending, or is not judged"
    assert ending.rollbacks == []


def test_somebody_ends_a_session() -> None:
    leaking = session(flag_after=10)
    leaking.begin()
    leaking.loop.advance(11)
    leaking.guard.enforcer.terminate("ann")
    event: LeakTerminated = leaking.last()
    assert (event.asked_by, event.flagged) == ("ann", True)
    assert b"57P01" in leaking.words
    idle = session()
    idle.guard.enforcer.terminate("ann")
    assert b"57P01" in idle.words
    assert idle.events == []


# Other terms.


def test_new_terms_hold_at_once() -> None:
    leaking = session()
    leaking.begin()
    leaking.loop.advance(100)
    leaking.terms.change(leaking.settings(flag_after=10, terminate_after=200))
    leaking.guard.reconsider()
    leaking.loop.advance(0.1)
    assert leaking.names() == ["leak.flagged"]
    leaking.terms.change(leaking.settings(flag_after=10, terminate_after=150))
    leaking.guard.reconsider()
    leaking.loop.advance(51)
    assert leaking.names() == ["leak.flagged", "leak.terminated"]


def test_what_was_only_observed_is_done_when_it_is_to_be() -> None:
    leaking = session(rollback_after=30, mode="observe")
    leaking.begin()
    leaking.loop.advance(31)
    assert spared(leaking) == [("rollback", "observe")]
    leaking.terms.change(leaking.settings(rollback_after=30))
    leaking.guard.reconsider()
    leaking.loop.advance(0.1)
    assert len(leaking.rollbacks) == 1


def test_new_terms_are_nothing_to_a_session_that_is_not_judged() -> None:
    over = session()
    over.begin()
    over.guard.stop()
    over.terms.change(over.settings(flag_after=1))
    over.guard.reconsider()
    over.loop.advance(10)
    assert over.events == []
