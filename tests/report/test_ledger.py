"""The ledger: who leaks with what, how often and how long, bounded, and as a table."""

import dataclasses
import random
import re
from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from proxy.report import events
from proxy.report.event import Event
from proxy.report.ledger import MAX_ACCOUNTS, Account, Ledger, Who
from proxy.report.table import HEAD, MAX_ROWS, MAX_TEXT, NUMBERS, align, ledger_table
from tests.report.leaks import NOW, client, flagged, leak, resolved


def terminated(facts: events.Leak, *, flagged: bool = True, rolled_back: bool = False) -> events.LeakTerminated:
    return events.LeakTerminated(summary="", leak=facts, flagged=flagged, rolled_back=rolled_back)


def rolled_back(facts: events.Leak) -> events.LeakRolledBack:
    return events.LeakRolledBack(summary="", leak=facts, flagged=True)


def returned(facts: events.Leak, *, would_commit: bool) -> events.LeakReturned:
    return events.LeakReturned(summary="", leak=facts, flagged=False, returned_with="", would_commit=would_commit)


def abandoned(facts: events.Leak, *, flagged: bool = True) -> events.LeakAbandoned:
    return events.LeakAbandoned(summary="", leak=facts, flagged=flagged, how="eof", running="")


def left(facts: events.Leak) -> events.LeakLeft:
    return events.LeakLeft(summary="", leak=facts, flagged=False, how="terminate", running="")


def recorded(*happened: Event) -> Ledger:
    ledger = Ledger(lambda: NOW)
    for event in happened:
        ledger.record(event)
    return ledger


def accounts(*happened: Event) -> dict[Who, Account]:
    return dict(recorded(*happened))


def account(**figures: object) -> Account:
    """An account of leaks as `leak` makes them."""
    known = {"opener": "SELECT ?", "leak_class": "open_read", "last_seen": NOW}
    return Account(**{**known, **figures})  # type: ignore[arg-type]


def who(name: str = "app", fingerprint: str = "f0") -> Who:
    return Who(client(name), fingerprint)


# Sums.


def test_a_flagged_leak_is_open_until_it_ends() -> None:
    assert accounts(flagged(leak())) == {who(): account(leaks=1, open=1)}


ENDS: dict[str, Callable[[events.Leak], Event]] = {
    "resolved": lambda facts: resolved(facts, "rollback"),
    "abandoned": abandoned,
    "rolled_back": rolled_back,
    "terminated": terminated,
}


@pytest.mark.parametrize("end", ENDS)
def test_a_leak_that_ends_is_counted_once_with_what_it_held(end: str) -> None:
    closed = account(leaks=1, held_s=2.5, longest_s=2.5, **{end: 1})
    assert accounts(flagged(leak()), ENDS[end](leak(held=2.5))) == {who(): closed}


def test_a_termination_without_a_flag_is_a_leak_too() -> None:
    closed = account(leaks=1, terminated=1, held_s=3.0, longest_s=3.0)
    assert accounts(terminated(leak(held=3.0), flagged=False)) == {who(): closed}


def test_a_session_that_is_ended_after_its_rollback_was_one_leak() -> None:
    ended = terminated(leak(held=9.0), flagged=False, rolled_back=True)
    closed = account(leaks=1, rolled_back=1, terminated=1, held_s=3.0, longest_s=3.0)
    assert accounts(flagged(leak()), rolled_back(leak(held=3.0)), ended) == {who(): closed}


def test_a_transaction_that_was_abandoned_without_a_flag_is_a_leak_too() -> None:
    kept = account(leaks=1, abandoned=1, held_s=3.0, longest_s=3.0)
    assert accounts(abandoned(leak(held=3.0), flagged=False)) == {who(): kept}


def test_a_polite_goodbye_is_not_counted() -> None:
    assert accounts(left(leak(held=3.0))) == {}


def test_what_is_spared_twice_is_spared_once() -> None:
    def spared(*, first: bool) -> events.LeakSpared:
        return events.LeakSpared(
            summary="", leak=leak(), flagged=True, action="rollback", reason="observe", first=first
        )

    (kept,) = accounts(flagged(leak()), spared(first=True), spared(first=False)).values()
    assert (kept.spared, kept.open) == (1, 1)


