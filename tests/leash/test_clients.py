"""A client whose sessions are all held: only when nothing moves any more, and then once."""

import dataclasses

import pytest

from proxy.leash.clients import Clients, Held
from proxy.report import events
from proxy.report.events import ClientExhausted
from tests import messages as m
from tests.leash.fake import FakeProxy, FakeSession


def pool(proxy: FakeProxy, size: int, name: str = "a") -> list[FakeSession]:
    return [FakeSession(proxy, name) for _ in range(size)]


def exhausted(proxy: FakeProxy) -> list[int]:
    """How many sessions were told to be all."""
    return [event.sessions for event in proxy.events if isinstance(event, ClientExhausted)]


def hold(session: FakeSession, opener: str = "UPDATE t SET a = 1") -> None:
    session.begin()
    session.ask(opener, "UPDATE 1", "T")


def commit(session: FakeSession) -> None:
    session.ask("COMMIT", "COMMIT", "I")


# When.


def test_a_client_is_exhausted_when_all_are_held_and_nothing_has_moved_for_as_long_again() -> None:
    proxy = FakeProxy(flag_after=10.0)
    for session in pool(proxy, 3):
        hold(session)
        proxy.loop.advance(1.0)
    proxy.loop.advance(18.9)  # flagged after 10, 11 and 12 seconds
    assert exhausted(proxy) == []
    proxy.loop.advance(0.2)
    assert exhausted(proxy) == [3]
    proxy.loop.advance(1000.0)
    assert exhausted(proxy) == [3]


def test_the_event_says_who_and_how_long_and_what_opened_most_of_them() -> None:
    proxy = FakeProxy(flag_after=10.0)
    openers = ("UPDATE t SET a = 1", "SELECT b FROM t FOR UPDATE", "UPDATE t SET a = 2")
    for session, opener in zip(pool(proxy, 3), openers, strict=True):
        hold(session, opener)
    proxy.loop.advance(20.1)
    (event,) = (event for event in proxy.events if isinstance(event, ClientExhausted))
    assert event.longest_s == pytest.approx(20.0, abs=0.1)
    fields = event.fields()
    flagged = proxy.events[0].fields()
    assert (fields["db.user"], fields["db.namespace"], fields["client.application_name"]) == ("u", "d", "a")
    assert fields["transaction.opener"] == "UPDATE t SET a = ?"
    assert fields["transaction.fingerprint"] == flagged["transaction.fingerprint"]
    assert (fields["client.sessions"], fields["client.sessions_with_opener"]) == (3, 2)
    assert fields["client.summary"] == (
        "all 3 sessions of a (u@d, 127.0.0.1) are held in transactions, the first for 20.0 s"
        " (2 of them opened by UPDATE t SET a = ?): its pool is drained and nothing runs"
    )


def test_one_session_is_no_pool() -> None:
    proxy = FakeProxy(flag_after=10.0)
    hold(FakeSession(proxy))
    proxy.loop.advance(100.0)
    assert exhausted(proxy) == []


def test_one_that_is_held_and_one_that_is_free_is_no_exhaustion() -> None:
    proxy = FakeProxy(flag_after=10.0)
    held, _ = pool(proxy, 2)
    hold(held)
    proxy.loop.advance(100.0)
    assert exhausted(proxy) == []


def test_a_pool_that_grows_is_not_at_its_end() -> None:
    """Each of its sessions is held at some moment, and then another one is opened."""
    proxy = FakeProxy(flag_after=10.0)
    for _ in range(10):
        hold(FakeSession(proxy))
        proxy.loop.advance(9.9)
    assert exhausted(proxy) == []
    proxy.loop.advance(20.0)
    assert exhausted(proxy) == [10]


def test_a_session_that_is_just_opened_and_works_is_not_held() -> None:
    proxy = FakeProxy(flag_after=10.0)
    for session in pool(proxy, 2):
        hold(session)
    proxy.loop.advance(19.0)
    FakeSession(proxy).client(m.query("SELECT pg_sleep(100)"))
    proxy.loop.advance(100.0)
    assert exhausted(proxy) == []


