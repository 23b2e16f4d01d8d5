"""Advice: the limit that fits, when it may be given, and how it is told."""

import dataclasses
import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.report.advice import (
    ENOUGH,
    NOTHING,
    STEPS,
    TRIALS_HEAD,
    TRIED,
    Advice,
    advice_table,
    as_json,
    from_json,
    suggest,
)
from proxy.report.events import Client
from proxy.report.habits import ACCURACY, AllHabits
from proxy.report.table import MAX_TEXT, length_text
from proxy.settings import duration_text
from proxy.settings.values import parse_duration


def client(name: str = "app", **other: str) -> Client:
    return Client(**{"user": "u", "database": "d", "application_name": name, "address": "10.0.0.1"} | other)


def advice(*holds: float, of: Client | None = None, committed: bool = True) -> Advice:
    known = AllHabits()
    for hold in holds:
        known.of(of or client()).ended(hold, 2 * hold, committed=committed)
    (told,) = known.advice()
    return told


# The limit that fits.

FITS = {  # the 99.9th percentile of holds, and the limit
    0.0: "2s",
    0.2: "2s",
    0.95: "2s",
    1.0: "5s",
    2.3: "5s",
    2.4: "10s",
    9.0: "20s",
    10.0: "30s",
    25.0: "60s",
    50.0: "2m",
    65.0: "5m",
    270.0: "10m",
    900.0: "1h",
    24 * 3600.0: "48h",
}


@pytest.mark.parametrize("p999", FITS)
def test_a_limit_is_a_figure_that_people_write_above_twice_the_holds(p999: float) -> None:
    assert duration_text(suggest(p999)) == FITS[p999]


@pytest.mark.parametrize("p999", [0.2, 1.0, 9.0])
def test_the_error_of_the_histogram_does_not_change_the_limit(p999: float) -> None:
    assert len({suggest(p999 * error) for error in (1 - ACCURACY, 1, 1 + ACCURACY)}) == 1


def test_each_step_can_be_written_as_an_option() -> None:
    assert list(STEPS) == sorted(set(STEPS))
    assert [parse_duration(duration_text(step)) for step in STEPS] == list(STEPS)


@given(st.floats(min_value=0, max_value=20 * 3600))
def test_a_limit_is_twice_the_holds_and_not_more_than_six_times_unless_it_is_the_shortest(p999: float) -> None:
    limit = suggest(p999)
    assert limit >= 2 * p999
    assert limit == STEPS[0] or limit < 6 * p999


def test_advice_is_about_the_rarest_holds_and_not_about_ages() -> None:
    known = AllHabits()
    for number in range(ENOUGH):
        known.of(client()).ended(1.0 if number % 500 == 0 else 0.01, 500.0, committed=True)
    (told,) = known.advice()
    assert (told.suggested_s, told.holds.p999) == (5.0, 1.0)
    assert told.ages.p50 == pytest.approx(500, rel=ACCURACY)


@pytest.mark.parametrize(("hold", "own_rule"), [(0.1, False), (59.0, False), (61.0, True), (3000.0, True)])
def test_minutes_of_holds_are_for_a_rule_of_its_own(hold: float, own_rule: bool) -> None:
    told = advice(hold)
    assert told.own_rule is own_rule
    assert ("a rule of its own" in advice_table([told])) is own_rule


def test_a_few_transactions_are_not_enough_to_speak_of_one_in_a_thousand() -> None:
    assert advice(*[0.01] * (ENOUGH - 1)).enough is False
    assert advice(*[0.01] * ENOUGH).enough is True
    assert 0.999**ENOUGH < 0.05 < 0.999 ** (ENOUGH - 10)  # what ENOUGH stands for


@pytest.mark.parametrize(("hold", "limits"), [(0.01, {2.0, *TRIED}), (2.0, {*TRIED}), (9.0, {20.0, *TRIED})])
def test_some_limits_and_the_one_that_fits_are_tried(hold: float, limits: set[float]) -> None:
    assert [trial.limit_s for trial in advice(hold).trials] == sorted(limits)


# JSON.

SOME = [advice(0.001), advice(*[7.5] * 400, of=client("b", address="")), advice(333.3, committed=False)]


def test_advice_comes_back_from_json_as_it_was() -> None:
    assert from_json(json.loads(json.dumps(as_json(SOME)))) == SOME
    assert from_json(as_json([])) == []


