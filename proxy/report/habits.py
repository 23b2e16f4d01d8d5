"""What a client's transactions are usually like: how long the client held each at most, and how long each was open.

All that is done for each transaction is to count in two dictionaries, by whole milliseconds. When one of them has many
keys, or when somebody asks, they are folded into histograms of bounded size. Keys come slowly by nature: a hundred
different lengths are five seconds of transactions at least.
"""

import itertools
from bisect import bisect_left
from collections.abc import Iterator
from typing import Final

from ddsketch import DDSketch

from proxy.report.advice import LIMITS, Advice, Lengths, Trial, advise
from proxy.report.events import Client

MAX_CLIENTS: Final = 1000  # as many as the ledger knows
AT_A_TIME: Final = 100  # clients that go together
MAX_KEYS: Final = 100
LONGEST: Final = 366 * 24 * 3600 * 1000  # milliseconds: the longest limit there is stands for whatever is longer
ACCURACY: Final = 0.01  # relative; it makes 1209 bins at most, from a millisecond to a year

_limits: Final = [round(limit * 1000) for limit in LIMITS]


class Habits:
    """One client's.

    A transaction that pgleash ended does not belong here: nobody knows what would have become of it.

    Args:
        ticks: counts whatever happens to any client, so that it is known who has been quiet longest.

    Attributes:
        last: the tick at which something happened.
    """

    __slots__ = (
        "_ages",
        "_committed",
        "_counts",
        "_holds",
        "_new_ages",
        "_new_committed",
        "_new_others",
        "_ticks",
        "last",
    )

    def __init__(self, ticks: Iterator[int]) -> None:
        self._ticks = ticks
        self.last = next(ticks)
        self._new_committed: dict[int, int] = {}  # holds, milliseconds
        self._new_others: dict[int, int] = {}
        self._new_ages: dict[int, int] = {}
        self._holds = _Histogram()
        self._ages = _Histogram()
        # By how many of the limits the hold had passed. So what a limit would have done is known exactly, whatever the
        # histogram's error.
        self._counts = [0] * (len(_limits) + 1)
        self._committed = [0] * (len(_limits) + 1)

    def ended(self, longest_hold: float, age: float, *, committed: bool) -> None:
        """A transaction has ended by itself.

        Args:
            longest_hold: the longest time for which the client held it, seconds.
            age: the time for which it was open, seconds.
            committed: whether it was a COMMIT.
        """
        self.last = next(self._ticks)
        holds = self._new_committed if committed else self._new_others
        ages = self._new_ages
        length = int(longest_hold * 1000 + 0.5)
        holds[length] = holds.get(length, 0) + 1
        length = int(age * 1000 + 0.5)
        ages[length] = ages.get(length, 0) + 1
        if len(holds) > MAX_KEYS or len(ages) > MAX_KEYS:
            self._fold()

    def _fold(self) -> None:
        for length, count in _taken(self._new_others):
            self._hold(length, count)
        for length, count in _taken(self._new_committed):
            self._committed[self._hold(length, count)] += count
        for length, count in _taken(self._new_ages):
            self._ages.add(length, count)

    def _hold(self, length: int, count: int) -> int:
        self._holds.add(length, count)
        passed = bisect_left(_limits, length)
        self._counts[passed] += count
        return passed

    def advice(self, client: Client) -> Advice | None:
        """What would fit the client whose habits these are; None if it has ended no transaction yet."""
        self._fold()
        transactions = sum(self._counts)
        if not transactions:
            return None
        trials = [
            Trial(limit_s=limit, ended=sum(self._counts[passed:]), committed=sum(self._committed[passed:]))
            for passed, limit in enumerate(LIMITS, start=1)
        ]
        return advise(client, transactions, self._holds.lengths(), self._ages.lengths(), trials)


class AllHabits:
    """By client; the one that has been quiet longest goes first."""

    def __init__(self) -> None:
        self._habits: dict[Client, Habits] = {}
        self._ticks = itertools.count()

    def of(self, client: Client) -> Habits:
        """A client's habits, to be kept by its session: asking for each transaction would cost too much.

        What a session counts whose client had to go in the meantime is lost.
        """
        habits = self._habits.get(client)
        if habits is None:
            habits = self._habits[client] = Habits(self._ticks)
            if len(self._habits) > MAX_CLIENTS + AT_A_TIME:
                self._forget()
        return habits

    def _forget(self) -> None:
        """Many at a time, so that it costs little where each transaction has a client of its own."""
        quiet = sorted(self._habits, key=lambda client: self._habits[client].last)
        for client in quiet[:AT_A_TIME]:
            del self._habits[client]

    def __iter__(self) -> Iterator[Advice]:
        """Advice for each client that has ended a transaction; between two of them others may have their turn."""
        for client, habits in list(self._habits.items()):
            advice = habits.advice(client)
            if advice is not None:
                yield advice

    def advice(self) -> list[Advice]:
        """All of it at once."""
        return list(self)


class _Histogram:
    """Lengths in milliseconds: DDSketch (https://www.vldb.org/pvldb/vol12/p2195-masson.pdf), and the longest."""

    __slots__ = ("_longest", "_made")

    def __init__(self) -> None:
        self._made: DDSketch | None = None
        self._longest = 0

    @property
    def _sketch(self) -> DDSketch:
        """Made when it is needed: many a client ends one transaction, and is never heard of again."""
        if self._made is None:
            self._made = DDSketch(ACCURACY)
        return self._made

    def add(self, length: int, count: int) -> None:
        self._sketch.add(length, count)
        self._longest = max(self._longest, length)

    def lengths(self) -> Lengths:
        p50, p99, p999 = map(self._percentile, (500, 990, 999))
        return Lengths(p50=p50, p99=p99, p999=p999, longest=self._longest / 1000)

    def _percentile(self, thousandths: int) -> float:
        """The shortest length, seconds, that so many of a thousand do not exceed."""
        count = int(self._sketch.count)
        rank = -(-count * thousandths // 1000) - 1  # from 0
        if rank == count - 1:
            return self._longest / 1000
        # DDSketch wants the rank as a share. Half a rank more, so that no rounding leads to the one before.
        share = (rank + 0.5) / (count - 1)
        return min(round(self._sketch.get_quantile_value(share) or 0.0), self._longest) / 1000


def _taken(new: dict[int, int]) -> Iterator[tuple[int, int]]:
    """What was in it, within what the histograms should hold; it is empty afterwards."""
    for length, count in new.items():
        yield min(max(length, 0), LONGEST), count
    new.clear()
