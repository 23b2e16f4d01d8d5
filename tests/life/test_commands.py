"""The commands as people run them: what they print, how they end, and what happens to clients meanwhile."""

import contextlib
import datetime as dt
import os
import re
import resource
import signal
import socket
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg
import pytest
import yaml

from proxy import __version__
from proxy.demo.postgres import Postgres, free_port
from proxy.leash.policy import Limits
from proxy.settings import Address, Settings, options
from tests import messages as m
from tests.harness import PATIENCE, until
from tests.life.support import (
    ROOT,
    FakeServer,
    Forked,
    PlainClient,
    command,
    connected,
    environment,
    forked,
    never_answers,
    pgleash,
    serve,
    through,
)
from tests.rawclient import now

NOBODY = "127.0.0.1:1"  # an upstream that is not needed
AT_ONCE = 1.0  # seconds in which a process that ends at once has ended, on a busy machine
ADMIN_SHUTDOWN = "57P01"


# version


def test_version_prints_the_version() -> None:
    ran = subprocess.run(command("version"), capture_output=True, text=True, env=environment(), cwd=ROOT, check=False)
    assert (ran.returncode, ran.stdout.split()[:2], ran.stderr) == (0, ["pgleash", __version__], "")


def test_the_console_script_is_the_same() -> None:
    script = Path(command()[0]).with_name("pgleash")
    if not script.exists():
        pytest.skip("pgleash is not installed")
    ran = subprocess.run([script, "version"], capture_output=True, text=True, check=True)
    assert ran.stdout.split()[:2] == ["pgleash", __version__]


# check-config


def test_check_config_prints_what_reads_back(tmp_path: Path) -> None:
    asked = ("--flag-after", "1234.5s", "--listen", '["[::1]:6432", "/run/pgleash:6433"]', "--log.level", "debug")
    first = pgleash("check-config", *asked, PGLEASH_MAX_SESSIONS="7")
    assert (first.returncode, first.stderr) == (0, "")
    written = tmp_path / "printed.yaml"
    written.write_text(first.stdout)
    again = pgleash("check-config", "--config", str(written))
    assert (again.returncode, again.stdout) == (0, first.stdout)
    settings = Settings.model_validate(yaml.safe_load(first.stdout))
    assert (settings.flag_after, settings.max_sessions, settings.log.level.value) == (1234.5, 7, "debug")
    assert settings.listen == (Address("::1", 6432), Address("/run/pgleash", 6433))


def test_check_config_prints_every_option() -> None:
    default = str(Settings().admin.listen)  # programs of these tests have no API unless they are told
    printed = yaml.safe_load(pgleash("check-config", PGLEASH_ADMIN__LISTEN=default).stdout)
    assert Settings.model_validate(printed) == Settings()
    for option in options():
        section, _, name = option.key.rpartition(".")
        assert name in (printed[section] if section else printed)


def test_check_config_warns_of_a_variable_that_is_no_option() -> None:
    ran = pgleash("check-config", PGLEASH_FLAG_AFTR="5s")
    assert ran.returncode == 0
    assert ran.stderr == "warning: PGLEASH_FLAG_AFTR: no option has this variable; did you mean PGLEASH_FLAG_AFTER?\n"


