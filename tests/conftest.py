"""What many tests need: a database, and proxies in front of it."""

import contextlib
import os
import signal
import tempfile
from collections.abc import Callable, Iterator

import psutil
import pytest

from proxy.demo.postgres import Postgres
from tests.compatibility import OPTION
from tests.harness import Proxy, settings_for
from tests.life.support import trusting_postgres

StartProxy = Callable[..., Proxy]
MEMORY = "/dev/shm"  # noqa: S108 - servers make directories with names that nobody can guess
AT_ONCE = 0.02  # seconds in which a session whose client has gone is over
ROOM = 4 << 30  # bytes: ten servers with all the WAL that the tests make take a quarter of it


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(OPTION, action="store_true", help="write docs/compatibility.md, though not everything is run")


def pytest_configure() -> None:
    """Let SIGINT end programs, also where a shell has started us in the background, which ignores it for all of us."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def _servers_in_memory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A server is a thousand files, and some disks take a millisecond for each; a TMPDIR that is set is kept."""
    with pytest.MonkeyPatch.context() as patch:
        if "TMPDIR" not in os.environ and has_room(MEMORY):
            tmp_path_factory.getbasetemp()  # stays where people look for it
            patch.setattr(tempfile, "tempdir", MEMORY)
        yield


def has_room(place: str) -> bool:
    """Whether servers can be put there, and programs: where root's are closed to nobody, a server gets a copy."""
    try:
        seen = os.statvfs(place)
    except OSError:
        return False
    room = min(seen.f_bavail * seen.f_frsize, psutil.virtual_memory().available)
    return os.access(place, os.W_OK) and not seen.f_flag & os.ST_NOEXEC and room >= ROOM


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A real server, one for all tests."""
    with Postgres(settings={"max_prepared_transactions": "10", "log_min_messages": "fatal"}) as server:
        yield server


@pytest.fixture(scope="session")
def trusting() -> Iterator[Postgres]:
    """Another one, which asks nobody for a password: for many sessions, and for clients that are told every byte."""
    with trusting_postgres(max_prepared_transactions="10") as server:
        yield server


@pytest.fixture
def start_proxy(postgres: Postgres) -> Iterator[StartProxy]:
    """Starts a proxy in front of the server, with options as flags; it is stopped after the test."""
    running: list[Proxy] = []

    def start(**options: str) -> Proxy:
        upstream = options.pop("upstream", f"{postgres.host}:{postgres.port}")
        proxy = Proxy(settings_for(upstream, **options))
        proxy.__enter__()
        running.append(proxy)
        return proxy

    yield start
    for proxy in running:
        with contextlib.suppress(AssertionError):
            proxy.settle(timeout=AT_ONCE)  # a stop gives those that are left longer than that for their last words
        proxy.__exit__()
