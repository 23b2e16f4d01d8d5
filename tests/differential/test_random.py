"""Random scripts, one or two at once, cut in random pieces: directly and through the proxy they get the same."""

import os
import random
from collections import Counter
from collections.abc import Callable
from typing import Final

import pytest
from hypothesis import HealthCheck, given, note, reject, settings
from hypothesis import strategies as st

from tests.differential.author import write
from tests.differential.compare import compare, is_its_own_fault, play_directly
from tests.differential.ground import Ground, faults
from tests.differential.player import Manner
from tests.differential.script import Script
from tests.rawclient import now

MINUTES: Final = float(os.environ.get("DIFFERENTIAL_MINUTES", "0"))  # for each server: make differential
EXAMPLES: Final = 40
FEW: Final = 15
PLAYED: Final[Counter[str]] = Counter()

manners = st.builds(
    Manner,
    largest=st.sampled_from((0, 1, 7, 40, 1000)),
    seed=st.integers(0, 99),
    waits=st.booleans(),
    patient=st.sampled_from((True, True, True, False)),
)


def play_one_or_two(ground: Ground, choices: list[random.Random], data: st.DataObject, turns: int) -> None:
    scripts = [written(ground, number, choose) for number, choose in enumerate(choices)]
    ways = [data.draw(manners) for _ in scripts]
    for script, manner in zip(scripts, ways, strict=True):
        note(f"# {manner}, turns={turns}\n{script}")
    direct = [play_directly(ground, script, number) for number, script in enumerate(scripts)]
    found = compare(ground, scripts, direct, ways, turns)
    PLAYED["scripts"] += len(scripts)
    if found and any(is_its_own_fault(ground, *each) for each in zip(scripts, direct, ways, range(2), strict=False)):
        PLAYED["that differ from themselves"] += 1
        reject()
    assert found is None
    assert faults(ground.proxy) == []


def written(ground: Ground, number: int, choose: random.Random) -> Script:
    try:
        return write(ground, number, choose)
    except AssertionError:
        PLAYED["that ended the server"] += 1
        ground.recover()
        reject()


def play_random(given_scripts: Callable[[Ground], None], ground: Ground, played: Counter[str]) -> None:
    """Play what Hypothesis makes up, once or for so many minutes; most of it has to be worth it."""
    examples = EXAMPLES if ground.is_first or MINUTES else FEW
    run = settings(
        max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck), derandomize=not MINUTES
    )(given_scripts)
    played.clear()
    end = now() + MINUTES * 60
    run(ground)
    while now() < end:
        run(ground)
    print(", ".join(f"{count} {what}" for what, count in played.items()))  # noqa: T201 - `make differential` shows it
    assert played["scripts"] > sum(played.values()) / 2, "too many were in vain"


@pytest.mark.timeout(0 if MINUTES else 600)  # to make a failing script small takes its time
def test_random_scripts(ground: Ground) -> None:
    given_scripts = given(
        choices=st.lists(st.randoms(), min_size=1, max_size=2), data=st.data(), turns=st.integers(0, 99)
    )(play_one_or_two)
    play_random(given_scripts, ground, PLAYED)