WRONG: dict[str, tuple[list[str], dict[str, str], str | None, list[str]]] = {
    "flag": (["--flag-after", "soon"], {}, None, [r"flag_after: .*write 250ms.*\(--flag-after\)"]),
    "nested flag": (["--log.format", "xml"], {}, None, [r"log\.format: .*'json'.*\(--log\.format\)"]),
    "variable": ([], {"PGLEASH_UPSTREAM": "db"}, None, [r"upstream: .*write host:port.*\(PGLEASH_UPSTREAM\)"]),
    "two": (
        ["--listen", "x", "--max-sessions", "0"],
        {},
        None,
        [r"listen: .*write host:port.*\(--listen\)", r"max_sessions: '0' is wrong: .*1.*\(--max-sessions\)"],
    ),
    "file": ([], {}, "log: {levle: info}", [r"log\.levle: unknown option \(.*\.yaml\); did you mean log\.level\?"]),
    "rule": (
        [],
        {},
        "rules: [{name: etl, match: {adress: 10.0.0.0/8}, flag_after: soon}]",
        [
            r"rules\.0\.match\.adress: unknown option \(.*\.yaml\); did you mean address\?",
            r"rules\.0\.flag_after: .*write 250ms.*\.yaml\)",
        ],
    ),
    "of another kind": ([], {}, "flag_after: [1s]", [r"flag_after: .*write 250ms.*\.yaml\)"]),
    "duplicate": ([], {}, "listen: a:1\nlisten: b:2", [r"listen: written twice, again in line 2"]),
    "template": ([], {}, "flag_after: {{ limit }}", [r".*"]),
    "not yaml": ([], {}, "listen: {", [r".*\.yaml: is not YAML: .*"]),
    "a list": ([], {}, "- listen", [r".*\.yaml: .*flag_after: 10s.*"]),
    "missing": (["--config", "/nowhere.yaml"], {}, None, [r"/nowhere\.yaml: cannot be read: No such file.*"]),
}


@pytest.mark.parametrize(("verb", "wrong"), [*(("check-config", wrong) for wrong in WRONG), ("serve", "two")])
def test_a_wrong_configuration_is_one_line_a_problem(tmp_path: Path, verb: str, wrong: str) -> None:
    arguments, variables, content, told = WRONG[wrong]
    if content is not None:
        written = tmp_path / "own.yaml"
        written.write_text(content)
        variables = variables | {"PGLEASH_CONFIG": str(written)}
    ran = pgleash(verb, *arguments, **variables)
    assert (ran.returncode, ran.stdout) == (78, ""), ran.stderr
    lines = ran.stderr.splitlines()
    assert len(lines) == len(told), ran.stderr
    for line, pattern in zip(lines, told, strict=True):
        assert re.fullmatch(pattern, line)


RULES = """
flag_after: 5s
terminate_after: 5m
rules:
  - name: backups
    match: {application_name: [pg_dump*, pg_restore]}
    terminate_after: never
  - name: nightly etl
    match: {user: etl, address: 10.1.0.0/16, tags: {job: nightly-*}}
    flag_after: 30m
    terminate_after: never
"""
LIMITS_OF_ETL = {key: ["never", "top level"] for key in Limits._fields} | {
    "flag_after": ["30m", "rule nightly etl"],
    "terminate_after": ["never", "rule nightly etl"],
}


@pytest.fixture
def rules(tmp_path: Path) -> str:
    file = tmp_path / "rules.yaml"
    file.write_text(RULES)
    return str(file)


def as_client(rules: str, who: str) -> dict[str, list[list[str]]]:
    """What `check-config --as` prints: for each heading, its lines' columns."""
    ran = pgleash("check-config", "--config", rules, "--as", who)
    assert (ran.returncode, ran.stderr) == (0, "")
    printed: dict[str, list[list[str]]] = {}
    for heading, *lines in (part.splitlines() for part in ran.stdout.split("\n\n")):
        printed[heading] = [re.split(r"\s{2,}", line.strip()) for line in lines]
    return printed


def test_check_config_says_which_rule_a_client_gets_and_why(rules: str) -> None:
    printed = as_client(rules, "user=etl,application_name=load=7\\,a,address=10.1.2.3,tags.job=nightly-7")
    assert printed == {
        "Client": [
            ["user", "etl"],
            ["database", "etl"],
            ["application_name", "load=7,a"],
            ["address", "10.1.2.3"],
            ["tags.job", "nightly-7"],
        ],
        "Rules, in order": [
            ["backups", "application_name is load=7,a, not pg_dump* or pg_restore"],
            ["nightly etl", "applies"],
        ],
        "Limits": [[name, *expected] for name, expected in LIMITS_OF_ETL.items()],
    }