def test_a_pool_that_lets_go_in_time_is_not_exhausted() -> None:
    proxy = FakeProxy(flag_after=10.0)
    first, second = pool(proxy, 2)
    hold(first)
    hold(second)
    proxy.loop.advance(15.0)
    commit(first)
    proxy.loop.advance(100.0)
    assert exhausted(proxy) == []


def test_it_is_told_again_when_it_happens_again() -> None:
    proxy = FakeProxy(flag_after=10.0)
    first, second = pool(proxy, 2)
    hold(first)
    hold(second)
    proxy.loop.advance(21.0)
    assert exhausted(proxy) == [2]
    commit(first)
    hold(first)
    proxy.loop.advance(19.0)
    assert exhausted(proxy) == [2]
    proxy.loop.advance(2.0)
    assert exhausted(proxy) == [2, 2]


# What is not held.


def test_sessions_that_work_are_not_held_however_old_their_transactions_are() -> None:
    proxy = FakeProxy(flag_transaction_after=10.0)
    for session in pool(proxy, 2):
        session.begin()
        session.client(m.query("SELECT pg_sleep(100)"))
    proxy.loop.advance(100.0)
    assert [event.event for event in proxy.events] == ["leak.flagged"] * 2


def test_a_leak_that_goes_on_working_is_not_held() -> None:
    proxy = FakeProxy(flag_after=10.0, flag_transaction_after=30.0)
    first, second = pool(proxy, 2)
    hold(first)
    hold(second)
    proxy.loop.advance(11.0)
    first.client(m.query("SELECT pg_sleep(100)"))
    proxy.loop.advance(100.0)
    assert exhausted(proxy) == []


def test_a_leak_that_went_on_and_is_idle_again_is_held() -> None:
    proxy = FakeProxy(flag_after=10.0)
    first, second = pool(proxy, 2)
    hold(first)
    proxy.loop.advance(11.0)
    first.ask("SELECT 1", "SELECT 1", "T")
    hold(second)
    proxy.loop.advance(21.0)
    assert exhausted(proxy) == [2]


def test_who_goes_on_puts_it_off_until_all_are_held_for_as_long_again() -> None:
    proxy = FakeProxy(flag_after=10.0)
    first, second = pool(proxy, 2)
    hold(first)
    hold(second)
    proxy.loop.advance(15.0)
    for _ in range(10):
        first.ask("SELECT 1", "SELECT 1", "T")
        proxy.loop.advance(9.0)
    assert exhausted(proxy) == []
    proxy.loop.advance(1.1)
    assert exhausted(proxy) == [2]


def test_a_transaction_that_was_rolled_back_is_not_held() -> None:
    proxy = FakeProxy(flag_after=10.0, rollback_after=15.0)
    first, second = pool(proxy, 2)
    for session in (first, second):
        session.server(m.parameter_status("server_version", "18.4"))
        hold(session)
    proxy.loop.advance(15.1)
    _, _, told = first.rollbacks[0]
    first.tracker.flow.rolled_back()
    told("")
    proxy.loop.advance(100.0)
    assert exhausted(proxy) == []


def test_a_session_that_has_ended_is_not_asked() -> None:
    proxy = FakeProxy(flag_after=10.0)
    first, second, gone = pool(proxy, 3)
    for session in (first, second):
        hold(session)
    proxy.loop.advance(15.0)
    gone.guard.stop()
    proxy.loop.advance(10.0)
    assert exhausted(proxy) == [2]


def test_a_client_that_has_gone_is_not_asked_after() -> None:
    proxy = FakeProxy(flag_after=10.0)
    sessions = pool(proxy, 2)
    for session in sessions:
        hold(session)
    proxy.loop.advance(10.1)
    for session in sessions:
        session.guard.stop()
    assert proxy.loop.pending == 0
    proxy.loop.advance(100.0)
    assert exhausted(proxy) == []


