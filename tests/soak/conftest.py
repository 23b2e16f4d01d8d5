"""How long to go on, and what the tests of the suite have to start with."""

import pytest

from tests.tls.conftest import certificates

__all__ = ["certificates"]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--connections", type=int, default=10_000, help="how many, one after the other")


@pytest.fixture
def connections(request: pytest.FixtureRequest) -> int:
    return int(request.config.getoption("--connections"))
