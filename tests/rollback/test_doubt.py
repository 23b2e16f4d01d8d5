"""What is not safe is spared, what is in doubt is ended, and what was rolled back is told once."""

from collections.abc import Callable

import pytest

from proxy.demo.postgres import Postgres
from proxy.report.events import LeakRolledBack, LeakSpared, LeakTerminated
from tests import messages as m
from tests.conftest import StartProxy
from tests.harness import Proxy, dsn, until
from tests.rawclient import RawClient, fields
from tests.rollback.support import LIMITS, OWED, bound, kinds, leak, one, states

# Doubt, and what is not safe.


@pytest.mark.parametrize("how", ["savepoint", "flush"])
def test_a_series_without_sync_is_spared(proxy: Proxy, client: RawClient, how: str) -> None:
    client.query("BEGIN")
    if how == "savepoint":
        client.query("SAVEPOINT a")
    client.send(bound("SELECT 1") + m.FLUSH)
    client.receive_until("C")
    event = proxy.recorder.wait(LeakSpared)
    assert (event.action, event.reason, event.flagged) == ("rollback", "unsafe", True)
    assert event.detail == "messages were sent and no Sync behind them"
    client.send(m.SYNC)
    client.receive_until("Z")
    assert proxy.recorder.wait(LeakRolledBack).leak.id == event.leak.id


def test_half_a_message_is_spared(proxy: Proxy, client: RawClient) -> None:
    client.query("BEGIN")
    client.send(m.query("SELECT 1")[:7])
    assert proxy.recorder.wait(LeakSpared).detail == "a message was begun and not ended"
    client.send(m.query("SELECT 1")[7:])
    assert kinds(client.receive_until("Z")) == "TDCZ"
    proxy.recorder.wait(LeakRolledBack)


def test_a_chain_that_nobody_saw_coming_ends_the_session(proxy: Proxy, client: RawClient) -> None:
    leak(client, proxy)
    client.send(bound("COMMIT AND CHAIN") + m.SYNC)
    messages = client.everything()
    assert [fields(message)["S"] for message in messages if message.kind == "E"][-1] == "FATAL"
    event = proxy.recorder.wait(LeakTerminated)
    assert event.rolled_back
    assert "state" in event.detail


def test_a_second_limit_ends_a_session_that_stays(start_proxy: StartProxy, postgres: Postgres) -> None:
    proxy = start_proxy(**LIMITS, terminate_after="500ms")
    with RawClient(dsn(proxy, postgres)) as client:
        event = leak(client, proxy)
        (last,) = client.everything()
        assert (fields(last)["S"], fields(last)["C"]) == ("FATAL", OWED)
    terminated = proxy.recorder.wait(LeakTerminated)
    assert (terminated.leak.id, terminated.rolled_back, terminated.flagged) == (event.leak.id, True, False)
    assert 0.5 <= terminated.leak.held_s < 0.7
    (account,) = dict(proxy.reporter.ledger).values()
    assert (account.leaks, account.open, account.rolled_back, account.terminated) == (1, 0, 1, 1)


@pytest.mark.parametrize("how", ["close", "reset"])
def test_a_client_that_leaves_after_it_has_abandoned_nothing(
    proxy: Proxy, client: RawClient, postgres: Postgres, how: str
) -> None:
    leak(client, proxy)
    leave: Callable[[], None] = client.close if how == "close" else client.reset
    leave()
    proxy.settle()
    gone = "SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = %s"
    until(lambda: one(postgres, gone, client.backend_pid), 2.0, "the backend is still there")
    assert [event for _, event in proxy.recorder.events if event.event == "leak.abandoned"] == []


def test_somebody_may_ask_for_it_by_hand(start_proxy: StartProxy, postgres: Postgres) -> None:
    proxy = start_proxy(flag_after="never", mode="observe", actions_per_minute="1")
    with RawClient(dsn(proxy, postgres)) as client:
        session = proxy.session_of(client.backend_pid)
        assert proxy.ask(lambda: proxy.server.find(session.id)) is session
        enforcer = session.guard.enforcer
        assert proxy.ask(lambda: enforcer.roll_back("ann")) == "no transaction is idle"
        for _ in range(2):  # what somebody asks for is not counted
            client.query("BEGIN")
            assert proxy.ask(lambda: enforcer.roll_back("ann")) == ""
            until(lambda: not proxy.ask(lambda: enforcer.rolling_back))
            assert states(client.query("COMMIT")) == [OWED]
        client.query("BEGIN")
        proxy.call(lambda: enforcer.terminate("bob"))
        (last,) = client.everything()
        assert (fields(last)["S"], fields(last)["C"]) == ("FATAL", "57P01")
    assert proxy.recorder.wait(LeakTerminated).asked_by == "bob"
    assert [event.asked_by for event in proxy.recorder.of(LeakRolledBack)] == ["ann", "ann"]
    proxy.settle()
    assert proxy.ask(lambda: proxy.server.find(session.id)) is None