def test_check_config_says_why_no_rule_applies(rules: str) -> None:
    printed = as_client(rules, "user=billing, database=shop, address=local")
    assert ["database", "shop"] in printed["Client"]
    assert printed["Rules, in order"] == [
        ["backups", "application_name is empty, not pg_dump* or pg_restore"],
        [
            "nightly etl",
            (
                "user is billing, not etl; address is local, not 10.1.0.0/16; "
                "tags.job is not set, it would have to be nightly-*"
            ),
        ],
        ["default", "applies: no rule matches"],
    ]
    assert ["terminate_after", "5m", "top level"] in printed["Limits"]


def test_check_config_looks_at_the_rules_that_are_in_effect() -> None:
    rule = '[{"name": "a", "match": {"database": "shop"}, "flag_after": "7s"}]'
    ran = pgleash("check-config", "--as", "user=shop", PGLEASH_RULES=rule)
    assert re.search(r"flag_after +7s +rule a\n", ran.stdout)
    printed = pgleash("check-config", PGLEASH_RULES=rule).stdout
    assert Settings.model_validate(yaml.safe_load(printed)).rules[0].flag_after == 7


@pytest.mark.parametrize("who", ["application_name=pg_dump", "application_name=pg_dumpall"])
def test_nothing_is_done_to_pg_dump_by_the_shipped_file(who: str) -> None:
    shipped = ROOT / "config" / "pgleash.yaml"
    limits = {name: f"--{name.replace('_', '-')}" for name in Limits._fields}
    asked = [word for flag in limits.values() for word in (flag, "1s")]
    printed = pgleash("check-config", "--config", str(shipped), *asked, "--as", who).stdout
    told = {line.split()[0]: line.split()[1] for line in printed.partition("Limits\n")[2].splitlines()}
    assert told == {name: "1s" if name.startswith("flag_") else "never" for name in limits}


def test_the_documentation_of_rules_shows_what_is_printed(tmp_path: Path) -> None:
    text = (ROOT / "docs" / "rules.md").read_text()
    file = tmp_path / "pgleash.yaml"
    file.write_text(text.partition("```yaml\n")[2].partition("```")[0])
    shown = re.findall(r"```\n\$ pgleash (.+)\n((?:.*\n)+?)```", text)
    assert len(shown) == 2
    for typed, printed in shown:
        assert pgleash(*typed.replace("pgleash.yaml", str(file)).split()).stdout == printed


# Wrong usage.


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "COMMAND"),
        (["sevre"], "sevre"),
        (["serve", "--flag-afte", "5s"], "--flag-afte"),
        (["serve", "--log-level", "info"], "--log-level"),
        (["serve", "--flag-after"], "--flag-after"),
        (["serve", "extra"], "extra"),
        (["version", "--json"], "--json"),
        (["check-config", "--as"], "--as"),
        (["check-config", "--sa", "user=a"], "did you mean --as?"),
        (["serve", "--as", "user=a"], "--as"),
        (["check-config", "--as", "usr=etl"], "'usr' is none of user, database, application_name, address, tags.NAME"),
        (["check-config", "--as", "usr=etl"], "did you mean user?"),
        (["check-config", "--as", "tags.=a"], "'tags.' is none of"),
        (["check-config", "--as", "etl"], "'etl' is no key=value; write for example user=etl,"),
        (["check-config", "--as", ""], "'' is no key=value"),
        (["check-config", "--as", "user=a,user=b"], "user is given twice"),
        (["check-config", "--as", "address=10.1"], "address '10.1' is no IP address; write 10.1.2.3, ::1, or local"),
        (["demo", "--seconds", "many"], "many"),
        (["demo", "--seconds", "1"], "between 5 and 3600"),
    ],
    ids=" ".join,
)
def test_wrong_usage_is_told_in_one_line(arguments: list[str], told: str) -> None:
    ran = pgleash(*arguments)
    assert (ran.returncode, ran.stdout) == (2, "")
    (line,) = ran.stderr.splitlines()
    assert line.startswith("pgleash")
    assert line.endswith(" --help")
    assert told in line


