"""`pgleash leaks`, `sessions`, `advise` beside a running proxy."""

import contextlib
import json
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import psycopg
import pytest

from proxy.ask.commands import ledger_of
from proxy.ask.tables import COUNTED, OPEN
from proxy.cli import main
from proxy.demo.postgres import Postgres
from proxy.report.events import LeakFlagged, LeakResolved
from tests.admin.support import Asked, StartAdmin
from tests.behaviour.test_secrets import SECRET, leak_everywhere
from tests.harness import dsn
from tests.rawclient import RawClient

NOBODY = "127.0.0.1:1"


class Ran(NamedTuple):
    """What a command has come to."""

    status: object
    out: str
    err: str


Run = Callable[..., Ran]


@pytest.fixture
def pgleash(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a command in this process, with these variables."""

    def run(*arguments: str, **variables: str) -> Ran:
        with monkeypatch.context() as patch:
            for name in [name for name in os.environ if name.startswith("PGLEASH_")]:
                patch.delenv(name)
            for name, value in variables.items():
                patch.setenv(name, value)
            with pytest.raises(SystemExit) as ended:
                main(arguments)
        return Ran(ended.value.code, *capsys.readouterr())

    return run


@pytest.fixture
def asked(start_admin: StartAdmin) -> Asked:
    return start_admin(flag_after="100ms")


def address(asked: Asked, postgres: Postgres, name: str) -> str:
    return dsn(asked.proxy, postgres, application_name=name)


@pytest.fixture
def leaking(asked: Asked, postgres: Postgres) -> Iterator[psycopg.Connection]:
    """A client with an open leak."""
    with contextlib.closing(psycopg.connect(address(asked, postgres, "billing"))) as connection:
        connection.execute("SELECT 4711 AS invoice")
        asked.proxy.recorder.wait(LeakFlagged)
        yield connection


def test_leaks_and_sessions_show_who_holds_and_then_who_held(
    pgleash: Run, asked: Asked, leaking: psycopg.Connection
) -> None:
    leak = asked.proxy.recorder.wait(LeakFlagged).leak
    shown = pgleash("leaks", "--admin", asked.where)
    assert (shown.status, shown.err) == (0, "")
    title, head, row, empty, counted, _, account = shown.out.splitlines()
    assert (title, counted) == (OPEN, COUNTED)
    assert head.startswith("leak ")
    assert row.startswith(f"{leak.id}  {leak.session.id} ")
    assert row.endswith("  SELECT ? AS invoice")
    assert empty == ""
    assert re.match(r"billing \(postgres@postgres, 127\.0\.0\.1\) +1 +1 +0 ", account)
    sessions = pgleash("sessions", "--admin", f"http://{asked.where}")
    assert re.search(rf"^{leak.session.id} +billing .* idle in tx .* {leak.id}  SELECT", sessions.out, re.MULTILINE)
    leaking.commit()
    asked.proxy.recorder.wait(LeakResolved)
    after = pgleash("leaks", "--admin", asked.where).out.splitlines()
    assert after[0] == "no leak is open"
    assert re.match(r"billing \(postgres@postgres, 127\.0\.0\.1\) +1 +0 +1 ", after[-1])
    advice = pgleash("advise", "--admin", asked.where)
    assert advice.status == 0
    assert "billing (postgres@postgres, 127.0.0.1)" in advice.out


def test_leaks_fails_if_told_to_and_anybody_has_leaked(pgleash: Run, asked: Asked, postgres: Postgres) -> None:
    assert pgleash("leaks", "--fail", "--admin", asked.where).status == 0
    with psycopg.connect(address(asked, postgres, "honest")) as connection:
        connection.execute("SELECT 1")
    assert pgleash("leaks", "--fail", "--admin", asked.where).status == 0
    with psycopg.connect(address(asked, postgres, "leaky")) as connection:
        connection.execute("SELECT 1")
        asked.proxy.recorder.wait(LeakFlagged)
        assert pgleash("leaks", "--fail", "--admin", asked.where).status == 3
    asked.proxy.recorder.wait(LeakResolved)
    assert pgleash("leaks", "--fail", "--json", "--admin", asked.where).status == 3
    assert pgleash("leaks", "--admin", asked.where).status == 0


@pytest.mark.usefixtures("leaking")
def test_json_is_the_answer_and_reads_back(pgleash: Run, asked: Asked) -> None:
    answer = asked.get("leaks")
    printed = json.loads(pgleash("leaks", "--json", "--admin", asked.where).out)
    assert printed.keys() == answer.keys() == {"generated_at", "since", "resource", "open", "ledger"}
    assert printed["ledger"] == answer["ledger"]
    assert [leak["leak.id"] for leak in printed["open"]] == [leak["leak.id"] for leak in answer["open"]]
    (report,) = ledger_of(printed)
    assert (report.client.application_name, report.leaks, report.fields()) == ("billing", 1, printed["ledger"][0])
    for command, key in (("sessions", "sessions"), ("advise", "advice")):
        assert isinstance(json.loads(pgleash(command, "--json", "--admin", asked.where).out)[key], list)


def test_no_secret_is_printed(pgleash: Run, asked: Asked, postgres: Postgres) -> None:
    with RawClient(address(asked, postgres, "keeper")) as client:
        leak_everywhere(client)
        asked.proxy.recorder.wait(LeakFlagged)
        printed = "".join(
            pgleash(command, *form, "--admin", asked.where).out
            for command in ("leaks", "sessions", "advise")
            for form in ((), ("--json",))
        )
    assert "keeper" in printed
    assert SECRET not in printed


def test_a_name_cannot_write_into_the_terminal(pgleash: Run, asked: Asked, postgres: Postgres) -> None:
    with RawClient(dsn(asked.proxy, postgres)) as client:
        client.query("SET application_name = 'a\x1b[2Jb\nc'")
        client.query('BEGIN; SELECT 1 AS "x\x1b[2J"')
        asked.proxy.recorder.wait(LeakFlagged)
        for command in ("leaks", "sessions", "advise"):
            printed = pgleash(command, "--admin", asked.where).out
            assert printed.replace("\n", "").isprintable()


# Where it is, and the token.


def test_off_loopback_the_token_is_shown(pgleash: Run, start_admin: StartAdmin, tmp_path: Path) -> None:
    token, wrong = tmp_path / "token", tmp_path / "wrong"
    token.write_text("t0ken")
    wrong.write_text("an0ther")
    where = start_admin(admin__listen="0.0.0.0:0", admin__token_file=str(token)).where
    without = pgleash("leaks", "--admin", where)
    assert (without.status, without.out) == (1, "")
    assert without.err.endswith(" wants a token; name its file with --token-file\n")
    refused = pgleash("leaks", "--admin", where, "--token-file", str(wrong))
    assert refused.status == 1
    assert f"does not take the token in {wrong}" in refused.err
    for given in (
        pgleash("leaks", "--admin", where, "--token-file", str(token)),
        pgleash("leaks", PGLEASH_ADMIN__LISTEN=where, PGLEASH_ADMIN__TOKEN_FILE=str(token)),
    ):
        assert (given.status, given.err) == (0, "")


def test_a_unix_socket_is_asked_as_well(pgleash: Run, start_admin: StartAdmin, tmp_path: Path) -> None:
    start_admin(admin__listen=str(tmp_path))
    for where in (str(tmp_path), f"{tmp_path}/pgleash.9433.sock"):
        assert pgleash("sessions", "--admin", where).out == "no session is open\n"
    assert pgleash("sessions", PGLEASH_ADMIN__LISTEN=str(tmp_path)).out == "no session is open\n"


def test_nobody_there_is_one_clear_line(pgleash: Run) -> None:
    ran = pgleash("leaks", "--admin", NOBODY)
    assert (ran.status, ran.out) == (1, "")
    assert ran.err == (
        f"pgleash: cannot ask the admin API at http://{NOBODY}: Connection refused; "
        "is pgleash running there, and is this its admin.listen? Name it with --admin URL\n"
    )


def test_what_is_not_pgleash_is_one_clear_line(pgleash: Run, asked: Asked) -> None:
    ran = pgleash("leaks", "--admin", str(asked.proxy.address))
    assert ran.status == 1
    assert ran.err.startswith(f"pgleash: cannot ask the admin API at http://{asked.proxy.address}: ")
    assert len(ran.err.splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["leaks", "--admin", "nowhere"], "'nowhere' is not an address; write host:port"),
        (["leaks", "--admin", "ftp://a"], "is no URL of an admin API; write http://127.0.0.1:9433"),
        (["sessions", "--fail"], "unrecognized argument --fail"),
        (["leaks", "--jsno"], "did you mean --json?"),
        (["advise", "--tokenfile", "a"], "did you mean --token-file?"),
    ],
)
def test_wrong_usage_is_told(pgleash: Run, arguments: list[str], told: str) -> None:
    ran = pgleash(*arguments)
    assert (ran.status, ran.out) == (2, "")
    assert told in ran.err.splitlines()[-1]


@pytest.mark.parametrize("command", ["serve", "check-config"])
def test_a_missing_token_file_is_a_wrong_configuration(pgleash: Run, command: str) -> None:
    ran = pgleash(command, "--admin.listen", "0.0.0.0:9433", "--admin.token-file", "/nowhere")
    assert (ran.status, ran.out) == (78, "")
    assert ran.err.startswith("admin.token_file: /nowhere cannot be read: No such file or directory; write one line")
