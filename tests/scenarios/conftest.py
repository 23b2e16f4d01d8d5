"""Two servers of each version, what is recorded of them, and where it is written."""

import contextlib
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import pytest

from tests.compatibility import Section, Table, outcome_of
from tests.life.conftest import start_trusting
from tests.servers.npm import VERSIONS, Unavailable
from tests.servers.server import RealPostgres

__all__ = ["start_trusting"]

# In the order of the columns; each is the GROUP of a module here.
GROUPS = (
    "holds",
    "no false alarms",
    "tracker",
    "protocol and cancel",
    "TLS and SCRAM",
    "replication",
    "clients end",
    "server ends",
)
outcomes = Table("What was tested", "Postgres", columns=GROUPS)
differences = Table(
    "What differs, and is the same through pgleash", "", [str(major) for major in VERSIONS], only_differences=True
)
section = Section("versions", Path(__file__).parent, outcomes, differences)
TRUST = "host all all 127.0.0.1/32 trust"
exact: dict[int, str] = {}  # by major version, what the server calls its own

Differs = Callable[[str, str], None]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--versions", default="", help='major versions to test, as in "13 18"; all that there are')


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "major" in metafunc.fixturenames:
        chosen = [int(major) for major in metafunc.config.getoption("--versions").split()]
        metafunc.parametrize("major", chosen or list(VERSIONS), scope="session")


@contextlib.contextmanager
def running(major: int, *rules: str, tls: bool = True) -> Iterator[RealPostgres]:
    """A server of this version; the test is skipped where it cannot be had."""
    with contextlib.ExitStack() as stack:
        try:
            server = stack.enter_context(RealPostgres(major, tls=tls, hba=rules or None))
        except Unavailable as reason:
            pytest.skip(f"Postgres {major}: {reason}")
        yield server


@pytest.fixture(scope="session")
def postgres(major: int) -> Iterator[RealPostgres]:
    """The server of this version: in place of the suite's usual one, so that its tests serve here, too."""
    with running(major) as server, server.connect() as connection:
        exact[major] = connection.info.parameter_status("server_version") or str(major)
        yield server


@pytest.fixture(scope="session")
def trusting(major: int) -> Iterator[RealPostgres]:
    """A server of this version that asks nobody for a password."""
    with running(major, TRUST) as server:
        yield server


@pytest.fixture
def differs(major: int) -> Differs:
    """Records something of this version that is not the same in all."""
    return lambda what, how: differences.record(what, str(major), how)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    outcome = outcome_of(report)
    if outcome and isinstance(item, pytest.Function) and hasattr(item, "callspec"):
        group, major = getattr(item.module, "GROUP", None), item.callspec.params.get("major")
        if group and major in exact:
            outcomes.record_outcome(exact[major], group, outcome)
    return report


def pytest_sessionfinish(session: pytest.Session) -> None:
    section.finish(session, complete=list(exact) == list(VERSIONS))
