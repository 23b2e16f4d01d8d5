import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.leash.policy import Action, Limits, View, judge
from proxy.settings import NEVER
from proxy.wire.hold import Hold, HoldKind

LIMITS = Limits(flag_after=10.0, terminate_after=30.0)
AGES = Limits(flag_transaction_after=100.0, terminate_transaction_after=200.0)


def idle(since: float) -> Hold:
    return Hold(HoldKind.IDLE_IN_TRANSACTION, since)


@pytest.mark.parametrize(
    ("view", "limits", "now", "action", "wake"),
    [
        (View(None, None), LIMITS, 5.0, Action.WAIT, NEVER),
        (View(idle(0.0), 0.0), LIMITS, 5.0, Action.WAIT, 10.0),
        (View(idle(0.0), 0.0), LIMITS, 10.0, Action.FLAG, 30.0),
        (View(idle(0.0), 0.0, barred=frozenset((Action.FLAG,))), LIMITS, 10.0, Action.WAIT, 30.0),
        (View(idle(0.0), 0.0, barred=frozenset((Action.FLAG,))), LIMITS, 30.0, Action.TERMINATE, NEVER),
        (View(idle(0.0), 0.0), LIMITS, 31.0, Action.TERMINATE, NEVER),
        (View(idle(0.0), 0.0, barred=frozenset((Action.TERMINATE,))), LIMITS, 10.0, Action.FLAG, NEVER),
        (View(idle(0.0), 0.0, barred=frozenset((Action.FLAG, Action.TERMINATE))), LIMITS, 99.0, Action.WAIT, NEVER),
        (View(None, 0.0), LIMITS, 50.0, Action.WAIT, 60.0),
        (View(None, 0.0, barred=frozenset((Action.FLAG,))), LIMITS, 50.0, Action.WAIT, 80.0),
        (View(idle(60.0), 0.0), AGES, 70.0, Action.WAIT, 100.0),
        (View(None, 0.0), AGES, 100.0, Action.FLAG, 200.0),
        (View(idle(0.0), 0.0, barred=frozenset((Action.FLAG,))), AGES, 200.0, Action.TERMINATE, NEVER),
        (View(idle(0.0), 0.0), Limits(), 1e9, Action.WAIT, NEVER),
    ],
)
def test_a_verdict(view: View, limits: Limits, now: float, action: Action, wake: float) -> None:
    verdict = judge(view, limits, now)
    assert (verdict.action, verdict.wake) == (action, wake)


@pytest.mark.protocol(26, "timers on the wrong clock")
def test_the_hold_and_the_age_have_clocks_of_their_own() -> None:
    both = Limits(flag_after=10.0, terminate_transaction_after=50.0)
    assert judge(View(idle(45.0), 0.0), both, 50.0).by_age
    assert judge(View(idle(45.0), 0.0), both, 50.0).limit == 50.0
    assert not judge(View(idle(30.0), 0.0), both, 40.0).by_age


TIMES = st.floats(0.0, 1000.0)
LENGTHS = st.one_of(st.just(NEVER), st.floats(0.001, 1000.0))


ACTIONS = st.frozensets(st.sampled_from([Action.FLAG, Action.ROLL_BACK, Action.TERMINATE]))


@given(st.builds(Limits, *([LENGTHS] * len(Limits._fields))), TIMES, TIMES, st.floats(0.0, 2000.0), ACTIONS)
def test_nothing_is_done_before_its_limit_and_waking_again_is_always_later(
    limits: Limits, started: float, idle_for: float, now: float, barred: frozenset[Action]
) -> None:
    since = started + idle_for
    verdict = judge(View(idle(since), started, barred), limits, now)
    assert verdict.wake > now
    assert verdict.action not in barred
    if verdict.action is Action.FLAG:
        assert now >= min(since + limits.flag_after, started + limits.flag_transaction_after)
    if verdict.action is Action.TERMINATE:
        assert now >= min(since + limits.terminate_after, started + limits.terminate_transaction_after)
    if verdict.action is Action.ROLL_BACK:
        assert now >= since + limits.rollback_after
    if verdict.action is Action.WAIT and Action.TERMINATE not in barred:
        assert now < min(since + limits.terminate_after, started + limits.terminate_transaction_after)
    if verdict.action is Action.WAIT and Action.ROLL_BACK not in barred:
        assert now < since + limits.rollback_after
