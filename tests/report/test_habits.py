"""Habits: percentiles and counts held against a sorted list, and what they may cost."""

import random
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.report.advice import Advice
from proxy.report.events import Client
from proxy.report.habits import ACCURACY, AT_A_TIME, LONGEST, MAX_CLIENTS, MAX_KEYS, AllHabits, Habits

DAY = 24 * 3600.0
YEAR = 366 * DAY
HALF = 0.000_500_1  # seconds: lengths are counted to the nearest millisecond


def client(name: str = "app") -> Client:
    return Client(user="u", database="d", application_name=name, address="10.0.0.1")


def habits(*holds: float, committed: bool = True) -> Habits:
    made = AllHabits().of(client())
    for hold in holds:
        made.ended(hold, 2 * hold, committed=committed)
    return made


def advice(*holds: float) -> Advice:
    given = habits(*holds).advice(client())
    assert given is not None
    return given


def nearest_rank(lengths: list[float], thousandths: int) -> float:
    """The shortest length that so many of a thousand do not exceed, from all of them."""
    return sorted(lengths)[-(-len(lengths) * thousandths // 1000) - 1]


def near(length: float) -> object:
    return pytest.approx(length, abs=ACCURACY * length + 2 * HALF)  # each length and the answer are rounded


# Percentiles.

# From less than a millisecond to a day, as often short as long.
LENGTHS = st.floats(min_value=-4, max_value=4.9).map(lambda power: float(10**power))


@settings(max_examples=200, deadline=None)
@given(holds=st.lists(LENGTHS, min_size=1, max_size=MAX_KEYS * 3))
def test_percentiles_are_those_of_the_sorted_list(holds: list[float]) -> None:
    told = advice(*holds)
    assert told.transactions == len(holds)
    for lengths, exact in ((told.holds, holds), (told.ages, [2 * hold for hold in holds])):
        assert lengths.p50 == near(nearest_rank(exact, 500))
        assert lengths.p99 == near(nearest_rank(exact, 990))
        assert lengths.p999 == near(nearest_rank(exact, 999))
        assert lengths.longest == pytest.approx(max(exact), abs=HALF)
        assert lengths.p50 <= lengths.p99 <= lengths.p999 <= lengths.longest


@pytest.mark.parametrize("count", [999, 1000, 1001, 20_000])
def test_percentiles_of_many_transactions_are_those_of_the_sorted_list(count: int) -> None:
    chance = random.Random(count)  # noqa: S311 - lengths like those of real transactions, the same every time
    holds = [chance.lognormvariate(-4, 2) for _ in range(count)]
    told = advice(*holds).holds
    assert told.p50 == near(nearest_rank(holds, 500))
    assert told.p99 == near(nearest_rank(holds, 990))
    assert told.p999 == near(nearest_rank(holds, 999))


def test_of_a_few_transactions_the_longest_stands_for_the_rarest() -> None:
    told = advice(*[0.010] * 48, 3.217, 7.654).holds
    assert (told.p50, told.p99, told.p999, told.longest) == (0.010, 7.654, 7.654, 7.654)


def test_of_a_thousand_transactions_one_may_be_longer_than_the_rarest() -> None:
    assert advice(*[0.010] * 999, 7.654).holds.p999 == 0.010
    assert advice(*[0.010] * 998, 7.654).holds.p999 == 7.654


def test_a_rank_is_not_lost_to_rounding() -> None:
    count = 32_930  # the first at which the rank of p99, divided by count - 1 and multiplied again, becomes less
    rank = count * 99 // 100
    told = advice(*[0.01] * rank, *[5.0] * (count - rank)).holds
    assert told.p99 == near(5.0)


def test_asking_changes_nothing() -> None:
    made = habits(0.1, 0.2)
    first = made.advice(client())
    assert made.advice(client()) == first
    made.ended(0.3, 0.6, committed=True)
    third = made.advice(client())
    assert third == advice(0.1, 0.2, 0.3)


def test_lengths_beyond_what_is_kept_count_as_its_ends() -> None:
    told = advice(-0.5, -0.2, 0.1, 2 * YEAR).holds
    assert (told.p50, told.longest, LONGEST) == (0.0, YEAR, 1000 * YEAR)


# What a limit would have done.


def trials(made: Habits) -> dict[float, tuple[int, int]]:
    told = made.advice(client())
    assert told is not None
    return {trial.limit_s: (trial.ended, trial.committed) for trial in told.trials}


def test_a_limit_ends_what_is_longer_by_a_millisecond() -> None:
    made = habits(0.999, 1.0, 1.001, 4.999, 5.0, 5.001, 59.999, 60.0, 60.001)
    assert trials(made) == {
        limit: (ended, ended) for limit, ended in ((1, 7), (5, 4), (10, 3), (30, 3), (60, 1), (300, 0))
    }


def test_only_what_committed_counts_as_committed() -> None:
    made = habits(0.5, 2.0, 7.0)
    for hold in (0.5, 3.0, 4.0, 12.0):
        made.ended(hold, hold, committed=False)
    assert trials(made) == {1: (5, 2), 5: (2, 1), 10: (1, 0), 30: (0, 0), 60: (0, 0), 300: (0, 0)}


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 400_000), st.booleans()), min_size=1, max_size=MAX_KEYS * 4))
def test_what_a_limit_would_have_done_is_counted_exactly(ended: list[tuple[int, bool]]) -> None:
    made = habits()
    for milliseconds, committed in ended:
        made.ended(milliseconds / 1000, milliseconds / 1000, committed=committed)
    for limit, counts in trials(made).items():
        past = [committed for milliseconds, committed in ended if milliseconds > 1000 * limit]
        assert counts == (len(past), sum(past))


