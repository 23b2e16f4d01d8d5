"""A configuration that changes while clients are served: `pgleash serve`, a file, SIGHUP."""

import contextlib
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import psycopg
import pytest

from proxy.demo.postgres import Postgres
from tests.life.support import Forked, Program, through
from tests.servers.certificates import Certificates

START = "flag_after: 1h\nlog: {level: debug}\n"


class Attentive(Forked):
    """It looks at its file more often than usual."""

    constants: ClassVar = {"proxy.reload.LOOK_EVERY": 0.1}


ATTENTIVE = pytest.mark.parametrize("program", [Attentive], indirect=True)


class Config:
    """A file as Kubernetes mounts it: a link to a file in a directory that is swapped by changing another link."""

    def __init__(self, directory: Path, upstream: str) -> None:
        self.path = directory / "pgleash.yaml"
        self._data = directory / "..data"
        self._directory = directory
        self._upstream = upstream
        self._version = 0
        self.path.symlink_to("..data/pgleash.yaml")
        self.swap(START)

    def swap(self, text: str) -> None:
        self._version += 1
        version = self._directory / f"..{self._version}"
        version.mkdir()
        (version / "pgleash.yaml").write_text(f"listen: 127.0.0.1:0\nupstream: {self._upstream}\n{text}")
        new = self._directory / "..data_tmp"
        new.symlink_to(version.name)
        new.replace(self._data)

    def write(self, text: str) -> None:
        """Write it in place, as an editor does."""
        self.path.write_text(text)


@pytest.fixture
def config(tmp_path: Path, trusting: Postgres) -> Config:
    return Config(tmp_path, f"{trusting.host}:{trusting.port}")


@pytest.fixture
def program(config: Config, request: pytest.FixtureRequest) -> Iterator[Program]:
    kind: type[Program] = getattr(request, "param", Forked)
    with kind("--config", str(config.path)) as program:
        yield program


@pytest.fixture
def leaking(program: Program) -> Iterator[psycopg.Connection]:
    """Somebody who has been idle in a transaction since before."""
    with contextlib.closing(through(program.address, application_name="shop")) as connection:
        connection.execute("SELECT 'secret'")
        yield connection


def test_a_signal_brings_new_limits_to_sessions_that_run(
    config: Config, program: Program, leaking: psycopg.Connection
) -> None:
    assert leaking.info.transaction_status == psycopg.pq.TransactionStatus.INTRANS
    config.swap(START.replace("1h", "200ms"))
    program.tell(signal.SIGHUP)
    assert program.wait("config.reloaded")["config.changed"] == ["flag_after"]
    assert program.wait("leak.flagged")["leak.limit_s"] == 0.2


@ATTENTIVE
def test_a_changed_file_is_taken_over_without_a_signal(
    config: Config, program: Program, leaking: psycopg.Connection
) -> None:
    rule = "{name: shops, match: {application_name: shop*}, rollback_after: 200ms}"
    config.swap(f"{START}rules: [{rule}]\n")
    reloaded = program.wait("config.reloaded")
    assert (reloaded["config.changed"], reloaded["config.needs_restart"]) == (["rules"], [])
    assert program.wait("leak.rolled_back")["leak.rule"] == "shops"
    with pytest.raises(psycopg.errors.IdleInTransactionSessionTimeout):
        leaking.execute("SELECT 1")


@ATTENTIVE
def test_a_file_written_in_place_is_taken_over(config: Config, program: Program) -> None:
    program.wait("proxy.started")
    config.write(config.path.read_text().replace("1h", "2h"))
    assert program.wait("config.reloaded")["config.changed"] == ["flag_after"]


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ("flag_after: soon", "flag_after: 'soon' is not a duration"),
        ("flag_afetr: 1s", "flag_afetr: unknown option"),
        ("flag_after: [", "is not YAML"),
        ("flag_after: 2020-99-99", "is not YAML: month must be in 1..12"),
        ("flag_after: !!timestamp abc", "is not YAML"),
        ("rules: " + "[" * 3000, "is not YAML"),
        ("client_tls: {mode: require, cert_file: /nowhere}", "client_tls.cert_file: '/nowhere' cannot be read"),
        ("max_sessions: 2000000000", "max_sessions: 2000000000 sessions need"),
    ],
)
def test_a_wrong_file_changes_nothing_and_says_why(config: Config, program: Program, wrong: str, why: str) -> None:
    program.wait("proxy.started")
    config.swap(f"{wrong}\nlog: {{level: error}}\n")
    program.tell(signal.SIGHUP)
    assert why in program.wait("config.rejected")["error.message"]
    with through(program.address) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
    program.wait("session.closed")  # at level debug, as before
    config.swap(START.replace("1h", "2h"))
    program.tell(signal.SIGHUP)
    assert program.wait("config.reloaded")["config.changed"] == ["flag_after"]


