"""Events about transactions that are held open."""

import dataclasses
from typing import ClassVar

from proxy.report.event import Event, Level, key
from proxy.report.events.facts import Client, Leak


@dataclasses.dataclass(frozen=True, kw_only=True)
class LeakEvent(Event):
    """An event that is about a leak.

    Attributes:
        flagged: whether the leak was flagged before this event, and so counts as open until now.
    """

    summary: str = key("leak.summary")
    leak: Leak
    flagged: bool


@dataclasses.dataclass(frozen=True, kw_only=True)
class LeakFlagged(LeakEvent):
    """A limit passed.

    Attributes:
        repeated: how many flags of the same client and fingerprint the line stands for, where that is more than one.
    """

    event = "leak.flagged"
    level = "warning"
    repeated: int | None = key("leak.repeated", None)


@dataclasses.dataclass(frozen=True, kw_only=True)
class LeakRolledBack(LeakEvent):
    """The transaction was rolled back; the connection stays, and its client is owed an error."""

    event = "leak.rolled_back"
    level = "error"
    asked_by: str = key("leak.asked_by", "")


@dataclasses.dataclass(frozen=True, kw_only=True)
class LeakTerminated(LeakEvent):
    """The session was ended.

    Attributes:
        rolled_back: whether its transaction had been rolled back, and so was counted before.
        detail: why, if it was not for a limit.
    """

    event = "leak.terminated"
    level = "error"
    rolled_back: bool = False
    detail: str = key("leak.detail", "")
    asked_by: str = key("leak.asked_by", "")


@dataclasses.dataclass(frozen=True, kw_only=True)
class LeakSpared(LeakEvent):
    """An action was due and was not carried out.

    Attributes:
        first: whether it is the first one of this leak.
        detail: what stood in the way, for a person.
        spared: leaks that were spared for the same reason since the last such line, where not each has its own.
    """

    event = "leak.spared"
    level = "warning"
    action: str = key("leak.action")
    reason: str = key("leak.reason")
    detail: str = key("leak.detail", "")
    spared: int | None = key("leak.spared", None)
    first: bool = True


@dataclasses.dataclass(frozen=True, kw_only=True)
class LeakResolved(LeakEvent):
    """A flagged leak's transaction ended by itself."""

    event = "leak.resolved"
    level = "info"
    outcome: str = key("leak.outcome")
    resumed_with: str = key("leak.resumed_with")


@dataclasses.dataclass(frozen=True, kw_only=True)
class LeakAbandoned(LeakEvent):
    """The client went away with a transaction open."""

    event = "leak.abandoned"
    level: ClassVar[Level] = "warning"
    how: str = key("leak.how")
    running: str = key("leak.running")
    repeated: int | None = key("leak.repeated", None)


@dataclasses.dataclass(frozen=True, kw_only=True)
class LeakLeft(LeakAbandoned):
    """The same, politely and without a loss: it said goodbye, had written nothing, and no limit had passed.

    So end pg_dump, and many a script: it is told, and not counted.
    """

    level = "info"


@dataclasses.dataclass(frozen=True, kw_only=True)
class LeakReturned(LeakEvent):
    """The client of a transaction that was rolled back has ended its block: what it came back with.

    Attributes:
        would_commit: it was COMMIT: the transaction was slow, not forgotten.
    """

    event = "leak.returned"
    level = "info"
    returned_with: str = key("leak.returned_with")
    would_commit: bool = key("leak.would_have_committed")


@dataclasses.dataclass(frozen=True, kw_only=True)
class LeakReport(Event):
    """What one client has leaked so far with transactions of one shape; seconds.

    Attributes:
        committed: those that ended with COMMIT after all, or would have: false alarms.
        opener: what opened the last one, sanitized; `fingerprint` tells one shape from another.
        last_seen: RFC 3339, UTC.
    """

    event = "leak.report"
    level = "info"
    client: Client
    fingerprint: str = key("transaction.fingerprint", "")
    opener: str = key("transaction.opener", "")
    leak_class: str = key("leak.class", "")
    leaks: int = key("report.leaks")
    open: int = key("report.open")
    committed: int = key("report.committed")
    resolved: int = key("report.resolved")
    abandoned: int = key("report.abandoned")
    rolled_back: int = key("report.rolled_back")
    terminated: int = key("report.terminated")
    spared: int = key("report.spared")
    held_s: float = key("report.held_s")
    longest_s: float = key("report.longest_s")
    last_seen: str = key("report.last_seen")
