"""What happened while a command ran: kept for the verdict, and passed on to the log if there is one."""

import dataclasses
from typing import Any, Final

from proxy.report.event import Event
from proxy.report.events import ConfigWarning, LeakEvent, LeakLeft, SessionOpened
from proxy.report.ledger import Who
from proxy.report.reporter import Sink

MAX_KINDS: Final = 1000  # of what is remembered; the ledger keeps as many accounts
WORTH_TELLING: Final = ("warning", "error")
SAME: Final = ("event", "db.user", "client.application_name", "transaction.fingerprint", "error.message")
SENTENCES: Final = ("client.summary", "session.summary", "message", "error.message", "error.type")


@dataclasses.dataclass
class Notice:
    """Something besides leaks, and how often it was told."""

    sentence: str = ""
    times: int = 0


class Tally:
    """A sink for events.

    Args:
        log: where they go on to, if anywhere.

    Attributes:
        sessions: how many were opened.
        last: of each account in the ledger, the last event that tells all of a leak.
        notices: what else went wrong, by what is the same.
    """

    def __init__(self, log: Sink | None = None) -> None:
        self._log = log
        self._whose: dict[str, Who] = {}  # by leak, as the ledger has it: what opened it may be known better later
        self.sessions = 0
        self.last: dict[Who, LeakEvent] = {}
        self.notices: dict[tuple[object, ...], Notice] = {}

    def would_write(self, event: type[Event]) -> bool:
        """Whether it is worth making such an event at all: sessions are counted here."""
        return event is SessionOpened or (self._log is not None and self._log.would_write(event))

    def write(self, event: Event) -> None:
        """Take an event."""
        if isinstance(event, SessionOpened):
            self.sessions += 1
        elif isinstance(event, LeakEvent):
            if not isinstance(event, LeakLeft):  # which the ledger does not count either
                self._remember(event)
        elif event.level in WORTH_TELLING and not isinstance(event, ConfigWarning):
            self._notice(event)
        if self._log is not None:
            self._log.write(event)

    def _remember(self, event: LeakEvent) -> None:
        leak = event.leak
        who = self._whose.setdefault(leak.id, Who(leak.client, leak.transaction.fingerprint))
        self.last.pop(who, None)
        self.last[who] = event
        _bound(self._whose)
        _bound(self.last)

    def _notice(self, event: Event) -> None:
        fields = {"event": event.event} | event.fields()
        same = tuple(fields.get(name) for name in SAME)
        sentence = next((str(fields[name]) for name in SENTENCES if name in fields), "")
        notice = self.notices.setdefault(same, Notice())
        notice.sentence = f"{event.event}: {sentence}"
        notice.times += 1
        _bound(self.notices)


def _bound(remembered: dict[Any, Any]) -> None:
    if len(remembered) > MAX_KINDS:
        del remembered[next(iter(remembered))]
