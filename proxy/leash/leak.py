"""One leak, from its flag to the end of its transaction, and its facts for the log."""

import secrets
from typing import Final, NamedTuple

from proxy.attribution.classify import ABANDONED, leak_class
from proxy.attribution.statements import sanitize
from proxy.attribution.tags import merged
from proxy.leash.policy import Action
from proxy.leash.terms import Terms
from proxy.report import events
from proxy.settings import DEFAULT_RULE, LogStatements
from proxy.wire.flow import MessageFlow
from proxy.wire.hold import Hold, HoldKind
from proxy.wire.statements import STATEMENT_BYTES, beginning
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

    __slots__ = ("cause", "facts", "held_s", "number", "resumed_with", "rolled_back", "spared", "started")

    def __init__(self, facts: events.Leak, transaction: Transaction, cause: Cause) -> None:
        self.facts = facts
        self.number = transaction.number
        self.started = transaction.started
        self.cause = cause
        self.held_s: float | None = None
        self.resumed_with = b""
        self.rolled_back: float | None = None
        self.spared: set[tuple[Action, str]] = set()

    def follow(self, tracker: Tracker, now: float) -> bool:
        """Look whether the hold goes on; returns whether the transaction is over."""
        flow = tracker.flow
        if self.held_s is None and not self._still_held(tracker.hold()):
            self.held_s = now - self.cause.hold.since if self.cause.hold and not self.cause.by_age else None
            self.resumed_with = b"" if self.cause.reads_on else flow.last
        return flow.transaction.number != self.number or not tracker.in_transaction

    def _still_held(self, hold: Hold | None) -> bool:
        """Whether the hold that was flagged goes on; unread results end as soon as the server can send more."""
        flagged = self.cause.hold
        if flagged is None or self.cause.reads_on:
            return False
        return hold is not None and hold.kind is flagged.kind and hold.since <= flagged.since


class Describer:
    """Makes the facts of one session's leaks.

    Args:
        flow: what is known of the session.
        terms: how much of a statement's text may be told.
    """

    __slots__ = ("_flow", "_terms")

    def __init__(self, flow: MessageFlow, terms: Terms) -> None:
        self._flow = flow
        self._terms = terms

    def text(self, statement: bytes) -> str:
        """A statement as the log may show it."""
        if self._terms.statements is LogStatements.OFF or not statement:
            return ""
        truncated = len(statement) >= STATEMENT_BYTES
        return sanitize(
            beginning(statement), truncated=truncated, backslash_escapes=self._flow.backend.backslash_escapes
        )

    def tags(self) -> dict[str, str]:
        """The tags of the transaction's statements, as far as they are kept; those of a later one win."""
        flow = self._flow
        statements = (flow.opener, flow.transaction.first_write, flow.last)
        return merged(statements, backslash_escapes=flow.backend.backslash_escapes)

    def leak(self, session: events.Session, cause: Cause, now: float, leak_id: str | None = None) -> events.Leak:
        """The facts of what is held now."""
        flow = self._flow
        kind = cause.hold.kind if cause.hold else None
        age = now - flow.transaction.started
        held = now - cause.hold.since if cause.hold else 0.0
        wrote = bool(flow.transaction.first_write)
        return events.Leak(
            id=leak_id or new_id(),
            leak_class=ABANDONED if cause.abandoned else leak_class(kind, by_age=cause.by_age, wrote=wrote),
            hold=kind.value if kind else "",
            held_s=age if cause.by_age else held,
            limit_s=cause.limit,
            rule=cause.rule,
            session=session,
            transaction=events.TransactionFacts(
                age_s=age,
                idle_s=flow.transaction.idle + held,
                statements=flow.statements,
                opener=self.text(flow.opener),
                first_write=self.text(flow.transaction.first_write),
                last=self.text(flow.last),
            ),
        )
