"""What events tell of clients, their sessions and transactions.

Texts of clients have been made printable and statements sanitized before they come here.
"""

import dataclasses
from collections.abc import Mapping

from proxy.report.event import key


@dataclasses.dataclass(frozen=True, kw_only=True)
class Client:
    """Who: user, database, application_name and address. The ledger counts by it."""

    user: str = key("db.user")
    database: str = key("db.namespace")
    application_name: str = key("client.application_name")
    address: str = key("client.address")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Process:
    """Which program is at the client's end, where the kernel tells."""

    pid: int = key("client.process.pid")
    executable: str = key("client.process.executable", "")
    container_id: str = key("client.container.id", "")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Session:
    """Which of the client's connections."""

    client: Client
    process: Process | None = None
    id: str = key("session.id")
    port: int | None = key("client.port")
    backend_pid: int | None = key("postgres.backend_pid", None)


@dataclasses.dataclass(frozen=True, kw_only=True)
class TransactionFacts:
    """What the transaction did; times in seconds, statements sanitized.

    Attributes:
        idle_s: together; busy_s is the rest of its age.
        longest_idle_s: the longest wait for the client, the current one included; it was behind `idle_after`, and
            `idle_before` ended it, if anything has.
        fingerprint: of the opener.
        wrote: whether a statement of it was a write, also where no text may be told.
    """

    age_s: float = key("transaction.age_s")
    idle_s: float = key("transaction.idle_s")
    busy_s: float | None = key("transaction.busy_s", None)
    longest_idle_s: float | None = key("transaction.longest_idle_s", None)
    idle_after: str = key("transaction.idle_after", "")
    idle_before: str = key("transaction.idle_before", "")
    statements: int = key("transaction.statements")
    opener: str = key("transaction.opener", "")
    first_write: str = key("transaction.first_write", "")
    last: str = key("transaction.last", "")
    fingerprint: str = key("transaction.fingerprint", "")
    tags: Mapping[str, str] | None = key("transaction.tags", None)
    trace_id: str = key("trace_id", "")
    span_id: str = key("span_id", "")
    wrote: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class Blast:
    """What the leak does to others: the locks it holds, who waits for it, what it keeps vacuum from."""

    locks: tuple[str, ...] | None = key("blast.locks", None)
    blocked_sessions: int = key("blast.blocked_sessions", 0)
    oldest_wait_s: float | None = key("blast.oldest_wait_s", None)
    xid_age: int | None = key("blast.xid_age", None)
    xmin_age: int | None = key("blast.xmin_age", None)


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
    blast: Blast | None = None

    @property
    def client(self) -> Client:
        """Who."""
        return self.session.client
