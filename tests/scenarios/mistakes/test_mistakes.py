"""Each mistake is named by its line in the log, and the same program without it is never mentioned."""

import json
import time
from pathlib import Path

import psutil
import pytest

from proxy.cli import LEAKED
from tests.harness import until
from tests.life.support import Program, Record, pgleash
from tests.scenarios.mistakes import findings, kits
from tests.scenarios.mistakes.catalogue import MISTAKES, Mistake
from tests.scenarios.mistakes.document import programs, shown
from tests.scenarios.mistakes.kits import PROGRAMS
from tests.scenarios.mistakes.running import DATABASE, LIMIT, RESTS, USER, Application, Shop, leaks

pytestmark = pytest.mark.timeout(300)  # fetching and building what a library needs

WITHOUT_A_PROCESS = ("client.exhausted",)  # it is about all of a client's sessions

FLAGGED = [mistake for mistake in MISTAKES if mistake.leak_class]
(THIRTY,) = (mistake for mistake in MISTAKES if mistake.stem == "thirty_connections")
MANY = [mistake for mistake in MISTAKES if mistake.leaks > 1]
EVENTS = [(mistake, event) for mistake in MISTAKES for event in mistake.events]


@pytest.mark.parametrize("mistake", FLAGGED, ids=str)
def test_it_is_flagged(shop: Shop, mistake: Mistake, command: list[str]) -> None:
    with shop.open(mistake, command, fixed=False) as (program, application):
        line = program.wait("leak.flagged")
        assert_names(line, mistake)
        assert_process(line, application)
        assert (example := shown(mistake, line["event"]))
        assert example.items() <= line.items()
        findings.record_leak(mistake, line)


@pytest.mark.parametrize("mistake", [THIRTY], ids=str)
def test_it_is_found_at_the_first(shop: Shop, mistake: Mistake, command: list[str]) -> None:
    with shop.open(mistake, command, fixed=False) as (program, application):
        program.wait("leak.flagged")
        lost = [line for line in application.said if line.startswith("hook ")]
        assert 1 <= len(lost) < mistake.leaks


@pytest.mark.parametrize("mistake", MANY, ids=str)
def test_each_of_its_leaks_is_counted_until_it_ends(shop: Shop, mistake: Mistake, command: list[str]) -> None:
    with shop.open(mistake, command, fixed=False, admin__listen="127.0.0.1:0") as (program, application):
        application.wait_for_rest()
        until(lambda: asked(program)[1] == mistake.leaks, what="not all are open")
        application.process.kill()
        until(lambda: asked(program)[1] == 0, what="some are open although their client is gone")
        assert asked(program) == (LEAKED, 0)


@pytest.mark.parametrize(("mistake", "event"), EVENTS, ids=str)
def test_its_event_comes(shop: Shop, mistake: Mistake, event: str, command: list[str]) -> None:
    with shop.open(mistake, command, fixed=False) as (program, application):
        line = program.wait(event)
        assert_client(line, mistake)
        assert shown(mistake, event).items() <= line.items()
        if event not in WITHOUT_A_PROCESS:
            assert_process(line, application)
        if event == "client.exhausted":
            assert RESTS in application.said, "it still has connections"
        if event == "session.forgotten":
            assert line["session.last"] == mistake.last
        findings.record_event(mistake, line)


@pytest.mark.parametrize("mistake", MISTAKES, ids=str)
def test_after_the_fix_it_is_clean(shop: Shop, mistake: Mistake, command: list[str]) -> None:
    with shop.open(mistake, command, fixed=True, admin__listen="127.0.0.1:0") as (program, application):
        application.wait_for_rest()
        time.sleep(2 * LIMIT)  # nothing announces that nothing comes
        assert asked(program) == (0, 0)
        status = application.end()
        program.tell()
        assert program.ended() == 0
    assert status == 0, application.said
    assert program.of("session.opened"), application.said
    assert leaks(program) == []
    findings.of(mistake).fixed = "clean"


def asked(program: Program) -> tuple[int, int]:
    """What `pgleash leaks --fail` ends with, and how many leaks it says are open."""
    address = program.wait("proxy.started")["proxy.admin"]
    done = pgleash("leaks", "--json", "--fail", "--admin", f"http://{address}")
    return done.returncode, sum(account["report.open"] for account in json.loads(done.stdout)["ledger"])


def test_every_program_is_a_mistake_of_the_catalogue_and_of_the_document() -> None:
    listed = {PROGRAMS / mistake.program for mistake in MISTAKES}
    shared = {"__init__", "application", "shop"}
    found = {file for language in kits.LANGUAGES for file in (PROGRAMS / language).glob("*.*")}
    assert {file for file in found if file.stem.lower() not in shared} == listed
    assert listed <= programs()


def assert_names(line: Record, mistake: Mistake) -> None:
    """A `leak.flagged` says who leaks, and with which statements."""
    assert_client(line, mistake)
    assert (line["leak.class"], line["leak.hold"]) == (mistake.leak_class, mistake.hold)
    assert line["transaction.opener"] == mistake.opener
    assert line.get("transaction.first_write", "") == mistake.first_write
    assert line["transaction.last"] == mistake.last


def assert_client(line: Record, mistake: Mistake) -> None:
    assert line["client.application_name"] == mistake.application_name
    assert (line["db.user"], line["db.namespace"]) == (USER, DATABASE)
    assert line["client.address"] == "127.0.0.1"


def assert_process(line: Record, application: Application) -> None:
    """The line names the program's process."""
    pid = application.process.pid
    assert line["client.process.pid"] == pid
    assert Path(line["client.process.executable"]) == Path(psutil.Process(pid).exe())
