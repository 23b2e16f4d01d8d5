"""`pgleash compare`: who leaks in one environment only, or more."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from proxy.cli import main
from proxy.compare import ALIKE, MORE_IN_A, MORE_IN_B, compare
from proxy.errors import OperatorError
from proxy.report.document import ledger_document
from proxy.report.event import flatten
from proxy.report.events import Client, LeakReport
from tests.life.support import ROOT

SINCE = datetime(2026, 11, 20, 8, 0, tzinfo=UTC)
COUNTS = ("leaks", "open", "committed", "resolved", "abandoned", "rolled_back", "terminated", "spared")


def report(leaks: int = 0, opener: str = "UPDATE t", **other: Any) -> LeakReport:
    who = {"user": "app", "database": "shop", "application_name": "web", "address": "10.0.0.1"}
    client = Client(**{name: other.pop(name, value) for name, value in who.items()})
    counts = dict.fromkeys(COUNTS, 0) | {"leaks": leaks, "open": leaks}
    lengths = {"held_s": 1.0, "longest_s": 1.0, "last_seen": "2026-11-20T08:15:02.113+00:00"}
    values: dict[str, Any] = (
        counts | lengths | {"opener": opener, "fingerprint": opener.lower(), "leak_class": "open_read"} | other
    )
    return LeakReport(client=client, **values)


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def write(name: str, *reports: LeakReport, hours: float = 2.0, environment: str = "") -> str:
    resource = {"deployment.environment.name": environment} if environment else {}
    document = ledger_document(reports, [], resource, SINCE + timedelta(hours=hours), SINCE)
    Path(name).write_text(json.dumps(document))
    return name


def statements(a: str, b: str) -> list[tuple[str, str, int, int]]:
    told = json.loads(compare(a, b, as_json=True)[0])
    return [
        (row["where"], row["transaction.opener"], row["a"]["leaks"], row["b"]["leaks"]) for row in told["statements"]
    ]


def test_the_story_it_leaks_in_test_and_not_in_qa() -> None:
    test = write(
        "test.json",
        report(3, opener="SELECT ?", address="10.0.0.1"),
        report(
            30, opener="UPDATE invoices SET status = ?", application_name="partner-sync", leak_class="uncommitted_write"
        ),
        environment="test",
    )
    qa = write("qa.json", report(3, opener="SELECT ?", address="10.9.9.9"), environment="qa")
    said, worse = compare(test, qa)
    assert not worse
    assert said in (ROOT / "docs/ci.md").read_text()
    assert (
        said
        == """\
1 statement leaks in A only; 1 statement leaks in both alike.

  A  test.json (test): 33 leaks in 2.0 h
  B  qa.json (qa): 3 leaks in 2.0 h

