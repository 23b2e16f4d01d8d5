"""What goes on at this moment, as the admin side tells it: flat, with the same keys as in the log."""

import dataclasses

from proxy.report.event import key
from proxy.report.events import Client, Session, TransactionFacts

STARTING = "starting"
ACTIVE = "active"
IDLE = "idle"
STALLED = "stalled"
ENDING = "ending"
UNKNOWN = "unknown"


@dataclasses.dataclass(frozen=True, kw_only=True)
class SessionNow:
    """One session.

    Attributes:
        state: `starting`, `active`, `idle`, `idle_in_transaction`, `idle_in_failed_transaction`, `stalled`, `ending`;
            `unknown` for a session that is not understood, or not to be.
        state_s: for how long it has been waiting for its client, seconds; None while it does not.
        limit_s: the first limit that a hold of it meets, seconds; None if there is none.
        rule: where that comes from.
        last: its last statement, sanitized, where no transaction is open.
        transaction: the open one.
        leak_id: of the leak that it is in.
    """

    session: Session
    state: str = key("session.state")
    state_s: float | None = key("session.state_s", None)
    limit_s: float | None = key("session.limit_s", None)
    rule: str = key("session.rule", "")
    last: str = key("session.last", "")
    leak_id: str = key("leak.id", "")
    transaction: TransactionFacts | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClientNow:
    """One client's sessions.

    Attributes:
        sessions: how many it has.
        held: how many of them wait for it in a transaction.
        longest_s: how long the first of them has done so, seconds.
    """

    client: Client
    sessions: int = key("client.sessions")
    held: int = key("client.sessions_held")
    longest_s: float | None = key("client.longest_held_s", None)
