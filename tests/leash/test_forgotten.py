"""A session that is idle outside of a transaction while its sisters are used; real servers at the end."""

import psycopg
import pytest

from proxy.demo.postgres import Postgres
from proxy.report import events
from tests import messages as m
from tests.conftest import StartProxy
from tests.harness import dsn, until
from tests.leash.fake import FakeProxy, FakeSession


def pair(proxy: FakeProxy) -> tuple[FakeSession, FakeSession]:
    """Two sessions of a client; the second has not been used for a moment."""
    idle = FakeSession(proxy)
    idle.ask("SELECT a FROM t WHERE b = 'secret'", "SELECT 1", "I")
    proxy.loop.advance(0.001)
    return FakeSession(proxy), idle


def use(session: FakeSession) -> None:
    session.ask("SELECT 1", "SELECT 1", "I")


def work(session: FakeSession, seconds: float) -> None:
    """It is used every second."""
    end = session.loop.now + seconds
    while session.loop.now < end:
        use(session)
        session.loop.advance(min(1.0, end - session.loop.now))


def names(proxy: FakeProxy) -> list[str]:
    return [event.event for event in proxy.events]


# When.


def test_a_session_whose_sister_is_used_is_forgotten_after_its_limit() -> None:
    proxy = FakeProxy(flag_idle_session_after=60.0)
    sister, _ = pair(proxy)
    work(sister, 59.9)
    assert names(proxy) == []
    work(sister, 0.2)
    (event,) = proxy.events
    assert isinstance(event, events.SessionForgotten)
    assert event.idle_s == pytest.approx(60.0, abs=0.01)
    assert (event.limit_s, event.rule, event.sisters) == (60.0, "default", 1)


def test_the_line_has_its_last_statement_without_a_literal() -> None:
    proxy = FakeProxy(flag_idle_session_after=60.0)
    sister, _ = pair(proxy)
    work(sister, 61.0)
    fields = proxy.events[0].fields()
    assert fields["session.last"] == "SELECT a FROM t WHERE b = ?"
    assert len(fields["session.last_fingerprint"]) == 16
    assert (fields["client.application_name"], fields["session.id"], fields["client.port"]) == ("a", "s-1", 1)
    assert fields["session.summary"] == (
        "a (u@d, 127.0.0.1) has left a session idle for 60.0 s since SELECT a FROM t WHERE b = ?,"
        " although its other session went on: taken from a pool and not returned?"
    )


def test_it_is_told_once_for_as_long_as_it_is_not_used() -> None:
    proxy = FakeProxy(flag_idle_session_after=60.0)
    sister, forgotten = pair(proxy)
    work(sister, 500.0)
    assert names(proxy) == ["session.forgotten"]
    use(forgotten)
    work(sister, 500.0)
    assert names(proxy) == ["session.forgotten"] * 2


def test_a_session_alone_may_rest() -> None:
    proxy = FakeProxy(flag_idle_session_after=60.0)
    use(FakeSession(proxy))
    proxy.loop.advance(1000.0)
    assert names(proxy) == []


def test_a_pool_that_goes_quiet_together_has_forgotten_none() -> None:
    proxy = FakeProxy(flag_idle_session_after=60.0, terminate_idle_session_after=600.0)
    sessions = [FakeSession(proxy) for _ in range(5)]
    for session in sessions:
        use(session)
        proxy.loop.advance(0.5)
    proxy.loop.advance(500.0)
    assert names(proxy) == []
    work(sessions[0], 10.0)
    assert names(proxy) == ["session.forgotten"] * 4


def test_what_another_client_does_is_no_use() -> None:
    proxy = FakeProxy(flag_idle_session_after=60.0)
    idle, other = FakeSession(proxy), FakeSession(proxy, "b")
    use(idle)
    for _ in range(20):
        proxy.loop.advance(10.0)
        use(other)
    assert names(proxy) == []


def test_a_session_that_was_never_used_is_forgotten_too() -> None:
    proxy = FakeProxy(flag_idle_session_after=60.0)
    FakeSession(proxy)
    work(FakeSession(proxy), 60.1)
    (event,) = proxy.events
    assert event.fields()["session.summary"] == (
        "a (u@d, 127.0.0.1) has left a session idle for 60.0 s, although its other session went on:"
        " taken from a pool and not returned?"
    )
    assert "session.last" not in event.fields()
    assert "session.last_fingerprint" not in event.fields()