where   client                   class               A  B  A an hour  B an hour  longest  opened by
A only  partner-sync (app@shop)  uncommitted_write  30  0       15.0        0.0    1.0 s  UPDATE invoices SET status = ?
both    web (app@shop)           open_read           3  3        1.5        1.5    1.0 s  SELECT ?
"""
    )


@pytest.mark.parametrize(("a", "b", "worse"), [(1, 1, False), (0, 1, True), (1, 2, True), (2, 1, False), (1, 0, False)])
def test_a_pipeline_may_stop_where_the_second_is_worse(a: int, b: int, *, worse: bool) -> None:
    assert compare(write("a", report(a)), write("b", report(b)))[1] is worse


def test_a_release_that_leaks_nothing_any_more() -> None:
    assert compare(write("a", report(1)), write("b"))[0].startswith("1 statement leaks in A only.\n")
    assert compare(write("a"), write("b", report(1), report(1, opener="x")))[0].startswith(
        "2 statements leak in B only.\n"
    )
    assert compare(write("a"), write("b"))[0] == (
        "Nothing leaks in either.\n\n  A  a: 0 leaks in 2.0 h\n  B  b: 0 leaks in 2.0 h\n"
    )


@pytest.mark.parametrize(
    ("a", "hours_a", "b", "hours_b", "where"),
    [
        (10, 1, 10, 1, ALIKE),
        (10, 1, 14, 1, ALIKE),
        (10, 1, 15, 1, MORE_IN_B),
        (15, 1, 10, 1, MORE_IN_A),
        (10, 1, 100, 10, ALIKE),
        (10, 1, 10, 10, MORE_IN_A),
        (10, 0, 30, 10, MORE_IN_B),  # a moment has no rate: the counts are compared
    ],
)
def test_rates_are_compared_where_they_are_known(a: int, hours_a: float, b: int, hours_b: float, where: str) -> None:
    ((told, *_),) = statements(write("a", report(a), hours=hours_a), write("b", report(b), hours=hours_b))
    assert told == where.lower().replace(" ", "_")


def test_addresses_are_no_part_of_who_it_is() -> None:
    a = write("a", report(1, address="10.0.0.1"), report(2, address="10.0.0.2"))
    assert statements(a, write("b", report(3, address="::1"))) == [("both", "UPDATE t", 3, 3)]


def test_names_of_databases_count_unless_they_are_the_environments_own() -> None:
    both = report(1), report(1, database="crm")
    assert len(statements(write("a", *both), write("b", report(1)))) == 2
    other = write("b", report(1, database="shop_qa"), report(1, database="crm_qa"))
    assert statements(write("a", *both), other) == [("both", "UPDATE t", 2, 2)]
    said, _ = compare("a", "b")
    assert "web (app) " in said
    assert said.endswith("The databases of A and B have nothing in common, so they were not compared.\n")


# Logs.


def log(*records: dict[str, Any], name: str = "log") -> str:
    lines = [json.dumps({"timestamp": f"2026-11-20T0{hour}:00:00Z"} | record) for hour, record in enumerate(records)]
    Path(name).write_text("\n".join(lines) + "\nnot JSON\n")
    return name


def line(told: LeakReport, **other: str) -> dict[str, Any]:
    return {"event": "leak.report"} | dict(flatten(told)) | other


STARTED = {"event": "proxy.started"}


def test_a_log_is_as_good_as_a_ledger() -> None:
    written = log(STARTED, line(report(1)), line(report(4)), line(report(1, opener="x")))
    assert statements(written, write("b", report(4), hours=3)) == [("a_only", "x", 1, 0), ("both", "UPDATE t", 4, 4)]
    assert "A  log: 5 leaks in 3.0 h\n" in compare(written, "b")[0]


def test_counts_from_before_a_start_are_added() -> None:
    assert statements(log(STARTED, line(report(4)), STARTED, line(report(2))), write("b"))[0][2] == 6
    pods = [{"k8s.pod.name": name} for name in ("a", "b")]
    mixed = log(STARTED | pods[0], STARTED | pods[1], line(report(1), **pods[0]), line(report(2), **pods[1]))
    assert statements(mixed, "b")[0][2] == 3


def test_a_log_without_its_beginning_has_no_rate() -> None:
    assert "A  log: 4 leaks\n" in compare(log(line(report(1)), line(report(4))), write("b"))[0]


# Wrong files.


def test_a_file_that_is_none_is_told_and_nothing_is_lost(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["compare", write("a"), "none"])
    assert (ended.value.code, *capsys.readouterr()) == (
        1,
        "",
        "pgleash: none: cannot be read: No such file or directory\n",
    )


@pytest.mark.parametrize("text", ["", "{}", "[1, 2]", '{"event": "x"}', '{"event": "x", "timestamp": 1}', "\udcff"])
def test_a_file_that_holds_something_else_is_told(text: str) -> None:
    Path("other").write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(OperatorError, match=r"^other: "):
        compare(write("a"), "other")


def test_the_command_prints_the_comparison(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["compare", "--json", write("a", report(1)), write("b")])
    assert ended.value.code == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["summary"], told["a"]["leaks"]) == ("1 statement leaks in A only.", 1)