def test_its_json_has_everything_by_name() -> None:
    (raw,) = as_json([advice(1.5)])
    lengths = {"p50": 1.5, "p99": 1.5, "p999": 1.5, "longest": 1.5}
    assert raw | {"trials": len(raw["trials"])} == {
        "client": {"user": "u", "database": "d", "application_name": "app", "address": "10.0.0.1"},
        "transactions": 1,
        "holds": lengths,
        "ages": {name: 2 * length for name, length in lengths.items()},
        "suggested_s": 5.0,
        "own_rule": False,
        "enough": False,
        "trials": len(TRIED),
    }
    assert raw["trials"][0] == {"limit_s": 1.0, "ended": 1, "committed": 1}


def test_a_key_of_a_later_version_is_left_out() -> None:
    (raw,) = as_json(SOME[:1])
    assert from_json([raw | {"weather": "fine"}]) == SOME[:1]


def without(name: str) -> dict[str, Any]:
    (raw,) = as_json(SOME[:1])
    return {key: value for key, value in raw.items() if key != name}


@pytest.mark.parametrize("raw", [None, {}, [1], [{}], [without("holds")], [without("client")]])
def test_what_is_no_advice_is_refused(raw: object) -> None:
    with pytest.raises(ValueError, match="validation error"):
        from_json(raw)


# The table.

LENGTHS = {
    0.0: "<1ms",
    0.0004: "<1ms",
    0.001: "1ms",
    0.21: "210ms",
    0.9994: "999ms",
    0.9996: "1.0s",
    1.44: "1.4s",
    9.949: "9.9s",
    9.951: "10s",
    31.2: "31s",
    119.4: "119s",
    119.6: "2m00s",
    130.0: "2m10s",
    3599.4: "59m59s",
    3599.6: "1h00m",
    3900.0: "1h05m",
    86_400.0: "24h00m",
}


@pytest.mark.parametrize("length", LENGTHS)
def test_a_length_is_told_with_as_many_digits_as_matter(length: float) -> None:
    assert length_text(length) == LENGTHS[length]


def test_the_table_says_what_is_known_of_a_client() -> None:
    known = AllHabits()
    billing = known.of(client("billing", user="billing", database="shop"))
    for number in range(12_000):
        billing.ended(0.004, 0.008, committed=True)
        if number % 500 == 0:
            billing.ended(2.0, 3.0, committed=number > 6000)
    assert advice_table(known.advice()).split("\n") == [
        "client                            transactions  length of     p50  p99  p99.9  longest  limit",
        "billing (billing@shop, 10.0.0.1)        12,024  holds         4ms  4ms   2.0s     2.0s     5s",
        "                                                transactions  8ms  8ms   3.0s     3.0s",
        "",
        TRIALS_HEAD,
        "",
        "billing (billing@shop, 10.0.0.1)",
        "  limit            1s  [5s]  10s  30s  60s  5m",
        "  ended            24     0    0    0    0   0",
        "  committed later  11     0    0    0    0   0",
    ]


def test_a_guess_is_marked_as_one() -> None:
    told = advice_table([advice(0.01, 0.02)])
    assert re.search(r" 2s\?$", told, re.MULTILINE)
    assert "2 transactions say little: a 99.9th percentile needs 3,000 of them, so the limit is a guess" in told
    assert "one transaction says little" in advice_table([advice(0.01)])
    assert "1,200 transactions say little" in advice_table([advice(*[0.01] * 1200)])
    sure = advice_table([advice(*[0.01] * ENOUGH)])
    assert "?" not in sure
    assert "little" not in sure


def test_limits_that_would_have_ended_nothing_are_said_in_a_word() -> None:
    told = advice_table([advice(0.9)])
    assert told.endswith("\n  no limit from 1s on would have ended anything")


def test_who_holds_longest_comes_first() -> None:
    held = {"short": 0.1, "long": 30.0, "mid": 2.0}
    table = advice_table(advice(hold, of=client(name)) for name, hold in held.items())
    assert re.findall(r"^(long|mid|short)", table, re.MULTILINE) == ["long", "mid", "short"] * 2


def test_the_table_fits_a_terminal() -> None:
    length = dataclasses.replace(SOME[0].holds, p50=86_400, p99=86_400, p999=86_400, longest=86_400)
    widest = dataclasses.replace(
        SOME[0],
        client=client("x" * 63, address=""),
        transactions=10**8,
        holds=length,
        ages=length,
        suggested_s=1800.0,
        trials=tuple(dataclasses.replace(trial, ended=10**8, committed=10**8) for trial in SOME[0].trials),
    )
    lines = advice_table([widest]).split("\n")
    assert max(map(len, lines)) <= 120
    assert lines[1].startswith("x" * (MAX_TEXT - 1) + "…  ")
    assert lines[6] == f"{'x' * 63} (u@d, local)"  # in full where there is room


def test_without_transactions_there_is_nothing_to_say() -> None:
    assert advice_table([]) == NOTHING