# What is not idleness.


@pytest.mark.parametrize(
    "busy",
    [m.query("SELECT pg_sleep(1000)"), m.query("BEGIN"), m.run("SELECT 1") + m.FLUSH, m.SYNC],
    ids=["a statement", "a BEGIN", "a series", "a Sync"],
)
def test_who_waits_for_the_server_is_not_idle(busy: bytes) -> None:
    proxy = FakeProxy(flag_idle_session_after=60.0)
    sister, working = pair(proxy)
    working.client(busy)
    work(sister, 200.0)
    assert names(proxy) == []


def test_a_hold_is_a_leak_and_nothing_else() -> None:
    proxy = FakeProxy(flag_idle_session_after=60.0, terminate_idle_session_after=90.0, flag_after=10.0)
    sister, holding = pair(proxy)
    holding.begin()
    work(sister, 200.0)
    assert names(proxy) == ["leak.flagged"]
    assert holding.words == b""


def test_a_session_that_listens_is_not_forgotten_until_it_does_not() -> None:
    proxy = FakeProxy(flag_idle_session_after=60.0)
    sister, listening = pair(proxy)
    listening.ask("LISTEN news", "LISTEN", "I")
    for _ in range(20):
        use(sister)
        listening.server(m.NOTIFICATION)
        proxy.loop.advance(10.0)
    assert names(proxy) == []
    listening.ask("UNLISTEN news", "UNLISTEN", "I")
    work(sister, 10.0)
    work(sister, 70.0)
    assert names(proxy) == ["session.forgotten"]


def test_a_session_that_is_not_understood_is_left_alone() -> None:
    proxy = FakeProxy(terminate_idle_session_after=60.0)
    sister, opaque = pair(proxy)
    opaque.server(b"?" * 10)
    assert opaque.tracker.opaque
    work(sister, 200.0)
    assert opaque.words == b""


# Ending it.


def test_it_is_ended_with_the_words_of_postgres() -> None:
    proxy = FakeProxy(flag_idle_session_after=60.0, terminate_idle_session_after=90.0)
    sister, forgotten = pair(proxy)
    work(sister, 89.9)
    assert forgotten.words == b""
    proxy.loop.advance(0.2)
    assert names(proxy) == ["session.forgotten", "session.terminated"]
    assert proxy.events[1].fields()["session.summary"].endswith("since SELECT a FROM t WHERE b = ?, and it was ended")
    fields = {part[:1]: part[1:] for part in forgotten.words[5:].split(b"\0") if part}
    assert (fields[b"S"], fields[b"C"]) == (b"FATAL", b"57P05")
    assert fields[b"M"] == b"terminating connection due to idle-session timeout"
    assert fields[b"D"] == (b"The session was idle for 90.0 s while others of its client were used; the limit is 90s.")
    assert fields[b"H"] == b"The log of pgleash has more about session s-1."
    assert sister.words == b""


def test_ending_alone_needs_no_flag() -> None:
    proxy = FakeProxy(terminate_idle_session_after=60.0)
    sister, _ = pair(proxy)
    work(sister, 61.0)
    assert names(proxy) == ["session.terminated"]


def test_observing_spares_it_and_says_so_once() -> None:
    proxy = FakeProxy(flag_idle_session_after=60.0, terminate_idle_session_after=90.0, mode="observe")
    sister, forgotten = pair(proxy)
    work(sister, 300.0)
    assert names(proxy) == ["session.forgotten", "session.spared"]
    assert proxy.events[1].fields()["session.reason"] == "observe"
    assert proxy.events[1].fields()["session.summary"].endswith("; it would have been ended (mode is observe)")
    assert forgotten.words == b""


def test_a_budget_that_is_spent_spares_it_until_it_is_free() -> None:
    proxy = FakeProxy(terminate_idle_session_after=60.0, actions_per_minute=1)
    assert proxy.terms.budget.take(proxy.loop.now + 45)
    sister, forgotten = pair(proxy)
    work(sister, 104.0)
    assert names(proxy) == ["session.spared"]
    assert proxy.events[0].fields()["session.summary"].endswith("; it was to be ended, but actions_per_minute is spent")
    assert forgotten.words == b""
    proxy.loop.advance(2.0)
    assert names(proxy) == ["session.spared", "session.terminated"]