# By client.


def test_a_client_has_the_same_habits_in_each_of_its_sessions() -> None:
    known = AllHabits()
    known.of(client("a")).ended(0.1, 0.1, committed=True)
    known.of(client("b")).ended(0.1, 0.1, committed=True)
    known.of(client("a")).ended(0.1, 0.1, committed=True)
    known.of(client("nothing ended yet"))
    assert {told.client.application_name: told.transactions for told in known.advice()} == {"a": 2, "b": 1}


def test_others_may_have_their_turn_between_two_clients() -> None:
    known = AllHabits()
    for name in ("a", "b"):
        known.of(client(name)).ended(0.1, 0.1, committed=True)
    each = iter(known)
    assert next(each).client == client("a")
    known.of(client("c")).ended(0.1, 0.1, committed=True)
    assert [told.client for told in each] == [client("b")]


def test_of_too_many_clients_those_go_that_were_quiet_longest() -> None:
    known = AllHabits()
    for number in range(MAX_CLIENTS + AT_A_TIME):
        known.of(client(str(number))).ended(0.1, 0.1, committed=True)
    kept = known.of(client("0"))
    kept.ended(0.1, 0.1, committed=True)  # so that 1 has been quiet longest
    known.of(client("new")).ended(0.1, 0.1, committed=True)
    names = [told.client.application_name for told in known.advice()]
    assert len(names) == MAX_CLIENTS + 1 == 1001
    assert {"0", "new", str(AT_A_TIME + 1)} <= set(names)
    assert not {str(number) for number in range(1, AT_A_TIME + 1)} & set(names)
    assert known.of(client("0")) is kept


CONSTANT = [0.01] * 6000
ALL = [10 ** random.Random(seed).uniform(-4, 5.5) for seed in range(6000)]  # noqa: S311 - the same every time


@pytest.mark.parametrize(("holds", "ages"), [(ALL, ALL[::-1]), (CONSTANT, ALL), (ALL, CONSTANT)])
@pytest.mark.parametrize("committed", [True, False])
def test_a_client_takes_no_more_memory_however_many_transactions_it_has(
    holds: list[float], ages: list[float], committed: bool
) -> None:
    made = habits()
    tracemalloc.start()
    try:
        for hold, age in zip(holds, ages, strict=True):
            made.ended(hold, age, committed=committed)
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert taken < 100_000  # bytes; several times as much without a bound
