"""Events about what clients do wrong besides holding transactions open."""

import dataclasses
from typing import ClassVar

from proxy.report.event import Event, Level, key
from proxy.report.events.facts import Client, Session, TransactionFacts


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClientMistake(Event):
    """A mistake that holds nothing and does harm later.

    Attributes:
        statement: the one that showed it, sanitized.
        repeated: how many the line stands for, where that is more than one.
    """

    summary: str = key("client.summary")
    session: Session
    system: str = key("db.system.name", "postgresql")
    transaction: TransactionFacts
    statement: str = key("client.statement", "")
    repeated: int | None = key("client.repeated", None)


@dataclasses.dataclass(frozen=True, kw_only=True)
class DirtyCheckout(ClientMistake):
    """BEGIN in a transaction: a pool has handed out a connection that had one open."""

    event = "client.dirty_checkout"
    level = "warning"


@dataclasses.dataclass(frozen=True, kw_only=True)
class SilentRollback(ClientMistake):
    """COMMIT was answered with the tag ROLLBACK: most drivers take that for success."""

    event = "client.silent_rollback"
    level = "warning"


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClientExhausted(Event):
    """Every session of a client is held in a transaction, and has been for a while.

    Attributes:
        sessions: how many that are.
        longest_s: how long the first of them has been held, seconds.
        opener, fingerprint, openers: what opened most of them, and how many that are.
    """

    event = "client.exhausted"
    level = "warning"
    summary: str = key("client.summary")
    client: Client
    system: str = key("db.system.name", "postgresql")
    sessions: int = key("client.sessions")
    longest_s: float = key("client.longest_held_s")
    opener: str = key("transaction.opener", "")
    fingerprint: str = key("transaction.fingerprint", "")
    openers: int = key("client.sessions_with_opener")


@dataclasses.dataclass(frozen=True, kw_only=True)
class IdleSession(Event):
    """A session has been idle outside of a transaction for long, although its client's other sessions were used.

    Attributes:
        idle_s: for how long.
        last: its last statement, sanitized.
        sisters: how many other sessions its client has.
    """

    summary: str = key("session.summary")
    session: Session
    system: str = key("db.system.name", "postgresql")
    idle_s: float = key("session.idle_s")
    limit_s: float | None = key("session.limit_s")
    rule: str = key("session.rule")
    sisters: int = key("client.other_sessions")
    last: str = key("session.last", "")
    fingerprint: str = key("session.last_fingerprint", "")


@dataclasses.dataclass(frozen=True, kw_only=True)
class SessionForgotten(IdleSession):
    """`flag_idle_session_after` passed: probably it was taken from a pool and never returned."""

    event = "session.forgotten"
    level = "warning"


@dataclasses.dataclass(frozen=True, kw_only=True)
class SessionTerminated(IdleSession):
    """`terminate_idle_session_after` passed, and the session was ended."""

    event = "session.terminated"
    level = "error"


@dataclasses.dataclass(frozen=True, kw_only=True)
class SessionSpared(IdleSession):
    """`terminate_idle_session_after` passed, and the session was not ended.

    Attributes:
        reason: `observe` or `budget`.
    """

    event = "session.spared"
    level = "warning"
    reason: str = key("session.reason")


@dataclasses.dataclass(frozen=True, kw_only=True)
class AttributionUnavailable(Event):
    """Something that would name culprits better cannot be had; each reason is told once."""

    event = "attribution.unavailable"
    level: ClassVar[Level] = "info"
    what: str = key("attribution.what")
    reason: str = key("error.message")


@dataclasses.dataclass(frozen=True, kw_only=True)
class BlastRadiusUnavailable(AttributionUnavailable):
    """The same for what was asked for by an option: somebody has to mend it."""

    level = "warning"
