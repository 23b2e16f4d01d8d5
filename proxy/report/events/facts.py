"""What events tell of clients, their sessions and transactions.

Texts of clients have been made printable and statements sanitized before they come here.
"""

import dataclasses

from proxy.report.event import key


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
