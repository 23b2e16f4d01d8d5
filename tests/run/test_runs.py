"""`pgleash run` as people use it: in front of a real server, with real commands."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import psutil
import pytest

from proxy.cli import main
from proxy.demo.postgres import Postgres
from proxy.report.document import read_document
from proxy.run.child import CommandError
from tests.harness import until
from tests.life.support import ROOT, command, environment
from tests.run.support import knows, run, told

LEAKING = """
import psycopg
connection = psycopg.connect("application_name=billing-worker")
connection.execute("UPDATE pg_class SET relname = 'secret' WHERE oid = 0 /*route='/hooks'*/")
connection.execute("SELECT 'secret'")
"""
CLEAN = LEAKING + "connection.commit()\n"


def python(text: str) -> tuple[str, ...]:
    return "--", sys.executable, "-c", text


# The verdict.


class Leaked(NamedTuple):
    """A run that leaked, and its ledger."""

    ended: subprocess.CompletedProcess[bytes]
    ledger: Path


@pytest.fixture(scope="module")
def leaked(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Leaked:
    file = tmp_path_factory.mktemp("run") / "ledger.json"
    variables = {"OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=test"}
    return Leaked(run("--ledger", str(file), *python(LEAKING), env=knows(postgres, **variables)), file)


def test_a_leak_is_told_and_is_no_failure_unless_asked_for(leaked: Leaked) -> None:
    assert (leaked.ended.returncode, leaked.ended.stdout) == (0, b"")
    said = told(leaked.ended)
    assert said.startswith("pgleash: 1 leak of 1 client in 1 session\n\nbilling-worker (postgres@postgres, ")
    for line in (
        "  opened by   UPDATE pg_class SET relname = ? WHERE oid = ?\n",
        "  last        SELECT ?\n",
        "  tags        route=/hooks\n",
        "  end         the client said goodbye without ending it\n",
    ):
        assert line in said
    assert "secret" not in said


def test_no_leak_is_one_line(postgres: Postgres) -> None:
    ended = run("--fail", *python(CLEAN), env=knows(postgres))
    assert (ended.returncode, told(ended)) == (0, "pgleash: no leak in 1 session and 1 transaction block\n")


def test_what_holds_for_longer_than_a_test_does_is_flagged(postgres: Postgres) -> None:
    slow = CLEAN.replace("connection.commit", "import time; time.sleep(0.4); connection.commit")
    ended = run("--fail", "--flag-after", "200ms", *python(slow), env=knows(postgres))
    assert ended.returncode == 3
    held = r"class       uncommitted_write\n  count       1 transaction, held [4-9]\d\d ms, 1 committed in the end\n"
    assert re.search(held, told(ended))
    assert "end         commit, going on with COMMIT" in told(ended)


def test_what_went_wrong_besides_is_told() -> None:
    ended = run("--", "psql", "-c", "", env=environment({"DATABASE_URL": "postgresql://127.0.0.1:1/x"}))
    assert ended.returncode == 2  # psql's
    assert "pgleash: upstream.unreachable: " in told(ended)


OUTLIVED = r"""
export PARENT=$$; trap 'exit 0' USR1
sh -c 'echo $$; exec psql -qAt >/dev/null 2>&1' <<'END' &
BEGIN; SELECT 1;
\! kill -USR1 $PARENT; sleep 60
END
wait
"""


def test_a_process_that_outlives_the_command_and_holds_a_transaction_is_told(postgres: Postgres) -> None:
    """The command ends as soon as that is in its transaction, in which it stays."""
    ended = run("--fail", "--drain-timeout", "100ms", "--", "sh", "-c", OUTLIVED, env=knows(postgres))
    left = psutil.Process(int(ended.stdout))
    for process in (*left.children(recursive=True), left):
        process.kill()
    assert ended.returncode == 3
    assert "end         the client still had it open when the command had ended" in told(ended)


# Exit status.


def test_a_command_that_is_not_there_is_told() -> None:
    ended = run("--", "no-such-command", env=environment())
    assert (ended.returncode, told(ended)) == (127, "pgleash: no-such-command: command not found\n")


@pytest.mark.parametrize(
    ("error", "status"),
    [(FileNotFoundError, 127), (NotADirectoryError, 127), (PermissionError, 126), (OSError, 126)],
)
def test_a_command_that_cannot_be_run_ends_as_in_a_shell(error: type[OSError], status: int) -> None:
    told = CommandError("/bin/x", error(1, "No such thing"))
    assert (told.status, str(told)) == (status, "/bin/x: No such thing")


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["psql"], 2, "write -- and the command"),
        (["--"], 2, "write -- and the command"),
        (["--fali", "--", "true"], 2, "unrecognized argument --fali; did you mean --fail?"),
        (["--flag-after", "soon", "--", "true"], 78, "flag_after: 'soon' is not a duration"),
        (["--upstream-tls.mode", "verify-full", "--", "true"], 78, "needs ca_file"),
        (["--ledger", "/no/such/ledger", "--", "true"], 1, "--ledger: /no/such/ledger cannot be written"),
        (["--ledger", "/", "--", "true"], 1, "--ledger: / cannot be written"),
    ],
)
def test_what_is_wrong_is_told_before_the_command_runs(
    words: list[str], status: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["run", *words])
    assert ended.value.code == status
    assert said in capsys.readouterr().err


def test_a_command_that_fails_keeps_its_status_though_it_leaks(postgres: Postgres) -> None:
    """And the log goes to standard error, if it is asked for."""
    ended = run("--fail", "--log.format", "json", *python(LEAKING + "raise SystemExit(5)"), env=knows(postgres))
    assert (ended.returncode, ended.stdout) == (5, b"")
    records = [json.loads(line) for line in told(ended).splitlines() if line.startswith("{")]
    assert [record["event"] for record in records][:2] == ["proxy.started", "leak.abandoned"]


# Untouched.


def test_the_streams_and_the_exit_status_are_the_commands_own() -> None:
    every_byte = bytes(range(256)) * 300
    script = "cat; printf 'to stderr\\n' >&2; exit 7"
    ended = run("--fail", "--", "sh", "-c", script, env=environment(), stdin=every_byte)
    assert (ended.returncode, ended.stdout) == (7, every_byte)
    first, verdict = ended.stderr.split(b"\n", 1)
    assert first == b"to stderr"
    assert verdict.startswith(b"pgleash: no session came through pgleash, so nothing was watched")


def test_the_environment_is_the_commands_own() -> None:
    """Also where there is no locale, and Python makes one up; and what we need for our sockets is ours alone."""
    bare = {"PATH": os.environ["PATH"], "PGLEASH_MAX_SESSIONS": "500"}
    ended = subprocess.run(
        ["/bin/sh", "-c", 'ulimit -Sn 200; exec "$@"', "sh", *command("run", "--", "sh", "-c", "ulimit -Sn; exec env")],
        env=bare, cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    descriptors, *variables = ended.stdout.splitlines()
    assert descriptors == "200"
    given = [line for line in variables if not line.startswith(("PWD=", "_=", "SHLVL=", "PGHOST=", "PGPORT="))]
    assert sorted(given) == [f"{name}={value}" for name, value in sorted(bare.items())]


def test_nothing_is_left_behind(postgres: Postgres) -> None:
    """Also of a command that was killed."""
    ended = run("--", "sh", "-c", "psql -qc 'SELECT 1' >&2; echo $PPID $PGPORT; kill -KILL $$", env=knows(postgres))
    assert ended.returncode == 128 + signal.SIGKILL
    pid, port = map(int, ended.stdout.split())
    assert not psutil.pid_exists(pid)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))
    with postgres.connect() as connection:

        def others() -> Sequence[object]:
            return connection.execute(
                "SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend' AND application_name = 'psql'"
            ).fetchall()

        until(lambda: not others())


# Where it leads.


def test_every_way_of_naming_the_server_leads_through(postgres: Postgres) -> None:
    """By DATABASE_URL, whose sslmode the server cannot meet but for a Unix socket, and by libpq's variables."""
    script = "psql -qAtc 'SELECT 1' && psql -qAtc 'SELECT 2' \"$DATABASE_URL\""
    url = f"postgresql://postgres:{postgres.password}@/postgres?host={postgres.socket_directory}&port={postgres.port}"
    variables = {"PGHOST": str(postgres.socket_directory), "DATABASE_URL": f"{url}&sslmode=require"}
    ended = run("--", "sh", "-c", script, env=knows(postgres, **variables))
    assert (ended.stdout, told(ended)) == (b"1\n2\n", "pgleash: no leak in 2 sessions and 0 transaction blocks\n")


def test_the_admin_side_is_there_if_asked_for(postgres: Postgres, tmp_path: Path) -> None:
    ask = f"{sys.executable} -m proxy leaks --admin {tmp_path} --json; ls {tmp_path}"
    ended = run("--admin.listen", str(tmp_path), "--", "sh", "-c", ask, env=knows(postgres))
    assert json.loads(ended.stdout[: ended.stdout.rindex(b"}") + 1])["ledger"] == []
    assert (ended.stdout.endswith(b"sock\n"), list(tmp_path.iterdir())) == (True, [])


def test_the_ledger_can_be_read_again(leaked: Leaked) -> None:
    document = read_document(leaked.ledger.read_text())
    (report,) = document.ledger
    assert (report.client.application_name, report.abandoned, report.leaks) == ("billing-worker", 1, 1)
    assert document.resource.items() >= {"deployment.environment.name": "test"}.items()
    assert document.since is not None
    assert document.since < document.generated_at


def test_a_proxy_that_cannot_start_keeps_the_command_from_running(tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        ended = run("--listen", listen, "--", "touch", str(ran), env=environment())
    assert (ended.returncode, ran.exists()) == (1, False)
    assert told(ended).startswith(f"pgleash: listen: cannot listen on {listen}")