def test_help_names_every_option_with_its_default() -> None:
    ran = pgleash("serve", "--help", COLUMNS="10000")
    assert ran.returncode == 0
    told = " ".join(ran.stdout.split())
    for option in options():
        assert f" {option.flag} VALUE {option.description} (default {option.default}; also {option.variable})" in told


# serve: the start.


def failed_start(*arguments: str) -> str:
    """The one line that a start tells that fails at run time."""
    with Forked("--upstream", NOBODY, *arguments) as program:
        assert program.ended(5.0) == 1
    assert "proxy.started" not in {record["event"] for record in program.records}
    (line,) = program.errors
    return line


def test_a_port_in_use_is_one_clear_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        line = failed_start("--listen", f"127.0.0.1:{port}")
        assert line.startswith(f"pgleash: listen: cannot listen on 127.0.0.1:{port}: ")
        assert line.endswith("ddress already in use")
        assert f"127.0.0.1:{port}" not in line.removeprefix(f"pgleash: listen: cannot listen on 127.0.0.1:{port}: ")


def test_an_address_that_is_not_ours_is_one_clear_line() -> None:
    line = failed_start("--listen", "192.0.2.1:6432")  # TEST-NET-1, RFC 5737
    assert line.startswith("pgleash: listen: cannot listen on 192.0.2.1:6432: ")


def test_one_wrong_address_of_two_leaves_nothing_behind(tmp_path: Path) -> None:
    line = failed_start("--listen", f'["{tmp_path}:6432", "192.0.2.1:6432"]')
    assert "192.0.2.1" in line
    assert list(tmp_path.iterdir()) == []


def test_more_sessions_than_files_is_one_clear_line() -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if hard == resource.RLIM_INFINITY:
        pytest.skip("there is no limit of open files here")
    line = failed_start("--listen", "127.0.0.1:0", "--max-sessions", str(hard))
    assert f"max_sessions: {hard} sessions need" in line
    assert re.search(r"or set max_sessions to \d+ or less", line)


def test_the_log_is_json_with_when_how_bad_and_what_first(trusting: Postgres) -> None:
    with serve(trusting, log__level="debug") as program:
        assert program.address.port != 0
        with through(program.address) as connection:
            connection.execute("SELECT 1")
        program.wait("session.closed")
        program.tell()
        assert program.ended() == 0
    for record in program.records:
        assert list(record)[:3] == ["timestamp", "level", "event"]
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z", record["timestamp"])
        when = dt.datetime.fromisoformat(record["timestamp"])
        assert abs(when - dt.datetime.now(dt.UTC)) < dt.timedelta(seconds=60)
        assert record["level"] in {"debug", "info"}
    told = [record["event"] for record in program.records]
    assert told == ["proxy.started", "session.opened", "session.closed", "proxy.draining", "proxy.stopped"]
    assert program.errors == []


def has_six() -> bool:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


@pytest.mark.skipif(not has_six(), reason="there is no IPv6 here")
def test_the_start_tells_the_real_ports_and_the_upstream(trusting: Postgres) -> None:
    with forked(trusting, listen='["127.0.0.1:0", "[::1]:0"]') as program:
        ports = [int(text.rpartition(":")[2]) for text in program.listen]
        assert program.listen == [f"127.0.0.1:{ports[0]}", f"[::1]:{ports[1]}"]
        assert program.wait("proxy.started")["proxy.upstream"] == f"127.0.0.1:{trusting.port}"
        for host, port in zip(("127.0.0.1", "::1"), ports, strict=True):
            through(Address(host, port)).close()


