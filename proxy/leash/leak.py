"""One leak, from its flag to the end of its transaction."""

import secrets
from typing import Final, NamedTuple

from proxy.leash.policy import Action
from proxy.report import events
from proxy.settings import DEFAULT_RULE
from proxy.wire.flow import MessageFlow
from proxy.wire.hold import Hold, HoldKind
from proxy.wire.tracker import Tracker
from proxy.wire.transaction import Transaction

_alphabet: Final = "abcdefghjkmnpqrstvwxyz23456789"  # nothing that is read for something else
_id_length: Final = 8


def new_id() -> str:
    """An id that leads from the client's log to ours."""
    return "".join(secrets.choice(_alphabet) for _ in range(_id_length))


class Cause(NamedTuple):
    """Why a leak is one.

    Attributes:
        hold: what is held; None when a busy transaction is too old, or its client is gone.
        limit: the limit that passed, in seconds; None if none did.
        by_age: whether it was the transaction's age.
        rule: the rule that the limit comes from.
        abandoned: whether it is none: the client has gone.
    """

    hold: Hold | None
    limit: float | None = None
    by_age: bool = False
    rule: str = DEFAULT_RULE
    abandoned: bool = False

    @property
    def reads_on(self) -> bool:
        """Whether it ends by reading on, not by another statement."""
        return self.hold is not None and self.hold.kind is HoldKind.UNREAD_RESULTS


class OpenLeak:
    """A leak that was flagged and whose transaction has not ended.

    Attributes:
        facts: what was told when it was flagged.
        number, started: the transaction it belongs to, and when that began.
        cause: why it was flagged.
        held_s: how long the hold lasted; None while it does.
        resumed_with: the raw text of the statement that ended the hold.
        rolled_back: when pgleash rolled it back; from then on its client is owed an error.
        spared: the actions that were due and not carried out, and why.
    """

    __slots__ = (
        "_statements",
        "cause",
        "facts",
        "held_s",
        "number",
        "resumed_with",
        "rolled_back",
        "spared",
        "started",
    )

    def __init__(self, facts: events.Leak, transaction: Transaction, cause: Cause) -> None:
        self.facts = facts
        self.number = transaction.number
        self.started = transaction.started
        self._statements = transaction.statements
        self.cause = cause
        self.held_s: float | None = None
        self.resumed_with = b""
        self.rolled_back: float | None = None
        self.spared: set[tuple[Action, str]] = set()

    def follow(self, tracker: Tracker, now: float) -> bool:
        """Look whether the hold goes on; returns whether the transaction is over."""
        flow, hold = tracker.flow, self.cause.hold
        if self.held_s is None and not self._still_held(tracker.hold()):
            self.held_s = now - hold.since if hold and not self.cause.by_age else None
        if self.held_s is None:
            self.resumed_with = b"" if hold and not self.cause.by_age else flow.last
        elif not self.resumed_with and not self.cause.reads_on:
            self.resumed_with = self._next(flow)
        return flow.transaction.number != self.number or not tracker.in_transaction

    def _next(self, flow: MessageFlow) -> bytes:
        """The first statement behind the hold; many drivers prepare it in a round trip of its own."""
        counted = flow.transaction.number == self.number and flow.transaction.statements > self._statements
        return flow.running or (flow.transaction.last if counted else b"")

    def _still_held(self, hold: Hold | None) -> bool:
        """Whether the hold that was flagged goes on; unread results end as soon as the server can send more."""
        flagged = self.cause.hold
        if flagged is None or self.cause.reads_on:
            return False
        return hold is not None and hold.kind is flagged.kind and hold.since <= flagged.since
