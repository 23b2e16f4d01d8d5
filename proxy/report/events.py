"""Every event and its fields: the schema of the log.

Texts of clients have been made printable and statements sanitized before they come here.
"""

import dataclasses
import traceback
from pathlib import Path

from proxy.report.event import Event, key


@dataclasses.dataclass(frozen=True, kw_only=True)
class Client:
    """Who: user, database, application_name and address. The ledger counts by it."""

    user: str = key("db.user")
    database: str = key("db.namespace")
    application_name: str = key("client.application_name")
    address: str = key("client.address")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Session:
    """Which of the client's connections."""

    client: Client
    id: str = key("session.id")
    port: int | None = key("client.port")
    backend_pid: int | None = key("postgres.backend_pid", None)


@dataclasses.dataclass(frozen=True, kw_only=True)
class TransactionFacts:
    """What the transaction did; times in seconds, statements sanitized."""

    age_s: float = key("transaction.age_s")
    idle_s: float = key("transaction.idle_s")
    statements: int = key("transaction.statements")
    opener: str = key("transaction.opener", "")
    first_write: str = key("transaction.first_write", "")
    last: str = key("transaction.last", "")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Leak:
    """What every leak event tells; `limit_s` is None where no limit was involved."""

    id: str = key("leak.id")
    leak_class: str = key("leak.class")
    hold: str = key("leak.hold")
    held_s: float = key("leak.held_s")
    limit_s: float | None = key("leak.limit_s")
    rule: str = key("leak.rule")
    system: str = key("db.system.name", "postgresql")
    session: Session
    transaction: TransactionFacts

    @property
    def client(self) -> Client:
        """Who."""
        return self.session.client


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


@dataclasses.dataclass(frozen=True, kw_only=True)
class ProxyStarted(Event):
    """Clients can connect."""

    event = "proxy.started"
    level = "info"
    version: str = key("proxy.version")
    listen: tuple[str, ...] = key("proxy.listen")
    upstream: str = key("proxy.upstream")
    client_tls: str = key("proxy.client_tls")
    upstream_tls: str = key("proxy.upstream_tls")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ProxyDraining(Event):
    """No new clients; sessions end with their transactions."""

    event = "proxy.draining"
    level = "info"
    sessions: int = key("proxy.sessions")
    timeout_s: float | None = key("proxy.drain_timeout_s")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ProxyStopped(Event):
    """All sessions have ended; `cut` of them with a transaction open."""

    event = "proxy.stopped"
    level = "info"
    cut: int = key("proxy.sessions_cut")


@dataclasses.dataclass(frozen=True, kw_only=True)
class SessionOpened(Event):
    """A client has a backend."""

    event = "session.opened"
    level = "debug"
    session: Session
    client_tls: str | None = key("session.client_tls", None)
    upstream_tls: str | None = key("session.upstream_tls", None)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SessionClosed(Event):
    """A session is over; bytes as received from either side."""

    event = "session.closed"
    level = "debug"
    session: Session
    from_client: int = key("session.bytes_from_client")
    from_server: int = key("session.bytes_from_server")


@dataclasses.dataclass(frozen=True, kw_only=True)
class UpstreamUnreachable(Event):
    """A client could not be given a backend."""

    event = "upstream.unreachable"
    level = "error"
    upstream: str = key("proxy.upstream")
    reason: str = key("error.message")
    hint: str = key("error.hint", "")
    failures: int = key("upstream.failures")


@dataclasses.dataclass(frozen=True, kw_only=True)
class UpstreamTlsFailed(Event):
    """TLS with the server did not work, and upstream_tls.mode lets sessions go without it; at most one a second."""

    event = "upstream.tls_failed"
    level = "warning"
    upstream: str = key("proxy.upstream")
    reason: str = key("error.message")
    hint: str = key("error.hint", "")
    sessions: int = key("upstream.sessions_in_the_clear")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ChannelBindingRefused(Event):
    """The server kept a client out because of channel binding."""

    event = "channel_binding.refused"
    level = "warning"
    reason: str = key("error.message")
    session: Session


@dataclasses.dataclass(frozen=True, kw_only=True)
class ChannelBindingUnavailable(Event):
    """A client gave up when it was asked for its password, perhaps since it insists on channel binding."""

    event = "channel_binding.unavailable"
    level = "info"
    reason: str = key("error.message")
    session: Session


@dataclasses.dataclass(frozen=True, kw_only=True)
class CancelDropped(Event):
    """More cancel requests than max_cancels were on their way; counted since the last such line."""

    event = "cancel.dropped"
    level = "warning"
    dropped: int = key("cancel.dropped")
    limit: int = key("cancel.limit")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ProtocolViolation(Event):
    """A peer sent what is not the protocol; from then on its session, if any, is relayed without being judged."""

    event = "protocol.violation"
    level = "warning"
    reason: str = key("error.message")
    address: str = key("client.address", "")
    session: Session | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class ConfigWarning(Event):
    """Something in the configuration has no effect."""

    event = "config.warning"
    level = "warning"
    reason: str = key("error.message")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ConfigReloaded(Event):
    """The configuration was read again: the keys that were taken over, and those that would need a restart."""

    event = "config.reloaded"
    level = "info"
    changed: tuple[str, ...] = key("config.changed")
    needs_restart: tuple[str, ...] = key("config.needs_restart")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ConfigRejected(Event):
    """A file has changed and cannot be used; what was there before goes on."""

    event = "config.rejected"
    level = "warning"
    reason: str = key("error.message")


@dataclasses.dataclass(frozen=True, kw_only=True)
class InternalError(Event):
    """Something of ours failed; the session, if it is about one, is relayed on without being judged.

    Only the kind of the error and the place are told: an error's text may quote what was being looked at.
    """

    event = "proxy.error"
    level = "error"
    kind: str = key("error.type")
    place: str = key("code.function.name")
    session: Session | None = None

    @classmethod
    def of(cls, error: BaseException, session: Session | None = None) -> "InternalError":
        """The event for an error that was caught."""
        frames = traceback.extract_tb(error.__traceback__)
        place = f"{frames[-1].name} ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
        return cls(kind=type(error).__name__, place=place, session=session)


@dataclasses.dataclass(frozen=True, kw_only=True)
class LogDropped(Event):
    """Whoever reads the log did not keep up."""

    event = "log.dropped"
    level = "warning"
    lines: int = key("log.lines")
