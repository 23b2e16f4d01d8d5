import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import psycopg
import pytest

from proxy.demo import binaries, postgres
from proxy.demo.postgres import Postgres
from proxy.errors import OperatorError

REPOSITORY = Path(__file__).parents[2]
INSTALL = r"pip install 'pgleash\[demo\]'"
STARTS_AND_WAITS = "import sys; from proxy.demo.postgres import Postgres; Postgres().start(); sys.stdin.read()"


def eventually(condition: Callable[[], object]) -> bool:
    """Poll what only the file system and the process table can tell."""
    deadline = time.monotonic() + 10
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def remains(room: Path) -> list[str]:
    """Everything in the directory, and every process that works below it or was given it as an argument."""
    seen = [process.info for process in psutil.process_iter(["cwd", "cmdline", "status"])]
    alive = [str(info) for info in seen if info["status"] != psutil.STATUS_ZOMBIE]
    return [*(path.name for path in room.iterdir()), *(info for info in alive if str(room) in info)]


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    with Postgres() as running:
        yield running


@pytest.fixture
def room(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A temporary directory for servers alone: whatever is left in it was left behind."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o701)  # root's servers run as nobody
        monkeypatch.setattr(tempfile, "tempdir", name)
        yield Path(name)


@pytest.mark.parametrize("version", [18, 16])
def test_serves_each_version_and_leaves_nothing(version: int, room: Path) -> None:
    with Postgres(version) as running:
        assert len(remains(room)) > 3  # its directory, the guard, the postmaster and its children
        with running.connect() as connection:
            assert connection.info.server_version // 10_000 == running.version == version
        pid = running.pid
    assert not psutil.pid_exists(pid)
    assert not remains(room)


def test_answers_over_tcp(server: Postgres) -> None:
    with psycopg.connect(server.dsn()) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
        assert connection.info.host == "127.0.0.1"


def test_answers_over_the_unix_socket(server: Postgres) -> None:
    with server.connect(host=str(server.socket_directory)) as connection:
        assert connection.execute("SELECT inet_client_addr()").fetchone() == (None,)


def test_a_wrong_password_is_refused_on_both_ways_in(server: Postgres) -> None:
    for host in (server.host, str(server.socket_directory)):
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            server.connect(host=host, password="wrong")


def test_clients_find_the_server_by_their_environment(server: Postgres) -> None:
    query = "SELECT current_user, current_setting('password_encryption')"
    psql = [str(binaries.program("psql")), "-XAtc", query]
    answer = subprocess.run(psql, env=server.environment(), capture_output=True, text=True, check=True)
    assert answer.stdout == "postgres|scram-sha-256\n"


def test_settings_go_over_ours() -> None:
    with Postgres(settings={"max_connections": "17"}) as running, running.connect() as connection:
        assert connection.execute("SHOW max_connections").fetchone() == ("17",)
        assert connection.execute("SHOW fsync").fetchone() == ("off",)


def test_stopping_twice_or_without_a_start_does_nothing() -> None:
    running = Postgres()
    running.stop()
    running.start()
    running.stop()
    running.stop()
    assert not psutil.pid_exists(running.pid)


def test_stops_under_open_transactions(room: Path) -> None:
    with Postgres() as running, running.connect() as connection:
        connection.execute("BEGIN")
        running.stop()
        assert not remains(room)
        with pytest.raises(psycopg.errors.AdminShutdown):
            connection.execute("SELECT 1")


def test_an_outage_ends_it_at_once_and_stopping_still_cleans_up(room: Path) -> None:
    with Postgres() as running:
        running.kill()
        with pytest.raises(psycopg.OperationalError):
            running.connect()
        since = time.monotonic()
    assert time.monotonic() - since < 2
    assert not list(room.iterdir())
    assert eventually(lambda: not remains(room))  # its backends have to notice first


def test_a_server_that_hangs_is_killed(room: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres, "STOP_DEADLINE", 0.1)
    with Postgres() as running:
        os.kill(running.pid, signal.SIGSTOP)
    assert not list(room.iterdir())
    assert eventually(lambda: not remains(room))  # its backends have to notice first


def test_a_port_that_was_just_taken_is_survived(monkeypatch: pytest.MonkeyPatch) -> None:
    choose = postgres.free_port
    with socket.socket() as rival:
        rival.bind(("127.0.0.1", 0))
        rival.listen()
        taken: int = rival.getsockname()[1]
        ports = iter([taken, taken])
        monkeypatch.setattr(postgres, "free_port", lambda: next(ports, 0) or choose())
        with Postgres() as running, running.connect() as connection:
            assert running.port != taken
            assert connection.execute("SELECT 1").fetchone() == (1,)


def test_a_failing_start_quotes_the_server_and_leaves_nothing(room: Path) -> None:
    with pytest.raises(OperatorError, match='invalid value for parameter "shared_buffers": "rubbish"') as caught:
        Postgres(settings={"shared_buffers": "rubbish"}).start()
    assert "\n" not in str(caught.value)
    assert not remains(room)


# A file that appears marks each moment: the private directory, two steps of initdb's, the server's start, its socket.
# The last of them may also fall after the start.
MOMENTS = ["", "data/PG_VERSION", "data/base/4", "data/postmaster.opts", ".s.PGSQL.*"]


@pytest.mark.parametrize(
    ("moment", "number"),
    [*((moment, signal.SIGINT) for moment in MOMENTS), *((moment, signal.SIGKILL) for moment in MOMENTS[2::2])],
)
def test_our_own_end_at_any_moment_leaves_nothing(moment: str, number: signal.Signals, room: Path) -> None:
    command = [sys.executable, "-c", STARTS_AND_WAITS]
    environment = {**os.environ, "TMPDIR": str(room)}
    with subprocess.Popen(
        command, cwd=REPOSITORY, env=environment, stdin=subprocess.PIPE, stderr=subprocess.PIPE
    ) as ours:
        assert eventually(lambda: list(room.glob(f"pgleash-*/{moment}")))
        ours.send_signal(number)
        _, said = ours.communicate(timeout=10)
        assert ours.returncode == -number, said.decode()
        assert eventually(lambda: not remains(room))


def test_the_package_is_not_imported(server: Postgres) -> None:
    assert server.pid
    assert binaries.PACKAGE not in sys.modules


def test_missing_binaries_are_named_with_their_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [])
    with pytest.raises(OperatorError, match=INSTALL):
        Postgres().start()
    with pytest.raises(OperatorError, match=INSTALL):
        binaries.program("psql")


