"""Cases that were found, and some seconds of new ones; `make fuzz` looks for more."""

from collections.abc import Iterator

import pytest

from tests.fuzz.case import Case, found, read, seeds, valid, write
from tests.fuzz.fuzz import Fuzz
from tests.fuzz.sockets import Relay
from tests.fuzz.targets import CHECKS

STEPS = 300


@pytest.fixture(scope="module")
def relay() -> Iterator[Relay]:
    with Relay() as relay:
        yield relay


@pytest.mark.parametrize(("name", "case"), found().items(), ids=found())
def test_a_case_that_was_found(relay: Relay, name: str, case: Case) -> None:
    (CHECKS | {"sockets": relay.check})[name.partition("-")[0]](case)


@pytest.mark.parametrize("check", CHECKS)
def test_what_is_valid_is_no_problem(check: str) -> None:
    for case in valid():
        CHECKS[check](case)


def test_a_case_can_be_written_and_read() -> None:
    for case in seeds():
        assert read(write(case)) == tuple(chunk for chunk in case if chunk.data)


def test_what_is_valid_arrives(relay: Relay) -> None:
    for case in valid():
        relay.check(case)


def test_new_cases(relay: Relay) -> None:
    fuzz = Fuzz(1, relay)
    for _ in range(STEPS):
        fuzz.step()
    assert fuzz.failures == {}
    assert fuzz.reached > 20  # else it does not get anywhere