def test_who_is_used_before_the_budget_is_free_again_stays() -> None:
    proxy = FakeProxy(terminate_idle_session_after=60.0, actions_per_minute=1)
    assert proxy.terms.budget.take(proxy.loop.now + 45)
    sister, forgotten = pair(proxy)
    work(sister, 70.0)
    use(forgotten)
    proxy.loop.advance(50.0)
    assert forgotten.words == b""


# Which limits.


def test_a_rule_has_limits_of_its_own() -> None:
    rule = {"match": {"application_name": "b"}, "name": "the patient", "flag_idle_session_after": 300.0}
    proxy = FakeProxy(flag_idle_session_after=60.0, terminate_idle_session_after=90.0, rules=[rule])
    patient, sister = FakeSession(proxy, "b"), FakeSession(proxy, "b")
    proxy.loop.advance(0.001)
    work(sister, 89.0)
    assert names(proxy) == []
    patient.name = sister.name = "c"  # from now on the rule is not about them
    work(sister, 2.0)
    assert names(proxy)[-1] == "session.terminated"


def test_the_line_names_the_rule() -> None:
    rule = {"match": {"application_name": "a"}, "name": "mine", "flag_idle_session_after": 30.0}
    proxy = FakeProxy(rules=[rule])
    sister, _ = pair(proxy)
    work(sister, 31.0)
    assert proxy.events[0].fields()["session.rule"] == "mine"


def test_new_limits_hold_at_once() -> None:
    proxy = FakeProxy()
    sister, forgotten = pair(proxy)
    work(sister, 100.0)
    proxy.terms.change(proxy.settings(flag_idle_session_after=60.0))
    for session in (sister, forgotten):
        session.guard.reconsider()
    proxy.loop.advance(1.0)
    assert names(proxy) == ["session.forgotten"]
    assert proxy.loop.pending <= 2


def test_without_these_limits_nobody_wakes_for_it() -> None:
    proxy = FakeProxy(flag_after=10.0)
    sister, _ = pair(proxy)
    work(sister, 11.0)
    assert proxy.loop.pending == 0


# With a real server.

SOON = "0.3s"


def rest(start_proxy: StartProxy, postgres: Postgres, **limits: str) -> tuple[object, psycopg.Connection]:
    """Two sessions of a client, of which only the second is used, until something is told of the first."""
    proxy = start_proxy(**limits)
    forgotten = psycopg.connect(dsn(proxy, postgres, application_name="pool"), autocommit=True)
    forgotten.execute("SELECT 'a secret'")
    with psycopg.connect(dsn(proxy, postgres, application_name="pool"), autocommit=True) as sister:

        def told() -> bool:
            sister.execute("SELECT 1")
            return bool(proxy.recorder.of(events.IdleSession))

        until(told, what="nobody was forgotten")
    (event,) = proxy.recorder.of(events.IdleSession)
    assert event.session.client.application_name == "pool"
    assert event.session.backend_pid == forgotten.info.backend_pid
    assert event.last == "SELECT ?"
    assert event.idle_s == pytest.approx(0.3, abs=0.25)
    return event, forgotten


def test_a_forgotten_session_is_told_of_and_works_on(start_proxy: StartProxy, postgres: Postgres) -> None:
    event, forgotten = rest(start_proxy, postgres, flag_idle_session_after=SOON)
    assert isinstance(event, events.SessionForgotten)
    with forgotten:
        assert forgotten.execute("SELECT 1").fetchone() == (1,)


def test_a_forgotten_session_is_ended_as_postgres_would(start_proxy: StartProxy, postgres: Postgres) -> None:
    event, forgotten = rest(start_proxy, postgres, terminate_idle_session_after=SOON)
    assert isinstance(event, events.SessionTerminated)
    pid = forgotten.info.backend_pid
    with pytest.raises(psycopg.errors.IdleSessionTimeout) as caught:
        forgotten.execute("SELECT 1")
    forgotten.close()
    assert caught.value.diag.message_primary == "terminating connection due to idle-session timeout"
    with psycopg.connect(postgres.dsn(), autocommit=True) as judge:

        def ended() -> bool:
            return judge.execute("SELECT FROM pg_stat_activity WHERE pid = %s", [pid]).fetchone() is None

        until(ended, what="its backend is still there")