def test_an_unknown_version_or_program_is_refused() -> None:
    with pytest.raises(OperatorError, match=r"no embedded Postgres 9; there are \[16, 18\]"):
        Postgres(9).start()
    with pytest.raises(OperatorError, match="no program psqll"):
        binaries.program("psqll")


def test_root_without_nobody_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(name: str) -> None:
        raise KeyError(name)

    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr("pwd.getpwnam", unknown)
    with pytest.raises(OperatorError, match="no user `nobody`"):
        Postgres().start()


def test_a_directory_that_shuts_the_account_out_is_not_used(room: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stranger = binaries.Account(user=os.getuid() + 1, group=os.getgid() + 1)
    assert stranger.may_pass(room)
    room.chmod(0o700)
    assert not stranger.may_pass(room)
    monkeypatch.setattr(binaries.Account, "may_pass", lambda *_: False)
    with pytest.raises(OperatorError, match="set TMPDIR"):
        Postgres().start()


def test_a_long_temporary_directory_is_not_used(room: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    long = room / ("x" * 80)
    long.mkdir(mode=0o701)
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    with Postgres() as running, running.connect(host=str(running.socket_directory)):
        assert not list(long.iterdir())


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs the server as somebody else, who may be shut out")
def test_binaries_below_a_closed_directory_are_copied(
    tmp_path: Path, room: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = binaries.program("postgres").parents[2]
    tmp_path.chmod(0o700)
    shutil.copytree(package / "pginstall18", tmp_path / package.name / "pginstall18", symlinks=True)
    shutil.copytree(f"{package}.libs", tmp_path / f"{package.name}.libs")
    (tmp_path / package.name / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    with Postgres() as running:
        executable = Path(psutil.Process(running.pid).exe())
        assert executable.is_relative_to(running.socket_directory)
        assert psutil.Process(running.pid).username() == "nobody"
    assert not remains(room)
