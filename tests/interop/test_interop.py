"""Every client runs the common script without us and through us, and its leak looks as if the server had ended it."""

import re
from typing import Any

import pytest

from tests.interop.catalogue import Client
from tests.interop.findings import TRANSPORTS, record_rollback, record_run, record_without_a_handler
from tests.interop.play import Outcome
from tests.interop.stage import Stage
from tests.life.support import Record

pytestmark = pytest.mark.timeout(600)  # fetching and building what a client needs, and two runs of a minute at most

# What each step finds, whatever the client.
FOUND: dict[str, Any] = {
    "connect": None,  # the session's name
    "parameters": [42, "naïve 'quoted'"],
    "prepared": [42, 8],
    "commit": 1,
    "rollback": ["22012", 0],
    "savepoint": 1,
    "copy": 100_000,
    "large": 100_000,
    "cancel": 1,
    "notify": "hello",
    "again": 1,
    "close": None,
}
MESSAGE = re.compile(r"transaction rolled back by pgleash after \d+\.\d s idle in transaction")
ROLLED_BACK = ["connect", "statement", "commit", "go on", "commit at once", "go on again", "close"]

# What clients do by themselves, as after any error.
HAS_ENDED = {"odbc", "pgbench"}  # the transaction, when a statement of it has raised; no COMMIT comes after that
REFUSES = {"pq"}  # to send COMMIT when a statement has raised, with an error of its own
CLOSES = {"sequelize"}  # a connection whose COMMIT has raised; its pool makes another one


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_it_runs_as_without_us(stage: Stage) -> None:
    direct = stage.play_directly()
    assert_complete(stage.client, direct)

    through, leaks = stage.play_through()
    assert_complete(stage.client, through)
    assert_one_leak(stage.client, leaks)
    assert through.steps == direct.steps
    assert through.leak["raised"], "the application did not notice"
    assert seen(through) == seen(direct)
    record_run(stage, through)


@pytest.mark.parametrize("transport", ["plain"])
def test_without_a_handler(stage: Stage) -> None:
    outcome, leaks = stage.play_through(INTEROP_HANDLER="none")
    assert_one_leak(stage.client, leaks)
    assert outcome.status in {0, 1}, outcome.errors
    record_without_a_handler(stage, outcome)


@pytest.mark.parametrize("transport", ["plain"])
def test_a_rollback(stage: Stage) -> None:
    """Whatever comes first raises, COMMIT always, and the same connection goes on."""
    outcome, leaks, committed = stage.play_rolled_back()
    rolled_back = [record for record in leaks if record["event"] == "leak.rolled_back"]
    returned = [record for record in leaks if record["event"] == "leak.returned"]
    assert (len(rolled_back), len(rolled_back) + len(returned)) == (2, len(leaks)), (leaks, outcome.errors)
    assert {record["leak.id"] for record in returned} <= {record["leak.id"] for record in rolled_back}
    assert_done(outcome)
    assert [*outcome.steps] == ROLLED_BACK
    results = {name: line["result"] for name, line in outcome.steps.items() if line.get("ok")}
    assert (results.get("commit", {"raised": None})["raised"] is None) == (stage.client.name in HAS_ENDED)
    for name in {"statement", "commit", "commit at once"} & results.keys():
        if name != "commit" or stage.client.name not in HAS_ENDED | REFUSES:
            assert MESSAGE.search(results[name]["text"])
            assert results[name]["sqlstate"] in {"25P03", None}
    gone_on = [results[name] for name in ("go on", "go on again") if name in results]
    kept = gone_on == [record["postgres.backend_pid"] for record in rolled_back if gone_on]
    assert kept == (stage.client.name not in CLOSES)
    assert committed == ({"after": 2} if gone_on else {})
    record_rollback(stage, outcome, kept=kept)


def seen(outcome: Outcome) -> tuple[str, ...]:
    """What an application can tell by code that its leak was ended."""
    return (outcome.leak["raised"], outcome.leak["sqlstate"], *outcome.leak.get("events", ()))


def assert_complete(client: Client, outcome: Outcome) -> None:
    """The whole script was run, and found what there is to find."""
    assert_done(outcome)
    assert outcome.leak, outcome.errors
    expected = FOUND | {"connect": client.application_name}
    assert [*outcome.steps] == [*expected]
    results = {name: line["result"] for name, line in outcome.steps.items() if line.get("ok")}
    assert results == {name: expected[name] for name in results}


def assert_done(outcome: Outcome) -> None:
    """Every step was done, or was said not to exist."""
    wrong = [line for line in outcome.steps.values() if not line.get("ok") and "unsupported" not in line]
    assert not wrong, (wrong, outcome.errors)
    assert outcome.status == 0, outcome.errors


def assert_one_leak(client: Client, leaks: list[Record]) -> None:
    """The log has the leak that there was, and no other."""
    assert [record["event"] for record in leaks] == ["leak.flagged", "leak.terminated"], leaks
    for record in leaks:
        assert record["client.application_name"] == client.application_name
        assert record["leak.class"] == "uncommitted_write"
        assert record["transaction.opener"].lower().replace('"', "").startswith("insert into items")
