"""A session that is idle outside of a transaction although its client's others are used: taken and never returned?

Nothing is open, so nothing is ever asked again, and the pool is one connection smaller for good. The others have to be
in use now: a pool that has gone quiet has forgotten none. Some pools rest
connections for long, too: the limits are off unless somebody sets them.
"""

import dataclasses
from typing import Any, Final, Protocol

from proxy.leash import words
from proxy.leash.clients import Member
from proxy.leash.describer import Describer
from proxy.leash.rules import Ruling
from proxy.leash.telling import Named, Telling
from proxy.leash.watch import Watch
from proxy.report import events, summary
from proxy.settings import NEVER
from proxy.wire.tracker import Tracker

SESSION_LOCK: Final = b"advisory_lock"  # pg_advisory_lock(), pg_try_advisory_lock(): who leads, who migrates
LOOK_AGAIN: Final = 0.1  # of the limit: others have to have been used since the last look, not long ago


class Session(Named, Protocol):
    """What is asked of a session."""

    def terminate(self, words: bytes) -> None:
        """End the session with these last words to the client."""


class Forgotten:
    """Judges one session's idleness.

    Args:
        tracker: what is known of the session.
        watch: what is done about it, and the other sessions.
        member: this one, among them.
        describer: makes texts.
        session: the session.
        telling: its voice.
    """

    __slots__ = (
        "_clients", "_describer", "_flagged", "_member", "_session", "_spared", "_telling", "_terms", "_tracker",
    )  # fmt: skip

    def __init__(
        self,
        tracker: Tracker,
        watch: Watch,
        member: Member,
        describer: Describer,
        session: Session,
        telling: Telling,
    ) -> None:
        self._tracker = tracker
        self._terms = watch.terms
        self._clients = watch.clients
        self._member = member
        self._describer = describer
        self._session = session
        self._telling = telling
        self._flagged = -1.0  # since when it was idle that has been flagged
        self._spared = -1.0

    def judge(self, ruling: Ruling, now: float) -> float:
        """Do what is due; returns when to look again."""
        since, limits = self._tracker.idle_since, ruling.limits
        soonest = min(limits.flag_idle_session_after, limits.terminate_idle_session_after)
        if since is None or soonest == NEVER or self._waits_on_purpose():
            return now + soonest
        if now < since + soonest:
            return since + soonest
        look_again = max(soonest * LOOK_AGAIN, 1.0)
        if not self._clients.used_since(self._member, max(since, now - look_again)):
            return now + look_again
        return self._act(since, self._clients.sisters(self._member), ruling, now)

    def _waits_on_purpose(self) -> bool:
        """Whether it is idle by design: it listens, or was last asked for a lock that the session keeps."""
        transaction = self._tracker.flow.transaction
        return transaction.listens or SESSION_LOCK in transaction.last

    def _act(self, since: float, sisters: int, ruling: Ruling, now: float) -> float:
        limits = ruling.limits
        if now >= since + limits.terminate_idle_session_after:
            facts = self._facts(since, sisters, ruling, limits.terminate_idle_session_after, now)
            return self._terminate(facts, since, now)
        if self._flagged != since and now >= since + limits.flag_idle_session_after:
            self._flagged = since
            self._tell(self._facts(since, sisters, ruling, limits.flag_idle_session_after, now))
        return since + limits.terminate_idle_session_after

    def _terminate(self, facts: events.SessionForgotten, since: float, now: float) -> float:
        budget = self._terms.budget
        if self._terms.observing:
            self._spare(facts, "observe", since)
            return NEVER
        if not budget.take(now):
            self._spare(facts, "budget", since)
            return budget.free_at(now)
        self._tell(events.SessionTerminated(**_fields(facts)))
        self._session.terminate(words.idle_session(facts))
        return NEVER

    def _spare(self, facts: events.SessionForgotten, reason: str, since: float) -> None:
        if self._spared != since:
            self._spared = since
            self._tell(events.SessionSpared(**_fields(facts), reason=reason))

    def _tell(self, event: events.IdleSession) -> None:
        self._telling.tell_of(event.session, lambda session: _of(event, session))

    def _facts(self, since: float, sisters: int, ruling: Ruling, limit: float, now: float) -> events.SessionForgotten:
        last = self._tracker.flow.last
        return events.SessionForgotten(
            summary="",
            session=self._session.facts(),
            idle_s=now - since,
            limit_s=limit,
            rule=ruling.rule,
            sisters=sisters,
            last=self._describer.text(last),
            fingerprint=self._describer.fingerprint(last),
        )


def _fields(event: events.IdleSession) -> dict[str, Any]:
    return {field.name: getattr(event, field.name) for field in dataclasses.fields(events.IdleSession)}


def _of(event: events.IdleSession, session: events.Session) -> events.IdleSession:
    """The event, once it is known which process the client is."""
    known = dataclasses.replace(event, session=session)
    return dataclasses.replace(known, summary=summary.of_idle(known))
