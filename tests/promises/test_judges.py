"""Those who judge: what they would find if there were something to find."""

import pytest

from proxy.demo.postgres import Postgres
from tests.harness import until
from tests.promises.ledger import Entry, Fate, Ledger, Ticket, judged
from tests.promises.monitor import Monitor

MISSING = "an acknowledged commit is not in the table"
FALSE = "in the table without an acknowledged commit"
DIFFERENT = "statements ran in different transactions"
ANOTHER = "statements ran in another transaction than the first"
PART = "a transaction is in the table in part"


def ticket(fate: Fate, began: int | None = 7) -> Ticket:
    return Ticket(1, account=5, began=began, written={1, 2}, fate=fate)


def entry(lines: tuple[int, ...] = (1, 2), xids: tuple[int, ...] = (9,), began: int = 7) -> Entry:
    return Entry(1, list(lines), list(xids), [began], [5])


@pytest.mark.parametrize(
    ("fate", "found", "promises"),
    [
        (Fate.COMMITTED, entry(), []),
        (Fate.NOTHING, None, []),
        (Fate.UNKNOWN, entry(), []),
        (Fate.UNKNOWN, None, []),
        (Fate.COMMITTED, None, [MISSING]),
        (Fate.NOTHING, entry(), [FALSE]),
        (Fate.COMMITTED, entry(xids=(9, 10)), [DIFFERENT]),
        (Fate.COMMITTED, entry(began=8), [ANOTHER]),
        (Fate.COMMITTED, entry(lines=(2,)), [PART]),
        (Fate.UNKNOWN, entry(lines=(1,)), [PART]),
        (Fate.COMMITTED, entry(lines=(1, 2, 2)), [PART]),
        (Fate.NOTHING, entry(lines=(2,), began=8), [FALSE, ANOTHER, PART]),
    ],
)
def test_a_ticket_is_judged(fate: Fate, found: Entry | None, promises: list[str]) -> None:
    assert [broken.promise for broken in judged(ticket(fate), found)] == promises


def test_an_account_is_judged(trusting: Postgres) -> None:
    with trusting.connect() as connection:
        ledger = Ledger(connection)
        ledger.open()
        assert list(ledger.judge([])) == []
        connection.execute("UPDATE accounts SET balance = 1 WHERE id = 3")
        connection.execute("INSERT INTO afterwards VALUES (1)")
        assert [broken.proof for broken in ledger.judge([])] == ["3: 1, not 0", "ticket 1"]


@pytest.mark.parametrize(
    ("statements", "promise"),
    [
        (["BEGIN"], "idle in transaction for too long"),
        (
            ["BEGIN", "LOCK accounts", "SAVEPOINT s", "SELECT 1 / 0"],
            "idle in transaction (aborted) for too long",
        ),
    ],
)
def test_who_is_idle_in_a_transaction_is_found(trusting: Postgres, statements: list[str], promise: str) -> None:
    with trusting.connect() as connection:
        Ledger(connection).open()
        with Monitor(trusting.dsn(), trusting.dsn(), lambda _name: 0.05) as monitor:
            for statement in statements:
                connection.pgconn.exec_(statement.encode())
            until(lambda: bool(monitor.broken), what="nobody was found")
    assert {broken.promise for broken in monitor.broken} == {promise}


def test_who_has_failed_and_holds_nothing_is_not_found(trusting: Postgres) -> None:
    with (
        trusting.connect() as connection,
        Monitor(trusting.dsn(), trusting.dsn(), lambda _name: 0.05) as monitor,
    ):
        for statement in ("BEGIN", "SELECT 1 / 0"):
            connection.pgconn.exec_(statement.encode())
        until(lambda: monitor.looks > 20)
        assert monitor.broken == []