def test_each_line_says_where_it_comes_from() -> None:
    attributes = "deployment.environment.name=prod,service.name=other"
    variables = {"POD_NAME": "p-1", "POD_NAMESPACE": "ns", "NODE_NAME": "node", "CONTAINER_NAME": "pgleash"}
    otel = {"OTEL_RESOURCE_ATTRIBUTES": attributes, "OTEL_SERVICE_NAME": "shop"}
    arguments = ("--listen", "127.0.0.1:0", "--upstream", NOBODY)
    with Forked(*arguments, **variables, **otel, PGLEASH_PORT="tcp://10.0.0.1:6432") as program:
        program.wait("proxy.started")
        program.tell()
        assert program.ended() == 0
    assert [record["event"] for record in program.records][:2] == ["config.warning", "proxy.started"]
    for record in program.records:
        assert record["k8s.pod.name"] == "p-1"
        assert record["k8s.namespace.name"] == "ns"
        assert record["k8s.node.name"] == "node"
        assert record["k8s.container.name"] == "pgleash"
        assert record["service.name"] == "shop"
        assert record["deployment.environment.name"] == "prod"


# serve: the end.


@pytest.mark.protocol("a stop that cuts, or that never ends")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
def test_idle_sessions_are_told_and_the_program_ends_at_once(trusting: Postgres, number: signal.Signals) -> None:
    with serve(trusting) as program:
        idle = [through(program.address) for _ in range(3)]
        for connection in idle:
            connection.execute("SELECT 1")
            connection.commit()
        began = now()
        program.tell(number)
        assert program.ended() == 0
        assert now() - began < AT_ONCE
        for connection in idle:
            with pytest.raises(
                psycopg.OperationalError, match="terminating connection due to administrator command"
            ) as told:
                connection.execute("SELECT 1")
            assert told.value.sqlstate == ADMIN_SHUTDOWN
            connection.close()
    assert program.wait("proxy.draining")["proxy.sessions"] == 3
    assert program.wait("proxy.stopped")["proxy.sessions_cut"] == 0
    assert program.errors == []


@pytest.mark.protocol("a stop that cuts, or that never ends")
def test_an_open_transaction_may_finish_first(trusting: Postgres) -> None:
    with forked(trusting) as program, through(program.address) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS finished (a int)")
        program.tell()
        program.wait("proxy.draining")
        connection.execute("INSERT INTO finished VALUES (1)")
        connection.commit()
        committed = now()
        assert program.ended() == 0
        assert now() - committed < AT_ONCE
        with pytest.raises(psycopg.errors.AdminShutdown):
            connection.execute("SELECT 1")
    with trusting.connect() as judge:
        assert judge.execute("SELECT count(*) FROM finished").fetchone() == (1,)
    assert program.wait("proxy.stopped")["proxy.sessions_cut"] == 0


@pytest.mark.protocol("a stop that cuts, or that never ends")
def test_a_drain_that_takes_too_long_cuts(trusting: Postgres) -> None:
    with forked(trusting, drain_timeout="300ms") as program, through(program.address) as connection:
        pid = connection.execute("SELECT pg_backend_pid()").fetchone()
        began = now()
        program.tell()
        assert program.ended() == 0
        assert 0.3 <= now() - began < 0.3 + AT_ONCE
        with pytest.raises(psycopg.errors.AdminShutdown, match="terminating connection due to administrator command"):
            connection.execute("SELECT 1")
        with trusting.connect() as judge:
            gone = "SELECT count(*) FROM pg_stat_activity WHERE pid = %s"
            until(lambda: judge.execute(gone, pid).fetchone() == (0,), 2.0, "the backend is left")
    assert program.wait("proxy.stopped")["proxy.sessions_cut"] == 1


def test_a_statement_that_runs_when_the_drain_cuts_does_not_run_on(trusting: Postgres) -> None:
    """Nobody waits for it any more: what a client's going away stops (cancel_abandoned), ours stops too."""
    with forked(trusting, drain_timeout="200ms") as program, PlainClient(program.address) as client:
        client.log_in()
        client.send(m.query("SELECT pg_sleep(30)"))
        with trusting.connect() as judge:
            running = "SELECT count(*) FROM pg_stat_activity WHERE pid = %s AND wait_event = 'PgSleep'"
            until(lambda: judge.execute(running, [client.backend_pid]).fetchone() == (1,), what="it does not run")
            program.tell()
            assert program.ended() == 0
            try:
                until(
                    lambda: judge.execute(running, [client.backend_pid]).fetchone() == (0,),
                    2.0,
                    "the statement runs on",
                )
            finally:
                judge.execute("SELECT pg_terminate_backend(%s)", [client.backend_pid])


