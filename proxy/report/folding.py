"""Identical flags and farewells are counted, not repeated: a thousand lines of one mistake hide the one of another.

The first ten in a minute of the same client and fingerprint have a line each. Of those beyond that, one line a minute
tells how many there were; it is the last of them. Nothing else is held back: what was done about a leak is always told.
"""

import dataclasses
from collections.abc import Iterator
from typing import Final

from proxy.report.event import Event
from proxy.report.events import ClientMistake, LeakAbandoned, LeakEvent, LeakFlagged, LeakResolved, LeakSpared

LINES: Final = 10  # in a minute, of the same
MINUTE: Final = 60.0
MAX_KINDS: Final = 1000  # of the same; the one that began first goes first

Same = tuple[object, ...]
Foldable = LeakFlagged | LeakAbandoned | ClientMistake


@dataclasses.dataclass
class _Fold:
    """What is the same, in the minute that began at `since`."""

    since: float
    lines: int = 0
    folded: int = 0  # events without a line
    last: Foldable | None = None  # of those


class Folding:
    """Decides which events have a line of their own."""

    def __init__(self) -> None:
        self._folds: dict[Same, _Fold] = {}
        self._untold: set[str] = set()  # open leaks whose flag has no line

    def take(self, event: Event, now: float) -> list[Event]:
        """The events to be written in this one's place, at `now` (seconds of a monotonic clock)."""
        if isinstance(event, LeakAbandoned):
            self._untold.discard(event.leak.id)
        if isinstance(event, LeakFlagged | LeakAbandoned | ClientMistake):
            return self._fold(event, now)
        if not isinstance(event, LeakEvent) or event.leak.id not in self._untold:
            return [event]
        if not isinstance(event, LeakSpared):  # it is over, or its next lines are about what was done
            self._untold.discard(event.leak.id)
        return [] if isinstance(event, LeakResolved | LeakSpared) else [event]

    def _fold(self, event: Foldable, now: float) -> list[Event]:
        same = _same(event)
        fold = self._folds.get(same)
        told: list[Event] = []
        if fold is None or now - fold.since >= MINUTE:
            told = self._drop(same) if fold else []
            fold = self._folds[same] = _Fold(now)
            if len(self._folds) > MAX_KINDS:
                told += self._drop(next(iter(self._folds)))
        if fold.lines < LINES:
            fold.lines += 1
            return [*told, event]
        fold.folded += event.repeated or 1
        fold.last = event
        if isinstance(event, LeakFlagged):
            self._untold.add(event.leak.id)
        return told

    def over(self, now: float) -> Iterator[Event]:
        """The counts of minutes that are over."""
        for same in [same for same, fold in self._folds.items() if now - fold.since >= MINUTE]:
            yield from self._drop(same)

    def rest(self) -> Iterator[Event]:
        """The counts of all that have no line: nothing more comes."""
        for same in list(self._folds):
            yield from self._drop(same)

    def _drop(self, same: Same) -> list[Event]:
        fold = self._folds.pop(same)
        if fold.last is None:
            return []
        if isinstance(fold.last, LeakFlagged):
            self._untold.discard(fold.last.leak.id)
        return [dataclasses.replace(fold.last, repeated=fold.folded)]


def _same(event: Foldable) -> Same:
    if isinstance(event, LeakEvent):
        return type(event), event.leak.client, event.leak.transaction.fingerprint
    return type(event), event.session.client, event.transaction.fingerprint
