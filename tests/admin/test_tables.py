"""Tables of what goes on: who holds longest first, and they fit."""

import dataclasses
from typing import Any

from proxy.ask.reach import printable
from proxy.ask.tables import NO_LEAKS, NO_LEDGER, NO_SESSIONS, OPEN, WIDTH, leaks_table, sessions_table
from proxy.report.events import Blast, Client, Leak, Process, Session, TransactionFacts
from proxy.report.now import SessionNow

CLIENT = Client(user="billing", database="shop", application_name="billing-worker", address="127.0.0.1")
LONG = Client(user="u" * 128, database="d" * 128, application_name="a" * 128, address="2001:db8::1")
STATEMENT = "SELECT " + ", ".join(f"column_{number}" for number in range(50))


def session(number: int = 1, state: str = "idle", since: float | None = 1.0, **other: Any) -> SessionNow:
    who = Session(client=CLIENT, id=f"s-{number:x}", port=1, backend_pid=4711)
    made = SessionNow(session=who, state=state, state_s=since, rule="default", last="SELECT ?")
    return dataclasses.replace(made, **other)


def transaction(age: float = 1.0) -> TransactionFacts:
    return TransactionFacts(age_s=age, idle_s=0.5, statements=1234567, opener=STATEMENT, last="SELECT ?")


def leak(held: float, client: Client = CLIENT) -> Leak:
    return Leak(
        id="k3f9xw2m",
        leak_class="uncommitted_write",
        hold="idle_in_transaction",
        held_s=held,
        limit_s=10.0,
        rule="default",
        session=Session(client=client, id="s-2c1", port=1, process=Process(pid=17, executable="/usr/bin/node")),
        transaction=transaction(held),
    )


def order(table: str) -> list[str]:
    return [line.split()[0] for line in table.splitlines()[1:]]


def test_who_holds_longest_stands_first() -> None:
    table = sessions_table(
        [
            session(1, since=9000.0),
            session(2, "active", None),
            session(3, "active", None, transaction=transaction(50.0)),
            session(4, "idle_in_transaction", 2.0, transaction=transaction(900.0)),
            session(5, "stalled", 5.0, transaction=transaction(6.0)),
            session(6, since=10.0),
        ]
    )
    assert order(table) == ["s-5", "s-4", "s-3", "s-1", "s-6", "s-2"]


def test_a_row_says_what_a_person_wants_to_know() -> None:
    failed = session(4, "idle_in_failed_transaction", 2.0, transaction=transaction(900.0), leak_id="k3f9xw2m")
    _, row = sessions_table([failed]).splitlines()
    beginning, statement = row[: row.index("SELECT")], row[row.index("SELECT") :]
    assert (
        beginning == "s-4      billing-worker (billing@shop, 127.0.0.1)  failed tx  2.0s  15m00s  1234567  k3f9xw2m  "
    )
    assert statement.startswith("SELECT column_0, ")


def test_tables_fit_a_wide_terminal() -> None:
    who = Session(client=LONG, id="s-fffff", port=1)
    wide = session(
        state="idle_in_failed_transaction", since=9e5, session=who, transaction=transaction(9e5), leak_id="k" * 8
    )
    for table in (sessions_table([wide, session()]), leaks_table([leak(9e5, LONG), leak(1.0)], [])):
        assert max(map(len, table.splitlines())) <= WIDTH


def test_the_statement_gets_the_room_that_is_left() -> None:
    for line in sessions_table([session(state="stalled", transaction=transaction())]).splitlines()[1:]:
        assert len(line) == WIDTH
        assert line.endswith("…")


def test_open_leaks_stand_before_the_ledger() -> None:
    title, head, first, second, empty, ledger = leaks_table([leak(11.0), leak(3900.0)], []).splitlines()
    assert title == OPEN
    assert head.split() == ["leak", "session", "client", "class", "held", "limit", "blocks", "stmts", "opened", "by"]
    assert "billing-worker (billing@shop, node, pid 17)  uncommitted_write  1h05m    10s" in first
    assert " 11s " in second
    assert (empty, ledger) == ("", NO_LEDGER)


def test_who_blocks_others_stands_first() -> None:
    blocking = dataclasses.replace(leak(1.0), blast=Blast(blocked_sessions=12))
    *_, first, second, _, _ = leaks_table([leak(3900.0), blocking], []).splitlines()
    assert "1.0s    10s      12" in first
    assert "1h05m" in second


def test_nothing_is_said_in_words() -> None:
    assert sessions_table([]) == NO_SESSIONS
    assert leaks_table([], []) == f"{NO_LEAKS}\n\n{NO_LEDGER}"


def test_nothing_can_move_the_cursor() -> None:
    assert printable({"a\n": ["\x1b[2J", "\u202eb", 1, None, True], "ä": "é"}) == {
        "a?": ["?[2J", "?b", 1, None, True],
        "ä": "é",
    }