@pytest.mark.parametrize(("outcome", "false_alarms"), [("commit", 1), ("rollback", 0), ("unknown", 0)])
def test_what_commits_after_all_was_a_false_alarm(outcome: str, false_alarms: int) -> None:
    (kept,) = accounts(flagged(leak()), resolved(leak(), outcome)).values()
    assert (kept.resolved, kept.committed) == (1, false_alarms)


@pytest.mark.parametrize(("would_commit", "false_alarms"), [(True, 1), (False, 0)])
def test_what_would_have_committed_was_a_false_alarm(would_commit: bool, false_alarms: int) -> None:
    (kept,) = accounts(flagged(leak()), rolled_back(leak()), returned(leak(), would_commit=would_commit)).values()
    assert (kept.leaks, kept.open, kept.resolved, kept.committed) == (1, 0, 0, false_alarms)


# Whose they are.


def test_each_client_has_an_account_of_its_own() -> None:
    kept = accounts(
        flagged(leak("a")), flagged(leak("b")), flagged(leak("a")), resolved(leak("a", 1.0)), resolved(leak("a", 4.0)),
        terminated(leak("b", 2.0)),
    )  # fmt: skip
    assert kept == {
        who("a"): account(leaks=2, resolved=2, committed=2, held_s=5.0, longest_s=4.0),
        who("b"): account(leaks=1, terminated=1, held_s=2.0, longest_s=2.0),
    }


def test_each_shape_of_a_clients_transactions_has_one_too() -> None:
    kept = accounts(flagged(leak(fingerprint="f1")), flagged(leak(fingerprint="f2")), flagged(leak(fingerprint="f1")))
    assert {fingerprint: account.leaks for (_, fingerprint), account in kept.items()} == {"f1": 2, "f2": 1}


def test_a_client_is_user_database_application_and_address_and_not_the_port() -> None:
    ledger = Ledger()
    for number, changed in enumerate(
        ({}, {"user": "v"}, {"database": "e"}, {"application_name": "b"}, {"address": ""})
    ):
        session = events.Session(client=dataclasses.replace(client(), **changed), id=f"s-{number}", port=number)
        for port in (number, number + 1):
            facts = leak(id=f"{number} {port}")
            facts = dataclasses.replace(facts, session=dataclasses.replace(session, port=port))
            ledger.record(flagged(facts))
    assert [account.leaks for _, account in ledger] == [2] * 5


@pytest.mark.parametrize("end", ENDS)
def test_a_leak_stays_in_the_account_that_it_was_flagged_in(end: str) -> None:
    """What opened it may be known only later, and a client may call itself something else."""
    ended = ENDS[end](leak("renamed", opener="UPDATE a", fingerprint="f9"))
    ((whose, kept),) = accounts(flagged(leak()), ended).items()
    assert whose == who()
    assert (kept.leaks, kept.open) == (1, 0)


def test_and_what_becomes_of_it_after_its_rollback_is_counted_there_too() -> None:
    later = leak("renamed", opener="UPDATE a", fingerprint="f9")
    back = returned(later, would_commit=True)
    ((whose, kept),) = accounts(flagged(leak()), rolled_back(later), back).items()
    assert (whose, kept.rolled_back, kept.committed) == (who(), 1, 1)
    ended = terminated(later, flagged=False, rolled_back=True)
    ((whose, kept),) = accounts(flagged(leak()), rolled_back(later), ended).items()
    assert (whose, kept.leaks, kept.rolled_back, kept.terminated) == (who(), 1, 1, 1)


def test_an_account_tells_the_opener_whose_fingerprint_it_has() -> None:
    kept = accounts(flagged(leak(opener="BEGIN")), rolled_back(leak(opener="UPDATE a", fingerprint="f9")))
    assert kept[who()].opener == "BEGIN"


def test_the_opener_that_is_known_stays() -> None:
    kept = accounts(flagged(leak(opener="UPDATE a")), flagged(leak(opener="")))
    assert kept[who()].opener == "UPDATE a"