def test_it_runs_and_ends_where_standard_output_was_closed_before_the_start() -> None:
    closed = ["sh", "-c", 'exec "$@" >&-', "sh", *command("serve", "--listen", "127.0.0.1:0", "--log.level", "debug")]
    with subprocess.Popen(closed, stderr=subprocess.PIPE, env=environment()) as program:
        until(lambda: any(one.status == psutil.CONN_LISTEN for one in psutil.Process(program.pid).net_connections()))
        program.terminate()
        assert program.wait(10) == 0
        assert program.stderr is not None
        assert program.stderr.read() == b""


def test_a_second_signal_ends_at_once(trusting: Postgres) -> None:
    with forked(trusting, drain_timeout="60s") as program, through(program.address) as connection:
        connection.execute("SELECT 1")
        program.tell()
        program.wait("proxy.draining")
        began = now()
        program.tell(signal.SIGINT)
        assert program.ended() == 0
        assert now() - began < AT_ONCE
        with pytest.raises(psycopg.errors.AdminShutdown, match="terminating connection due to administrator command"):
            connection.execute("SELECT 1")
    assert program.wait("proxy.stopped")["proxy.sessions_cut"] == 1
    assert program.errors == []


def test_a_second_signal_does_not_wait_for_a_server_that_answers_nothing() -> None:
    with (
        FakeServer(never_answers) as server,
        forked(server.address, drain_timeout="60s") as program,
        connected(program.address) as client,
    ):
        client.send(m.query("SELECT 1"))
        program.tell()
        program.wait("proxy.draining")
        began = now()
        program.tell()
        assert program.ended() == 0
        assert now() - began < AT_ONCE


def test_new_clients_are_refused_while_it_drains(trusting: Postgres) -> None:
    with forked(trusting) as program, through(program.address) as connection:
        connection.execute("SELECT 1")
        late = PlainClient(program.address)
        late.send(m.ssl_request())
        assert late.byte() == b"N"  # so it has been accepted
        program.tell()
        program.wait("proxy.draining")
        with pytest.raises(ConnectionRefusedError):
            PlainClient(program.address)
        late.send(m.startup(user="postgres"))
        assert late.refused()["C"] == ADMIN_SHUTDOWN
        late.close()
        connection.rollback()
        assert program.ended() == 0


def test_a_client_that_has_said_nothing_does_not_hold_up_the_end(trusting: Postgres) -> None:
    with forked(trusting) as program, PlainClient(program.address) as silent:
        silent.send(m.ssl_request())
        assert silent.byte() == b"N"
        began = now()
        program.tell()
        assert program.ended() == 0
        assert now() - began < AT_ONCE


# serve: a log that nobody reads.


def quiet_serve(upstream: Postgres, stdout: int, port: int) -> subprocess.Popen[bytes]:
    arguments = ("--listen", f"127.0.0.1:{port}", "--upstream", f"127.0.0.1:{upstream.port}", "--log.level", "debug")
    return subprocess.Popen(
        command("serve", *arguments), stdout=stdout, stderr=subprocess.PIPE, env=environment(), cwd=ROOT
    )


def answers(address: Address) -> bool:
    try:
        through(address).close()
    except psycopg.OperationalError:
        return False
    return True


