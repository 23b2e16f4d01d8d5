"""Who leaks, how often and for how long: one account for each client and shape of transaction, bounded in number."""

import dataclasses
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Final, NamedTuple

from proxy.report.event import Event
from proxy.report.events import (
    Client,
    LeakAbandoned,
    LeakEvent,
    LeakFlagged,
    LeakLeft,
    LeakReport,
    LeakResolved,
    LeakReturned,
    LeakRolledBack,
    LeakSpared,
    LeakTerminated,
)

MAX_KNOWN: Final = 10_000  # leaks of which more may come; of one that was rolled back nothing need
MAX_ACCOUNTS: Final = 1000  # the one that has been quiet longest goes first, if nothing of it is open
COUNTS: Final = ("leaks", "open", "committed", "resolved", "abandoned", "rolled_back", "terminated", "spared")
COMMIT: Final = "commit"  # the outcome of a transaction (proxy/wire/transaction.py)


class Who(NamedTuple):
    """Whose account it is: a client, and the fingerprint of what opened its transactions."""

    client: Client
    fingerprint: str


@dataclasses.dataclass
class Account:
    """What one client has leaked with transactions of one shape.

    Attributes:
        leaks: transactions that were flagged, or ended by pgleash or left open without a flag.
        open: those that are still open.
        committed: those that ended with COMMIT after all, or would have if they had not been rolled back: false alarms.
        resolved: those that ended by themselves, committed or not.
        abandoned: transactions that the client left open when it went away, flagged or not.
        rolled_back: those that were rolled back by pgleash.
        terminated: those whose session was ended by pgleash, some after they had been rolled back.
        spared: those for which something was due that was not done.
        held_s: seconds held by the leaks that are over, together.
        longest_s: the longest hold among them, seconds.
        opener: what opened the last one, sanitized.
        leak_class: of the last one.
        last_seen: when something of it last happened.
        changed: whether anything is new since the last report.
    """

    leaks: int = 0
    open: int = 0
    committed: int = 0
    resolved: int = 0
    abandoned: int = 0
    rolled_back: int = 0
    terminated: int = 0
    spared: int = 0
    held_s: float = 0.0
    longest_s: float = 0.0
    opener: str = ""
    leak_class: str = ""
    last_seen: datetime | None = None
    changed: bool = True


def utc_now() -> datetime:
    """The time of the wall."""
    return datetime.now(UTC)


class Ledger:
    """All accounts, the one that changed last at the end.

    Args:
        clock: tells the time of the wall.
    """

    def __init__(self, clock: Callable[[], datetime] = utc_now) -> None:
        self._clock = clock
        self._accounts: dict[Who, Account] = {}
        self._known: dict[str, Who] = {}  # by leak, while more may come of it

    def __iter__(self) -> Iterator[tuple[Who, Account]]:
        return iter(self._accounts.items())

    def record(self, event: Event) -> None:
        """Count an event, if it is about a leak."""
        if not isinstance(event, LeakEvent) or isinstance(event, LeakLeft):
            return
        leak = event.leak
        now = Who(leak.client, leak.transaction.fingerprint)
        who = now if isinstance(event, LeakFlagged) else self._known.get(leak.id, now)
        account = self._account(who)
        account.changed = True
        account.last_seen = self._clock()
        account.leak_class = leak.leak_class
        if who == now:
            account.opener = leak.transaction.opener or account.opener
        if isinstance(event, LeakFlagged):
            account.leaks += 1
            account.open += 1
            self._know(leak.id, who)
        elif isinstance(event, LeakSpared):
            account.spared += event.first
        elif isinstance(event, LeakReturned):
            account.committed += event.would_commit
            self._known.pop(leak.id, None)
        else:
            self._close(account, event)
            if isinstance(event, LeakRolledBack):
                self._know(leak.id, who)
            else:
                self._known.pop(leak.id, None)

    def _know(self, leak_id: str, who: Who) -> None:
        """Keep whose account a leak is in: client and statements may be known better when it ends."""
        self._known[leak_id] = who
        if len(self._known) > MAX_KNOWN:
            del self._known[next(iter(self._known))]

    def _close(self, account: Account, event: LeakEvent) -> None:
        acted = False  # it is a leak even if it was never flagged
        if isinstance(event, LeakAbandoned):
            account.abandoned += 1
            acted = True
        elif isinstance(event, LeakTerminated):
            account.terminated += 1
            acted = not event.rolled_back
        elif isinstance(event, LeakRolledBack):
            account.rolled_back += 1
            acted = True
        elif isinstance(event, LeakResolved):
            account.resolved += 1
            account.committed += event.outcome == COMMIT
        if event.flagged:
            account.open = max(account.open - 1, 0)  # its account may have been dropped in between
        elif acted:
            account.leaks += 1
        else:
            return
        account.held_s += event.leak.held_s
        account.longest_s = max(account.longest_s, event.leak.held_s)

    def _account(self, who: Who) -> Account:
        account = self._accounts.pop(who, None) or Account()
        self._accounts[who] = account
        if len(self._accounts) > MAX_ACCOUNTS:
            quiet = (known for known, one in self._accounts.items() if not one.open and known != who)
            del self._accounts[next(quiet, next(iter(self._accounts)))]
        return account

    def report(self) -> Iterator[LeakReport]:
        """One line for each account with something new since the last time."""
        for who, account in self._accounts.items():
            if account.changed:
                account.changed = False
                yield as_report(who, account)

    def reports(self) -> list[LeakReport]:
        """Every account, the one that held longest first."""
        ranked = sorted(self._accounts.items(), key=lambda entry: entry[1].held_s, reverse=True)
        return [as_report(who, account) for who, account in ranked]


def as_report(who: Who, account: Account) -> LeakReport:
    """An account as an event."""
    counts = {name: getattr(account, name) for name in COUNTS}
    return LeakReport(
        client=who.client,
        fingerprint=who.fingerprint,
        opener=account.opener,
        leak_class=account.leak_class,
        held_s=account.held_s,
        longest_s=account.longest_s,
        last_seen=account.last_seen.isoformat(timespec="milliseconds") if account.last_seen else "",
        **counts,
    )