def test_what_is_not_about_a_leak_is_not_counted() -> None:
    assert accounts(events.ConfigWarning(reason=""), events.SessionOpened(session=leak().session)) == {}


# Its bound.


def test_of_too_many_clients_the_one_goes_that_was_quiet_longest() -> None:
    ledger = Ledger()
    for number in range(MAX_ACCOUNTS):
        ledger.record(flagged(leak(str(number), id=f"id{number}")))
    ledger.record(flagged(leak("0", id="again")))  # so that 1 has been quiet longest
    ledger.record(flagged(leak("new", id="new")))
    names = [who.client.application_name for who, _ in ledger]
    assert len(names) == MAX_ACCOUNTS == 1000
    assert names[-2:] == ["0", "new"]
    assert "1" not in names
    assert dict(ledger)[who("0")].leaks == 2


def test_a_leak_that_ends_after_its_account_went_leaves_nothing_open() -> None:
    ledger = Ledger()
    ledger.record(flagged(leak("old", id="old")))
    for number in range(MAX_ACCOUNTS):
        ledger.record(flagged(leak(str(number), id=f"id{number}")))
    ledger.record(resolved(leak("old", id="old")))
    assert dict(ledger)[who("old")].open == 0
    assert len(dict(ledger)) == MAX_ACCOUNTS


# What is reported.


def test_only_what_changed_is_reported() -> None:
    ledger = Ledger(lambda: NOW)
    assert list(ledger.report()) == []
    ledger.record(flagged(leak("a")))
    ledger.record(flagged(leak("b", id="other")))
    assert [line.client.application_name for line in ledger.report()] == ["a", "b"]
    assert list(ledger.report()) == []
    ledger.record(resolved(leak("a", 2.0)))
    (line,) = ledger.report()
    assert line.fields() == {
        "db.user": "u",
        "db.namespace": "d",
        "client.application_name": "a",
        "client.address": "10.0.0.1",
        "transaction.fingerprint": "f0",
        "transaction.opener": "SELECT ?",
        "leak.class": "open_read",
        "report.leaks": 1,
        "report.open": 0,
        "report.committed": 1,
        "report.rolled_back": 0,
        "report.terminated": 0,
        "report.spared": 0,
        "report.resolved": 1,
        "report.abandoned": 0,
        "report.held_s": 2.0,
        "report.longest_s": 2.0,
        "report.last_seen": "2026-11-20T08:15:02.113+00:00",
    }
    assert list(ledger.report()) == []


def test_who_held_longest_comes_first() -> None:
    lengths = {"short": 1.0, "long": 3.0, "mid": 2.0}
    ledger = recorded(*(terminated(leak(name, held, id=name), flagged=False) for name, held in lengths.items()))
    assert [line.client.application_name for line in ledger.reports()] == ["long", "mid", "short"]
    assert len(list(ledger.report())) == 3, "what is only looked at is still to be reported"


def test_an_account_was_last_seen_when_something_of_it_happened() -> None:
    times = iter(datetime(2026, 11, 20, 8, minute, tzinfo=UTC) for minute in range(3))
    ledger = Ledger(lambda: next(times))
    ledger.record(flagged(leak("a")))
    ledger.record(flagged(leak("b", id="other")))
    ledger.record(resolved(leak("a")))
    seen = {line.client.application_name: line.last_seen for line in ledger.reports()}
    assert seen == {"a": "2026-11-20T08:02:00.000+00:00", "b": "2026-11-20T08:01:00.000+00:00"}


# The table.


def report(
    name: str = "app", held: float = 1.0, opener: str = "SELECT ?", *, address: str = "10.0.0.1"
) -> events.LeakReport:
    chance = random.Random(held)  # noqa: S311 - figures of different widths, the same every time
    counts = ("leaks", "open", "committed", "resolved", "abandoned", "rolled_back", "terminated", "spared")
    return events.LeakReport(
        client=client(name, address=address),
        fingerprint="f0f1",
        opener=opener,
        held_s=held,
        longest_s=held / 2,
        last_seen="",
        **{count: chance.choice((0, 7, 12, 345_678)) for count in counts},  # type: ignore[arg-type]
    )


