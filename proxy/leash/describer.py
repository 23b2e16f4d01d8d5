"""What is known of a session's transaction, as a log may tell it: made only when there is something to tell."""

from functools import lru_cache
from itertools import takewhile
from typing import Final

from proxy.attribution import fingerprint as shapes
from proxy.attribution import statements
from proxy.attribution.classify import ABANDONED, leak_class
from proxy.attribution.statements import ELLIPSIS
from proxy.attribution.tags import last_comment, merged, shown
from proxy.attribution.trace import trace_of
from proxy.leash.leak import Cause, new_id
from proxy.leash.terms import Terms
from proxy.report import events
from proxy.settings import LogStatements
from proxy.wire.flow import MessageFlow
from proxy.wire.statements import STATEMENT_BYTES, beginning, end

KNOWN_TEXTS: Final = 256  # of 2 kB at most; raw, as the sessions have them anyway

# A pool's sessions send the same few texts, and whoever asks for all sessions has each described several times.
sanitize = lru_cache(KNOWN_TEXTS)(statements.sanitize)
fingerprint = lru_cache(KNOWN_TEXTS)(shapes.fingerprint)


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
        if self._terms.statements is not LogStatements.SANITIZED or not statement:
            return ""
        text, cut = beginning(statement), len(statement) >= STATEMENT_BYTES
        shown = [sanitize(text, truncated=cut, backslash_escapes=escapes) for escapes in self._readings(text)]
        return shown[0] if len(set(shown)) == 1 else _common(*shown) + ELLIPSIS  # what is certain either way

    def fingerprint(self, statement: bytes) -> str:
        """What statements of the same shape have in common."""
        if self._terms.statements is LogStatements.OFF:
            return ""
        text, cut = beginning(statement), len(statement) >= STATEMENT_BYTES
        readings = {fingerprint(text, truncated=cut, backslash_escapes=escapes) for escapes in self._readings(text)}
        return readings.pop() if len(readings) == 1 else ""

    def _readings(self, text: bytes) -> tuple[bool, ...]:
        """By which rules the server may have read a text: whether a backslash escapes in plain strings."""
        backend = self._flow.backend
        return (False, True) if backend.strings_changed and b"\\" in text else (backend.backslash_escapes,)

    def tags(self) -> dict[str, str]:
        """The tags of the transaction's statements, as far as they are kept; those of a later one win."""
        flow, transaction = self._flow, self._flow.transaction
        found: dict[str, str] = {}
        for text in (transaction.first, flow.opener, transaction.first_write, flow.last):
            found |= self._tags_of(beginning(text))
            if not transaction.failed:  # the end of a text that the server refused may be anything
                found |= merged([last_comment(end(text))])
        return found

    def _tags_of(self, text: bytes) -> dict[str, str]:
        first, *others = (merged([text], backslash_escapes=escapes) for escapes in self._readings(text))
        return {name: value for name, value in first.items() if all(other.get(name) == value for other in others)}

    def transaction(self, now: float, held: float = 0.0) -> events.TransactionFacts:
        """What the transaction has done until now, `held` seconds of the current wait included."""
        flow, transaction = self._flow, self._flow.transaction
        age, idle = now - transaction.started, transaction.idle + held
        waiting = held > transaction.longest
        tags = self.tags()
        trace = trace_of(tags)
        return events.TransactionFacts(
            age_s=age,
            idle_s=idle,
            busy_s=max(age - idle, 0.0),
            longest_idle_s=max(held, transaction.longest),
            idle_after=self.text(flow.last if waiting else transaction.idle_after),
            idle_before=""
            if waiting or not transaction.longest
            else self.text(transaction.idle_before or flow.running),
            statements=flow.statements,
            opener=self.text(flow.opener),
            first_write=self.text(transaction.first_write),
            last=self.text(flow.last),
            fingerprint=self.fingerprint(flow.opener),
            tags=shown(tags, self._terms.tags) or None,
            trace_id=trace.trace_id if trace else "",
            span_id=trace.span_id if trace else "",
            wrote=bool(transaction.first_write),
        )

    def leak(self, session: events.Session, cause: Cause, now: float, leak_id: str | None = None) -> events.Leak:
        """The facts of what is held now."""
        kind = cause.hold.kind if cause.hold else None
        held = now - cause.hold.since if cause.hold else 0.0
        transaction = self.transaction(now, held)
        return events.Leak(
            id=leak_id or new_id(),
            leak_class=ABANDONED if cause.abandoned else leak_class(kind, by_age=cause.by_age, wrote=transaction.wrote),
            hold=kind.value if kind else "",
            held_s=transaction.age_s if cause.by_age else held,
            limit_s=cause.limit,
            rule=cause.rule,
            session=session,
            transaction=transaction,
        )


def _common(one: str, other: str) -> str:
    """The beginning that two texts have in common."""
    return "".join(
        character for character, _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False))
    )
