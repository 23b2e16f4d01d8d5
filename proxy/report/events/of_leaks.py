"""Events about transactions that are held open."""

import dataclasses

from proxy.report.event import Event, key
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
    """A limit passed."""

    event = "leak.flagged"
    level = "warning"


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
    level = "warning"
    how: str = key("leak.how")
    running: str = key("leak.running")


@dataclasses.dataclass(frozen=True, kw_only=True)
class LeakReport(Event):
    """What one client has leaked so far; seconds."""

    event = "leak.report"
    level = "info"
    client: Client
    leaks: int = key("report.leaks")
    open: int = key("report.open")
    rolled_back: int = key("report.rolled_back")
    terminated: int = key("report.terminated")
    spared: int = key("report.spared")
    resolved: int = key("report.resolved")
    abandoned: int = key("report.abandoned")
    held_s: float = key("report.held_s")
    longest_s: float = key("report.longest_s")
    last_opener: str = key("report.last_opener")
