"""What a run asks for: clients and versions of the server; and what becomes of what it finds."""

from collections.abc import Generator, Iterator

import pytest

from tests.compatibility import outcome_of
from tests.interop import findings, kits
from tests.interop.catalogue import Client, wanted
from tests.interop.stage import Stage, start_server
from tests.servers import npm
from tests.servers.server import RealPostgres

obstacles: list[str] = []  # why clients could not be had


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--clients", default="", help='clients to run, as in "psycopg3 pg", or "first" for the first tier')
    parser.addoption("--versions", default="", help='major versions of the server, as in "14 18"; the newest')


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "server" in metafunc.fixturenames:
        chosen = [int(major) for major in metafunc.config.getoption("--versions").split()] or [max(npm.VERSIONS)]
        metafunc.parametrize("server", chosen, indirect=True, scope="session", ids=lambda major: f"Postgres {major}")
    if "client" in metafunc.fixturenames:
        clients = _wanted(metafunc.config)
        if "without_a_handler" in metafunc.function.__name__:
            clients = [client for client in clients if client.has_events]
        metafunc.parametrize("client", clients, ids=lambda client: client.name)


def _wanted(config: pytest.Config) -> list[Client]:
    try:
        return wanted(config.getoption("--clients").split())
    except ValueError as error:
        raise pytest.UsageError(str(error)) from None


@pytest.fixture(scope="session")
def server(request: pytest.FixtureRequest) -> Iterator[RealPostgres]:
    """A server of this version."""
    try:
        server = start_server(request.param)
    except npm.Unavailable as reason:
        pytest.skip(f"Postgres {request.param}: {reason}")
    with server.connect() as connection:
        findings.servers.add(connection.info.parameter_status("server_version") or str(request.param))
    yield server
    server.stop()


@pytest.fixture
def stage(client: Client, server: RealPostgres, transport: str) -> Stage:
    """This client with this server; skipped where it cannot be had."""
    is_tls = transport == "TLS"
    try:
        return Stage(client, kits.command(client, tls=is_tls), server, is_tls)
    except kits.Unavailable as reason:
        obstacles.append(str(reason))
        pytest.skip(f"{client.name}: {reason}")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    outcome = outcome_of(report)
    if outcome and isinstance(item, pytest.Function) and "as_without_us" in item.name:
        client, transport = (str(item.callspec.params[name]) for name in ("client", "transport"))
        findings.clients.record_outcome(client, transport, outcome)
    return report


def pytest_sessionfinish(session: pytest.Session) -> None:
    findings.clients.heading = findings.heading()
    is_complete = not session.config.getoption("--clients") and not any(obstacles)
    findings.section.finish(session, complete=is_complete)
