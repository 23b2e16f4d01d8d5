"""Nothing may differ: whoever talks to Postgres through pgleash gets what Postgres says."""

import pytest

from tests.conformance.conftest import TABLE, skipped
from tests.conformance.known import EXPLAINED
from tests.conformance.runs import LIMITS, Comparison, Runs
from tests.conformance.server import installed
from tests.conformance.suite import Suite, count
from tests.servers.npm import Unavailable

DIFFERING: dict[str, dict[str, str]] = {}  # by suite and test: what is to be said of it


@pytest.mark.timeout(0)  # a suite has a deadline of its own
@pytest.mark.parametrize("limits", LIMITS)
def test_a_suite_ends_as_it_does_without_us(suite: Suite, limits: str, runs: Runs) -> None:
    try:
        installed()
        suite.prepare()
    except Unavailable as reason:
        skipped.append(suite.name)
        pytest.skip(f"{suite.name}: {reason}")
    found = runs.compare(suite, LIMITS[limits])
    _record(suite, limits, found)
    print(f"{suite.name} {limits}: {count(found.through.outcomes)}; {dict(found.through.events)}")  # noqa: T201 - what a long run shows
    unexplained = [name for name in found.lasting if name not in EXPLAINED]
    assert not unexplained, {
        name: (found.direct.outcomes.get(name), found.through.outcomes.get(name)) for name in unexplained
    }
    assert not found.through.faults


def _record(suite: Suite, limits: str, found: Comparison) -> None:
    TABLE.record(suite.name, "tests", str(len(found.direct.outcomes)))
    TABLE.record(suite.name, "directly", count(found.direct.outcomes))
    TABLE.record(suite.name, limits, count(found.through.outcomes))
    notes = DIFFERING.setdefault(suite.name, {})
    notes |= {name: EXPLAINED.get(name, f"{limits}, each time") for name in found.lasting}
    notes |= {name: EXPLAINED.get(name, f"{limits}, in one run of two") for name in found.passing}
    TABLE.record(suite.name, "differing", "; ".join(f"`{name}`: {why}" for name, why in notes.items()) or "none")
