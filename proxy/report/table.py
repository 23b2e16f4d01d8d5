"""The ledger as a table that a person reads."""

from collections.abc import Iterable, Sequence
from typing import Final

from proxy.report.events import Client
from proxy.report.ledger import Account
from proxy.report.summary import seconds

MAX_OPENER: Final = 48  # characters: the table should fit a terminal

COUNTS: Final = ("leaks", "open", "rolled_back", "terminated", "spared", "resolved", "abandoned")
TIMES: Final = ("held", "longest")
HEAD: Final = ("client", *(name.replace("_", " ") for name in COUNTS), *TIMES, "last opened by")
NUMBERS: Final = frozenset(HEAD[1:-1])


def ledger_table(accounts: Iterable[tuple[Client, Account]]) -> str:
    """Who leaked how often and how long; who held longest comes first."""
    ranked = sorted(accounts, key=lambda entry: entry[1].held_s, reverse=True)
    return _align([HEAD, *(_row(client, account) for client, account in ranked)])


def _row(client: Client, account: Account) -> tuple[str, ...]:
    name = f"{client.application_name or client.user} ({client.user}@{client.database}, {client.address or 'local'})"
    counts = (getattr(account, name) for name in COUNTS)
    opener = account.last_opener
    short = opener if len(opener) <= MAX_OPENER else opener[: MAX_OPENER - 1] + "…"
    return (name, *map(str, counts), seconds(account.held_s), seconds(account.longest_s), short)


def _align(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEAD))]
    return "\n".join("  ".join(map(_pad, row, widths, HEAD)).rstrip() for row in rows)


def _pad(text: str, width: int, column: str) -> str:
    return text.rjust(width) if column in NUMBERS else text.ljust(width)