def test_nothing_is_asked_when_the_proxy_has_stopped() -> None:
    proxy = FakeProxy(flag_after=10.0)
    for session in pool(proxy, 2):
        hold(session)
    proxy.loop.advance(10.1)
    assert proxy.loop.pending == 1
    proxy.clients.stop()
    assert proxy.loop.pending == 0


def test_however_many_leaks_there_are_one_question_waits() -> None:
    proxy = FakeProxy(flag_after=10.0)
    for session in pool(proxy, 50):
        hold(session)
        proxy.loop.advance(0.1)
    proxy.loop.advance(10.0)
    assert proxy.loop.pending == 1


# Whose they are.


def test_other_clients_neither_hinder_nor_help() -> None:
    proxy = FakeProxy(flag_after=10.0)
    held = [*pool(proxy, 2, "a"), FakeSession(proxy, "b")]
    FakeSession(proxy, "c")
    for session in held:
        hold(session)
    proxy.loop.advance(100.0)
    assert exhausted(proxy) == [2]


def test_a_session_belongs_to_whom_it_calls_itself_now() -> None:
    proxy = FakeProxy(flag_after=10.0)
    first, second, renamed = pool(proxy, 3)
    renamed.name = "b"
    hold(first)
    hold(second)
    proxy.loop.advance(100.0)
    assert exhausted(proxy) == [2]
    renamed.guard.stop()
    first.name = second.name = "b"
    first.guard.stop()
    second.guard.stop()
    assert proxy.clients.sisters(FakeSession(proxy, "b").guard) == 0


class Member:
    """A session that others see."""

    def __init__(self, used_at: float, name: str = "a") -> None:
        self.client = events.Client(user="u", database="d", application_name=name, address="127.0.0.1")
        self.used_at = used_at

    def held(self, now: float) -> Held | None:
        raise AssertionError(f"nobody is to ask at {now}")


# Sisters.


def sisters_of(member: Member, *others: Member) -> tuple[int, Clients, FakeProxy]:
    proxy = FakeProxy()
    for one in (member, *others):
        proxy.clients.add(one)
    return proxy.clients.sisters(member), proxy.clients, proxy


def test_sisters_are_the_others_of_the_same_client() -> None:
    member = Member(1.0)
    count, _, _ = sisters_of(member, Member(2.0), Member(2.0), Member(2.0, "b"))
    assert count == 2


@pytest.mark.parametrize("changed", ["user", "database", "application_name", "address"])
def test_whoever_differs_in_anything_is_no_sister(changed: str) -> None:
    member, other = Member(1.0), Member(2.0)
    other.client = dataclasses.replace(other.client, **{changed: "other"})
    count, clients, _ = sisters_of(member, other)
    assert count == 0
    assert not clients.used_since(member, 1.5)


def test_only_what_others_do_counts_as_use() -> None:
    member, sister = Member(9.0), Member(2.0)
    _, clients, _ = sisters_of(member, sister, Member(9.0, "b"))
    assert clients.used_since(member, 1.9)
    assert not clients.used_since(member, 2.0)


def test_a_use_is_seen_within_a_second_or_so() -> None:
    member, sister = Member(1.0), Member(1.0)
    _, clients, proxy = sisters_of(member, sister)
    assert not clients.used_since(member, 1.0)
    sister.used_at = 5.0
    proxy.loop.advance(1.1)
    assert clients.used_since(member, 1.0)


def test_a_thousand_that_rest_do_not_ask_a_thousand_others() -> None:
    members = [Member(1.0) for _ in range(1000)]
    asked = 0

    class Counted(Member):
        @property
        def client(self) -> events.Client:
            nonlocal asked
            asked += 1
            return self._client

        @client.setter
        def client(self, client: events.Client) -> None:
            self._client = client

    counted = Counted(1.0)
    _, clients, _ = sisters_of(counted, *members)
    asked = 0
    for member in members:
        assert not clients.used_since(member, 1.0)
    assert asked == 0