def test_a_password_that_was_written_by_mistake_is_not_told(config: Config, program: Program) -> None:
    program.wait("proxy.started")
    config.write("upstream: postgres://app:hunter2@db/shop\n")
    program.tell(signal.SIGHUP)
    rejected = program.wait("config.rejected")["error.message"]
    assert rejected.startswith("upstream: what looks like a URL with a user and a password is not an address; write")
    assert "hunter2" not in str(program.records)


def test_a_reload_does_not_put_off_the_report(config: Config, program: Program, leaking: psycopg.Connection) -> None:
    assert leaking.info.transaction_status == psycopg.pq.TransactionStatus.INTRANS
    config.swap("flag_after: 100ms\nreport_every: 1s\n")
    program.tell(signal.SIGHUP)
    program.wait("config.reloaded")
    for count in range(2, 30):
        program.tell(signal.SIGHUP)
        program.wait("config.reloaded", count)
        if program.of("leak.report"):
            break
        time.sleep(0.1)
    assert program.of("leak.report")


@ATTENTIVE
def test_a_file_that_is_gone_changes_nothing(config: Config, program: Program) -> None:
    program.wait("proxy.started")
    config.path.unlink()
    assert "cannot be read" in program.wait("config.rejected")["error.message"]


def test_the_log_level_changes(config: Config, program: Program) -> None:
    program.wait("proxy.started")
    config.swap("log: {level: info}\n")
    program.tell(signal.SIGHUP)
    program.wait("config.reloaded")
    before = len(program.of("session.opened"))
    with through(program.address) as connection:
        connection.execute("SELECT 1")
    config.swap(START)
    program.tell(signal.SIGHUP)
    program.wait("config.reloaded", 2)
    assert len(program.of("session.opened")) == before


def test_addresses_need_a_restart_and_say_so(config: Config, program: Program) -> None:
    program.wait("proxy.started")
    config.write("listen: 127.0.0.1:1\nupstream: 127.0.0.1:1\nflag_after: 1m\nlog: {format: console}\n")
    program.tell(signal.SIGHUP)
    reloaded = program.wait("config.reloaded")
    assert reloaded["config.changed"] == ["flag_after", "log.level"]
    assert reloaded["config.needs_restart"] == ["listen", "upstream", "log.format"]
    with through(program.address) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_a_signal_is_answered_though_nothing_has_changed(program: Program) -> None:
    program.wait("proxy.started")
    program.tell(signal.SIGHUP)
    assert program.wait("config.reloaded")["config.changed"] == []


def test_what_the_running_addresses_forbid_is_rejected(tmp_path: Path, trusting: Postgres) -> None:
    """A client certificate of ours is not for everybody who reaches us, whatever the file says of tomorrow's listen."""
    cert_file, key_file = Certificates(tmp_path).client("pgleash")
    file, upstream = tmp_path / "pgleash.yaml", f"upstream: {trusting.host}:{trusting.port}\n"
    file.write_text(f"listen: 0.0.0.0:0\n{upstream}")
    with Forked("--config", str(file)) as program:
        program.wait("proxy.started")
        own = f"upstream_tls: {{mode: require, cert_file: {cert_file}, key_file: {key_file}}}"
        file.write_text(f"listen: 127.0.0.1:0\n{upstream}{own}\n")
        program.tell(signal.SIGHUP)
        assert "everybody who reaches 0.0.0.0:0" in program.wait("config.rejected")["error.message"]
