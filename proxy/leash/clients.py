"""The sessions of each client, side by side: whether all of them are held, and whether its others go on.

Asked only when there is a leak, or a session that has been idle for long: nothing here is done for a statement.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Final, Protocol

from proxy.leash.leak import OpenLeak
from proxy.leash.watchdog import Timer
from proxy.report import events, summary
from proxy.report.reporter import Reporter

POOL: Final = 2  # sessions from which on a client can be said to have a pool

Key = tuple[str, str, str]


class Member(Protocol):
    """One session, as its client's others see it."""

    @property
    def client(self) -> events.Client:
        """Whose it is now: application_name may have been SET."""

    @property
    def used_at(self) -> float:
        """When bytes of either side came last, seconds of the loop's clock."""

    @property
    def held(self) -> OpenLeak | None:
        """The leak that it is in, while that holds."""


class Clients:
    """All sessions of a proxy that are judged, by client.

    Args:
        reporter: takes events.
        loop: tells the loop whose clock counts.
    """

    def __init__(
        self, reporter: Reporter, loop: Callable[[], asyncio.AbstractEventLoop] = asyncio.get_running_loop
    ) -> None:
        self._loop = loop
        self._reporter = reporter
        self._members: dict[Key, set[Member]] = {}
        self._checks: dict[events.Client, Timer] = {}

    def add(self, member: Member) -> None:
        """A session has begun."""
        self._members.setdefault(_key(member.client), set()).add(member)

    def discard(self, member: Member) -> None:
        """It has ended."""
        key = _key(member.client)
        members = self._members.get(key, set())
        members.discard(member)
        if not members:
            self._members.pop(key, None)
            for client in [client for client in self._checks if _key(client) == key]:
                self._checks.pop(client).cancel()

    def _of(self, client: events.Client) -> Iterator[Member]:
        return (member for member in self._members.get(_key(client), ()) if member.client == client)

    def sisters(self, member: Member) -> list[Member]:
        """The other sessions of the same client."""
        return [sister for sister in self._of(member.client) if sister is not member]

    # Exhaustion.

    def flagged(self, client: events.Client, limit: float) -> None:
        """A session of this client was flagged: if nothing moves for that long again, its pool may be drained.

        A pool that opens connections when it needs them has each held at some moment; only when no other is opened or
        used any more is it at its end.
        """
        check = self._checks.pop(client, None)
        if check is not None:
            check.cancel()
        if len(list(self._of(client))) < POOL:
            return
        self._checks[client] = self._loop().call_later(limit, lambda: self._check(client))

    def _check(self, client: events.Client) -> None:
        del self._checks[client]
        held = _all_held(self._of(client))
        if len(held) >= POOL:
            self._reporter.emit(_exhausted(client, held, self._loop().time()))

    def stop(self) -> None:
        """Nothing is asked any more."""
        for check in self._checks.values():
            check.cancel()
        self._checks.clear()


def _key(client: events.Client) -> Key:
    return client.user, client.database, client.address


def _all_held(members: Iterable[Member]) -> list[OpenLeak]:
    """The leaks that sessions are in; none if one of them is in none."""
    held: list[OpenLeak] = []
    for member in members:
        leak = member.held
        if leak is None:
            return []
        held.append(leak)
    return held


def _exhausted(client: events.Client, held: list[OpenLeak], now: float) -> events.ClientExhausted:
    longest = max(now - leak.cause.hold.since for leak in held if leak.cause.hold)
    openers = Counter((leak.facts.transaction.opener, leak.facts.transaction.fingerprint) for leak in held)
    (opener, fingerprint), times = openers.most_common(1)[0]
    return events.ClientExhausted(
        summary=summary.exhausted(client, len(held), longest, opener, times),
        client=client,
        sessions=len(held),
        longest_s=longest,
        opener=opener,
        fingerprint=fingerprint,
        openers=times,
    )
