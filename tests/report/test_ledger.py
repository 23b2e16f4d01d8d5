"""The ledger: who leaked how often and how long, bounded, and as a table."""

import dataclasses
import random
import re
from collections.abc import Callable

import pytest

from proxy.report import events
from proxy.report.event import Event
from proxy.report.ledger import MAX_ACCOUNTS, Account, Ledger
from proxy.report.table import HEAD, MAX_OPENER, NUMBERS, ledger_table


def client(name: str = "app", **other: str) -> events.Client:
    return events.Client(**{"user": "u", "database": "d", "application_name": name, "address": "10.0.0.1"} | other)


def leak(name: str = "app", held: float = 1.0, opener: str = "SELECT ?") -> events.Leak:
    return events.Leak(
        id="abcdefgh",
        leak_class="open_read",
        hold="idle_in_transaction",
        held_s=held,
        limit_s=1.0,
        rule="default",
        session=events.Session(client=client(name), id="s-1", port=1),
        transaction=events.TransactionFacts(age_s=held, idle_s=held, statements=1, opener=opener),
    )


def flag(facts: events.Leak) -> events.LeakFlagged:
    return events.LeakFlagged(summary="", leak=facts, flagged=True)


def terminate(facts: events.Leak, *, flagged: bool = True) -> events.LeakTerminated:
    return events.LeakTerminated(summary="", leak=facts, flagged=flagged)


def resolve(facts: events.Leak) -> events.LeakResolved:
    return events.LeakResolved(summary="", leak=facts, flagged=True, outcome="commit", resumed_with="")


def abandon(facts: events.Leak, *, flagged: bool = True) -> events.LeakAbandoned:
    return events.LeakAbandoned(summary="", leak=facts, flagged=flagged, how="eof", running="")


def accounts(*recorded: Event) -> dict[events.Client, Account]:
    ledger = Ledger()
    for event in recorded:
        ledger.record(event)
    return dict(ledger)


# Sums.


def test_a_flagged_leak_is_open_until_it_ends() -> None:
    assert accounts(flag(leak())) == {client(): Account(leaks=1, open=1, opener="SELECT ?")}


ENDS: dict[str, Callable[[events.Leak], Event]] = {
    "resolved": resolve,
    "abandoned": abandon,
    "terminated": terminate,
}


@pytest.mark.parametrize("end", ENDS)
def test_a_leak_that_ends_is_counted_once_with_what_it_held(end: str) -> None:
    account = Account(leaks=1, held_s=2.5, longest_s=2.5, opener="SELECT ?")
    setattr(account, end, 1)
    assert accounts(flag(leak()), ENDS[end](leak(held=2.5))) == {client(): account}


def test_a_termination_without_a_flag_is_a_leak_too() -> None:
    account = Account(leaks=1, terminated=1, held_s=3.0, longest_s=3.0, opener="SELECT ?")
    assert accounts(terminate(leak(held=3.0), flagged=False)) == {client(): account}


def test_a_transaction_that_was_abandoned_without_a_flag_is_no_leak() -> None:
    account = Account(abandoned=1, opener="SELECT ?")
    assert accounts(abandon(leak(held=3.0), flagged=False)) == {client(): account}


def test_each_client_has_an_account_of_its_own() -> None:
    kept = accounts(
        flag(leak("a")), flag(leak("b")), flag(leak("a")), resolve(leak("a", 1.0)), resolve(leak("a", 4.0)),
        terminate(leak("b", 2.0)),
    )  # fmt: skip
    assert kept == {
        client("a"): Account(leaks=2, resolved=2, held_s=5.0, longest_s=4.0, opener="SELECT ?"),
        client("b"): Account(leaks=1, terminated=1, held_s=2.0, longest_s=2.0, opener="SELECT ?"),
    }


def test_a_client_is_user_database_application_and_address_and_not_the_port() -> None:
    ledger = Ledger()
    for number, changed in enumerate(
        ({}, {"user": "v"}, {"database": "e"}, {"application_name": "b"}, {"address": ""})
    ):
        session = events.Session(client=dataclasses.replace(client(), **changed), id=f"s-{number}", port=number)
        for port in (number, number + 1):
            facts = dataclasses.replace(leak(), session=dataclasses.replace(session, port=port))
            ledger.record(flag(facts))
    assert [account.leaks for _, account in ledger] == [2] * 5


