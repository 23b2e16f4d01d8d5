"""The sessions of each client, side by side: whether all of them are held, and whether its others go on.

Asked only when there is a leak, or a session that has been idle for long: nothing here is done for a statement.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Final, NamedTuple, Protocol

from proxy.leash.watchdog import Timer
from proxy.report import events, summary
from proxy.report.reporter import Reporter
from proxy.settings import NEVER

FRESH: Final = 1.0  # seconds that a look at all sessions of a client is good for
POOL: Final = 2  # sessions from which on a client can be said to have a pool

Key = tuple[str, str, str]


class Held(NamedTuple):
    """A transaction that a session is held in.

    Attributes:
        since: since when it has been the client's turn.
        limit: how long it may be, seconds.
        opener, fingerprint: of what opened it.
    """

    since: float
    limit: float
    opener: str
    fingerprint: str


class Member(Protocol):
    """One session, as its client's others see it."""

    @property
    def client(self) -> events.Client:
        """Whose it is now: application_name may have been SET."""

    @property
    def used_at(self) -> float:
        """When bytes of either side came last, seconds of the loop's clock."""

    def held(self, now: float) -> Held | None:
        """What it is held in, if it has been flagged."""


@dataclass
class _Check:
    """A look at a client that may be exhausted: not before all has rested for long enough."""

    timer: Timer
    not_before: float


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
        self._checks: dict[events.Client, _Check] = {}
        self._last_uses: dict[Key, tuple[float, float]] = {}  # and when they were looked at

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
            self._last_uses.pop(key, None)
            for client in [client for client in self._checks if _key(client) == key]:
                self._checks.pop(client).timer.cancel()

    def _of(self, client: events.Client) -> Iterator[Member]:
        return (member for member in self._members.get(_key(client), ()) if member.client == client)

    # Sisters: the other sessions of the same client.

    def sisters(self, member: Member) -> int:
        """How many there are."""
        return sum(sister is not member for sister in self._of(member.client))

    def used_since(self, member: Member, since: float) -> bool:
        """Whether one of them was used after this time."""
        client = member.client
        key = _key(client)
        if self._last_use(key) <= since:
            return False
        others = (other for other in self._members.get(key, ()) if other is not member and other.used_at > since)
        return any(other.client == client for other in others)

    def _last_use(self, key: Key) -> float:
        """When any of them was used last, at most a second ago: a thousand that rest must not ask a thousand others."""
        now = self._loop().time()
        known = self._last_uses.get(key)
        if known is None or now - known[0] > FRESH:
            members = self._members.get(key, ())
            known = self._last_uses[key] = (now, max((member.used_at for member in members), default=0.0))
        return known[1]

    # Exhaustion.

    def flagged(self, client: events.Client, limit: float) -> None:
        """A session of this client was flagged: if nothing moves for that long again, its pool may be drained.

        A pool that opens connections when it needs them has each held at some moment; only when no other is opened or
        used any more is it at its end.
        """
        now = self._loop().time()
        check = self._checks.get(client)
        if check is not None:
            check.not_before = now + limit
        elif len(list(islice(self._of(client), POOL))) == POOL:
            self._arm(client, now + limit)

    def _arm(self, client: events.Client, when: float) -> None:
        loop = self._loop()
        timer = loop.call_later(when - loop.time(), lambda: self._check(client))
        self._checks[client] = _Check(timer, when)

    def _check(self, client: events.Client) -> None:
        check, now = self._checks.pop(client), self._loop().time()
        if now < check.not_before:
            self._arm(client, check.not_before)
            return
        held = _all_held(self._of(client), now)
        to_come = max((one.since + one.limit for one in held), default=NEVER) - now
        if len(held) < POOL or to_come == NEVER:
            return
        if to_come > 0:  # one of them went on, and is held again
            self._arm(client, now + to_come)
        else:
            self._reporter.emit(_exhausted(client, held, now))

    def stop(self) -> None:
        """Nothing is asked any more."""
        for check in self._checks.values():
            check.timer.cancel()
        self._checks.clear()


def _key(client: events.Client) -> Key:
    return client.user, client.database, client.address


def _all_held(members: Iterable[Member], now: float) -> list[Held]:
    """What sessions are held in; nothing if one of them is not."""
    held: list[Held] = []
    for member in members:
        one = member.held(now)
        if one is None:
            return []
        held.append(one)
    return held


def _exhausted(client: events.Client, held: list[Held], now: float) -> events.ClientExhausted:
    longest = max(now - one.since for one in held)
    openers = Counter((one.opener, one.fingerprint) for one in held)
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
