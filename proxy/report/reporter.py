"""Where the rest of pgleash hands its events in: counted in the ledger, folded where identical, written to the log."""

import contextlib
import time
from collections.abc import Callable, Iterable
from typing import Protocol

from proxy.report.event import Event
from proxy.report.folding import Folding
from proxy.report.ledger import Ledger


class Sink(Protocol):
    """Somewhere events go: the log, or a test's list."""

    def write(self, event: Event) -> None:
        """Take an event."""

    def would_write(self, event: type[Event]) -> bool:
        """Whether it is worth making such an event at all."""


class Reporter:
    """The ledger and the log behind one call.

    Args:
        sink: the log.
        clock: seconds that only go forward.

    Attributes:
        ledger: who has leaked so far.
    """

    def __init__(self, sink: Sink, clock: Callable[[], float] = time.monotonic) -> None:
        self._sink = sink
        self._clock = clock
        self._folding = Folding()
        self.ledger = Ledger()

    def emit(self, event: Event) -> None:
        """Something happened."""
        with contextlib.suppress(Exception):  # an event that cannot be told must not end what it is about
            self.ledger.record(event)
            self._write(self._folding.take(event, self._clock()))

    def _write(self, events: Iterable[Event]) -> None:
        for event in events:
            self._sink.write(event)

    def count(self, event: Event) -> None:
        """Something happened that the ledger counts and the log does not tell by itself."""
        with contextlib.suppress(Exception):
            self.ledger.record(event)

    def debug(self, kind: type[Event], make: Callable[[], Event]) -> None:
        """Something happened that is worth describing only if somebody listens."""
        if self._sink.would_write(kind):
            self._sink.write(make())

    def report(self) -> None:
        """Write what is new in the ledger."""
        self._write(self.ledger.report())

    def unfold(self) -> None:
        """Write how many identical events had no line, of the minutes that are over."""
        self._write(self._folding.over(self._clock()))

    def close(self) -> None:
        """Write how many had none, of all."""
        self._write(self._folding.rest())
