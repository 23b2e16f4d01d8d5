"""One server of each version, in the order of the versions."""

import contextlib
from collections.abc import Iterator

import pytest

from tests.servers.npm import VERSIONS, Unavailable
from tests.servers.server import RealPostgres


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--versions", default="", help='major versions to test, as in "13 18"; all that there are')


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "postgres" in metafunc.fixturenames:
        chosen = [int(major) for major in metafunc.config.getoption("--versions").split()]
        metafunc.parametrize("postgres", chosen or list(VERSIONS), indirect=True, scope="session")


@pytest.fixture(scope="session")
def postgres(request: pytest.FixtureRequest) -> Iterator[RealPostgres]:
    """The server of this version: in place of the suite's usual one, so that its tests serve here, too."""
    with contextlib.ExitStack() as running:
        try:
            server = running.enter_context(RealPostgres(request.param))
        except Unavailable as reason:
            pytest.skip(f"Postgres {request.param}: {reason}")
        yield server
