"""What a run asks for, and what becomes of what it finds."""

import pytest

from tests.compatibility import Section, Table
from tests.conformance import drivers, postgres
from tests.conformance.runs import LIMITS, Runs
from tests.conformance.suite import Suite

SUITES: list[Suite] = [*postgres.SUITES, *drivers.SUITES]
TABLE = Table("", "suite", ["tests", "directly", *LIMITS, "differing"])
skipped: list[str] = []


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--suites", default="", help='those with one of these words in their names, as in "isolation pq"')


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "suite" in metafunc.fixturenames:
        words = metafunc.config.getoption("--suites").split()
        chosen = [suite for suite in SUITES if not words or any(word in suite.name for word in words)]
        metafunc.parametrize("suite", chosen, ids=lambda suite: suite.name)


@pytest.fixture(scope="session")
def runs() -> Runs:
    return Runs()


def pytest_sessionfinish(session: pytest.Session) -> None:
    Section("suites", session.config.rootpath / "tests" / "conformance", TABLE).finish(
        session, complete=not (session.config.getoption("--suites") or skipped)
    )
