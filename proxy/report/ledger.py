"""Who leaks, how often and for how long: one account for each client, bounded in number."""

import dataclasses
from collections.abc import Iterator
from typing import Final

from proxy.report.event import Event
from proxy.report.events import (
    Client,
    LeakAbandoned,
    LeakEvent,
    LeakFlagged,
    LeakReport,
    LeakRolledBack,
    LeakSpared,
    LeakTerminated,
)

MAX_CLIENTS: Final = 1000  # the one that has been quiet longest goes first


@dataclasses.dataclass
class Account:
    """What one client has leaked.

    Attributes:
        leaks: transactions that were flagged, or ended without a flag.
        open: those that are still open.
        rolled_back: those that were rolled back by pgleash.
        terminated: those whose session was ended by pgleash, some after they had been rolled back.
        spared: those for which something was due that was not done.
        resolved: those that ended by themselves.
        abandoned: transactions that the client left open when it went away, flagged or not.
        held_s: seconds held by the leaks that are over, together.
        longest_s: the longest hold among them, seconds.
        last_opener: what opened the last one, sanitized.
        changed: whether anything is new since the last report.
    """

    leaks: int = 0
    open: int = 0
    rolled_back: int = 0
    terminated: int = 0
    spared: int = 0
    resolved: int = 0
    abandoned: int = 0
    held_s: float = 0.0
    longest_s: float = 0.0
    last_opener: str = ""
    changed: bool = True


class Ledger:
    """All accounts, the one that changed last at the end."""

    def __init__(self) -> None:
        self._accounts: dict[Client, Account] = {}

    def __iter__(self) -> Iterator[tuple[Client, Account]]:
        return iter(self._accounts.items())

    def record(self, event: Event) -> None:
        """Count an event, if it is about a leak."""
        if not isinstance(event, LeakEvent):
            return
        account = self._account(event.leak.client)
        account.changed = True
        account.last_opener = event.leak.transaction.opener or account.last_opener
        if isinstance(event, LeakFlagged):
            account.leaks += 1
            account.open += 1
        elif isinstance(event, LeakSpared):
            account.spared += event.first
        else:
            self._close(account, event)

    def _close(self, account: Account, event: LeakEvent) -> None:
        acted = False
        if isinstance(event, LeakAbandoned):
            account.abandoned += 1
        elif isinstance(event, LeakTerminated):
            account.terminated += 1
            acted = not event.rolled_back
        elif isinstance(event, LeakRolledBack):
            account.rolled_back += 1
            acted = True
        else:
            account.resolved += 1
        if event.flagged:
            account.open = max(account.open - 1, 0)  # its account may have been dropped in between
        elif acted:
            account.leaks += 1
        else:
            return
        account.held_s += event.leak.held_s
        account.longest_s = max(account.longest_s, event.leak.held_s)

    def _account(self, client: Client) -> Account:
        account = self._accounts.pop(client, None) or Account()
        self._accounts[client] = account
        if len(self._accounts) > MAX_CLIENTS:
            del self._accounts[next(iter(self._accounts))]
        return account

    def report(self) -> Iterator[LeakReport]:
        """One line for each client with something new since the last time."""
        for client, account in self._accounts.items():
            if account.changed:
                account.changed = False
                yield as_report(client, account)


def as_report(client: Client, account: Account) -> LeakReport:
    """An account as an event."""
    return LeakReport(
        client=client,
        leaks=account.leaks,
        open=account.open,
        rolled_back=account.rolled_back,
        terminated=account.terminated,
        spared=account.spared,
        resolved=account.resolved,
        abandoned=account.abandoned,
        held_s=account.held_s,
        longest_s=account.longest_s,
        last_opener=account.last_opener,
    )