def test_the_opener_that_is_known_stays() -> None:
    kept = accounts(flag(leak(opener="UPDATE a")), flag(leak(opener="")))
    assert kept[client()].opener == "UPDATE a"


def test_what_is_not_about_a_leak_is_not_counted() -> None:
    assert accounts(events.ConfigWarning(reason=""), events.SessionOpened(session=leak().session)) == {}


# Its bound.


def test_of_too_many_clients_the_one_goes_that_was_quiet_longest() -> None:
    ledger = Ledger()
    for number in range(MAX_ACCOUNTS):
        ledger.record(flag(leak(str(number))))
    ledger.record(flag(leak("0")))  # so that 1 has been quiet longest
    ledger.record(flag(leak("new")))
    names = [who.application_name for who, _ in ledger]
    assert len(names) == MAX_ACCOUNTS == 1000
    assert names[-2:] == ["0", "new"]
    assert "1" not in names
    assert dict(ledger)[client("0")].leaks == 2


def test_a_leak_that_ends_after_its_account_went_leaves_nothing_open() -> None:
    ledger = Ledger()
    ledger.record(flag(leak("old")))
    for number in range(MAX_ACCOUNTS):
        ledger.record(flag(leak(str(number))))
    ledger.record(resolve(leak("old")))
    assert dict(ledger)[client("old")].open == 0
    assert len(dict(ledger)) == MAX_ACCOUNTS


# What is reported.


def test_only_what_changed_is_reported() -> None:
    ledger = Ledger()
    assert list(ledger.report()) == []
    ledger.record(flag(leak("a")))
    ledger.record(flag(leak("b")))
    assert [line.client.application_name for line in ledger.report()] == ["a", "b"]
    assert list(ledger.report()) == []
    ledger.record(resolve(leak("a", 2.0)))
    (line,) = ledger.report()
    assert line.fields() == {
        "db.user": "u",
        "db.namespace": "d",
        "client.application_name": "a",
        "client.address": "10.0.0.1",
        "report.leaks": 1,
        "report.open": 0,
        "report.rolled_back": 0,
        "report.terminated": 0,
        "report.spared": 0,
        "report.resolved": 1,
        "report.abandoned": 0,
        "report.held_s": 2.0,
        "report.longest_s": 2.0,
        "report.opener": "SELECT ?",
    }
    assert list(ledger.report()) == []


# The table.


def account(held: float = 1.0, opener: str = "SELECT ?") -> Account:
    made = Account(held_s=held, longest_s=held / 2, opener=opener)
    chance = random.Random(held)  # noqa: S311 - figures of different widths, the same every time
    for name in ("leaks", "open", "terminated", "resolved", "abandoned"):
        setattr(made, name, chance.choice((0, 7, 12, 345_678)))
    return made


def test_the_columns_of_the_table_stand_below_each_other() -> None:
    lengths = (0.04, 7.25, 99.94, 100.0, 12_345.6)
    names = ("a", "a much longer name than the others", "b", "", "c")
    table = ledger_table((client(name), account(held)) for name, held in zip(names, lengths, strict=True))
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


def test_who_held_longest_comes_first() -> None:
    table = ledger_table(
        [(client("short"), account(1.0)), (client("long"), account(3.0)), (client("mid"), account(2.0))]
    )
    assert re.findall(r"^(long|mid|short)", table, re.MULTILINE) == ["long", "mid", "short"]
    assert [word for word in ("3.0 s", "2.0 s", "1.0 s") if word in table] == ["3.0 s", "2.0 s", "1.0 s"]


def test_a_client_without_a_name_or_an_address_is_called_what_is_known() -> None:
    table = ledger_table([(client("", address=""), account())])
    assert table.split("\n")[1].startswith("u (u@d, local) ")


@pytest.mark.parametrize("length", [MAX_OPENER - 1, MAX_OPENER, MAX_OPENER + 1, 2000])
def test_a_long_statement_is_cut(length: int) -> None:
    opener = ("SELECT " + "x" * 2000)[:length]
    shown = ledger_table([(client(), account(opener=opener))]).split("\n")[1]
    cut = opener if length <= MAX_OPENER else opener[: MAX_OPENER - 1] + "…"
    assert shown.endswith(f"  {cut}")


def test_an_empty_ledger_is_a_head_alone() -> None:
    assert ledger_table([]) == "  ".join(HEAD)