def columns(line: str) -> list[str]:
    return re.split(r" {2,}", line)


def test_the_columns_of_the_table_stand_below_each_other() -> None:
    lengths = (0.04, 7.25, 99.94, 100.0, 12_345.6)
    names = ("a", "a much longer name than the others", "b", "", "c")
    table = ledger_table(report(name, held) for name, held in zip(names, lengths, strict=True))
    head, *rows = table.split("\n")
    assert len(rows) == 5
    for title in HEAD:
        begin = head.index(title) if title != "open" else head.index(" open") + 1
        end = begin + len(title)
        for row in rows:
            if title in NUMBERS:  # the last figure stands below the last letter
                assert row[end - 1 : end].isalnum()
                assert row[end : end + 1] in {" ", ""}
            else:
                assert row[begin - 1 : begin] in {" ", ""} or begin == 0
                assert row[begin : begin + 1] != " "
    assert not any(line.endswith(" ") for line in table.split("\n"))


def test_each_figure_stands_below_its_name() -> None:
    line = events.LeakReport(
        client=client(), fingerprint="f0f1", opener="SELECT ?", last_seen="", held_s=8.0, longest_s=9.0,
        leaks=1, open=2, committed=3, resolved=99, abandoned=6, rolled_back=4, terminated=5, spared=99,
    )  # fmt: skip
    head, row = map(columns, ledger_table([line]).split("\n"))
    assert dict(zip(head, row, strict=True)) == {
        "client": "app (u@d, 10.0.0.1)", "leaks": "1", "open": "2", "resolved": "99", "false alarms": "3",
        "rolled back": "4", "terminated": "5", "abandoned": "6", "held": "8.0s", "longest": "9.0s",
        "opened by": "SELECT ?",
    }  # fmt: skip


def test_the_table_keeps_the_order_that_it_is_given() -> None:
    table = ledger_table([report("short", 1.0), report("long", 3.0), report("mid", 2.0)])
    assert re.findall(r"^(long|mid|short)", table, re.MULTILINE) == ["short", "long", "mid"]


def test_a_client_without_a_name_or_an_address_is_called_what_is_known() -> None:
    table = ledger_table([report("", address="")])
    assert table.split("\n")[1].startswith("u@d (local) ")


def test_without_a_text_the_fingerprint_tells_what_opened_it() -> None:
    assert ledger_table([report(opener="")]).endswith("  f0f1")


@pytest.mark.parametrize("length", [MAX_TEXT - 1, MAX_TEXT, MAX_TEXT + 1, 2000])
def test_a_long_statement_is_cut(length: int) -> None:
    opener = ("SELECT " + "x" * 2000)[:length]
    shown = ledger_table([report(opener=opener)]).split("\n")[1]
    cut = opener if length <= MAX_TEXT else opener[: MAX_TEXT - 1] + "…"
    assert shown.endswith(f"  {cut}")


def test_an_empty_ledger_is_a_head_alone() -> None:
    assert ledger_table([]) == "  ".join(HEAD)


def test_any_table_is_as_wide_as_it_has_to_be() -> None:
    table = align(("who", "n"), [("a", "1"), ("abcd", "23")], frozenset({"n"}))
    assert table == "who    n\na      1\nabcd  23"


def test_a_table_that_nobody_would_read_to_its_end_is_cut() -> None:
    ledger = Ledger()
    for number in range(MAX_ROWS + 7):
        ledger.record(flagged(leak(str(number))))
    lines = ledger_table(ledger.reports()).splitlines()
    assert len(lines) == 1 + MAX_ROWS + 1
    assert lines[-1] == "and 7 more; --json has all"


def test_an_account_with_something_open_goes_last() -> None:
    ledger = Ledger()
    ledger.record(flagged(leak("still open", id="open")))
    for number in range(MAX_ACCOUNTS):
        ledger.record(flagged(leak(str(number), id=str(number))))
        ledger.record(resolved(leak(str(number), id=str(number))))
    kept = dict(ledger)
    assert len(kept) == MAX_ACCOUNTS
    assert kept[who("still open")].open == 1
