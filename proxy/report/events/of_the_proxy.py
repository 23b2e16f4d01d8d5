"""Events about the proxy itself, its configuration and its server."""

import dataclasses
import traceback
from pathlib import Path

from proxy.report.event import Event, key
from proxy.report.events.facts import Session


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
    admin: str = key("proxy.admin", "")


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
class CancelDropped(Event):
    """More cancel requests than max_cancels were on their way; counted since the last such line."""

    event = "cancel.dropped"
    level = "warning"
    dropped: int = key("cancel.dropped")
    limit: int = key("cancel.limit")


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