def full_pipe() -> tuple[int, int]:
    """A pipe that takes nothing more: its reading and its writing end."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(writing, b"x")
    os.set_blocking(writing, True)
    return reading, writing


@pytest.mark.parametrize("reader", ["asleep", "gone"])
def test_a_log_that_nobody_reads_stops_neither_clients_nor_the_end(trusting: Postgres, reader: str) -> None:
    reading, writing = full_pipe()
    address = Address("127.0.0.1", free_port())
    process = quiet_serve(trusting, writing, address.port)
    os.close(writing)
    if reader == "gone":
        os.close(reading)
    try:
        until(lambda: answers(address), what="it does not serve")
        for _ in range(20):
            through(address).close()
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=PATIENCE)
        assert (process.returncode, errors) == (0, b"")
    finally:
        if reader == "asleep":
            os.close(reading)
        process.kill()
        process.communicate()


# Unix sockets.


@pytest.fixture
def directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:  # pytest's own directories can be too long for a socket
        yield Path(name)


def test_clients_connect_through_a_unix_socket(trusting: Postgres, directory: Path) -> None:
    with forked(trusting, listen=f"{directory}:6543") as program:
        assert program.listen == [f"{directory}:6543"]
        path = directory / ".s.PGSQL.6543"
        assert stat.S_IMODE(path.stat().st_mode) == 0o777
        with through(Address(str(directory), 6543)) as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)
        program.tell()
        assert program.ended() == 0
    assert list(directory.iterdir()) == []


def test_a_leak_through_a_unix_socket_is_told_without_an_address(trusting: Postgres, directory: Path) -> None:
    with forked(trusting, listen=str(directory), flag_after="100ms") as program:
        program.wait("proxy.started")
        with through(Address(str(directory), 6432), application_name="local") as connection:
            connection.execute("SELECT 1")
            flagged = program.wait("leak.flagged")
            assert flagged["client.application_name"] == "local"
            assert "client.port" not in flagged
            assert "client.address" not in flagged
            assert "(postgres@postgres, python" in flagged["leak.summary"]


def test_a_stale_socket_is_replaced(trusting: Postgres, directory: Path) -> None:
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(directory / ".s.PGSQL.6432"))
    with forked(trusting, listen=str(directory)) as program:
        program.wait("proxy.started")
        through(Address(str(directory), 6432)).close()


def test_a_live_socket_is_left_alone(trusting: Postgres, directory: Path) -> None:
    with forked(trusting, listen=str(directory)) as program:
        program.wait("proxy.started")
        line = failed_start("--listen", str(directory))
        assert line == f"pgleash: listen: cannot listen on {directory}/.s.PGSQL.6432: it is in use"
        through(Address(str(directory), 6432)).close()


def test_a_file_that_is_no_socket_is_left_alone(directory: Path) -> None:
    precious = directory / ".s.PGSQL.6432"
    precious.write_text("somebody's")
    line = failed_start("--listen", str(directory))
    assert line.startswith(f"pgleash: listen: cannot listen on {directory}")
    assert precious.read_text() == "somebody's"


def test_a_directory_that_is_missing_or_too_long_is_one_clear_line(directory: Path) -> None:
    assert f"cannot listen on {directory}/none:6432: " in failed_start("--listen", f"{directory}/none")
    long = directory / ("x" * 120)  # a socket's path ends at 107 bytes, unix(7)
    long.mkdir()
    assert f"cannot listen on {long}:6432: " in failed_start("--listen", str(long))


def test_the_server_may_be_behind_a_unix_socket(trusting: Postgres) -> None:
    if not os.access(trusting.socket_directory, os.X_OK):
        pytest.skip(f"{trusting.socket_directory} is not ours to enter")
    with forked(f"{trusting.socket_directory}:{trusting.port}") as program:
        with through(program.address) as connection:
            assert connection.execute("SELECT inet_client_addr()").fetchone() == (None,)
        with PlainClient(program.address) as sleeper:
            sleeper.log_in()
            sleeper.send(m.query("SELECT pg_sleep(30)"))
            with trusting.connect() as judge:
                asleep = "SELECT count(*) FROM pg_stat_activity WHERE pid = %s AND wait_event = 'PgSleep'"
                until(lambda: judge.execute(asleep, [sleeper.backend_pid]).fetchone() == (1,), what="it does not sleep")
            with PlainClient(program.address, m.cancel_request(sleeper.backend_pid, sleeper.cancel_key)) as canceller:
                assert canceller.byte() == b""
            error = sleeper.receive_until("E")[-1]
            assert b"C57014" in error.body
