"""The shop that the applications share, how each is started, and the table at the end."""

from collections.abc import Iterator

import pytest

from tests.kits.machine import Unavailable
from tests.life.support import trusting_postgres
from tests.scenarios.mistakes import findings, kits
from tests.scenarios.mistakes.catalogue import Mistake
from tests.scenarios.mistakes.running import Shop, partner, prepare


@pytest.fixture(scope="session")
def shop() -> Iterator[Shop]:
    """A server with the tables of a shop, and its partner."""
    with trusting_postgres() as server, partner() as address:
        prepare(server)
        yield Shop(server, address)


@pytest.fixture
def command(mistake: Mistake) -> list[str]:
    """How to start the application; skipped where its language or library cannot be had."""
    try:
        return kits.command(mistake)
    except Unavailable as reason:
        pytest.skip(f"{mistake.library}: {reason}")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if findings.findings:
        terminalreporter.section("mistakes")
        for line in findings.lines():
            terminalreporter.write_line(line)
