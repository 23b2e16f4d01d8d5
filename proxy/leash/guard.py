"""One session's leash: from the hold to the event, and to the action.

a request arms the watchdog -> it wakes when a limit could have passed -> the hold is looked at, at the messages
and at the sockets -> policy judges -> flag: an event, and from then on every chunk is looked at for the leak's
end -> terminate: an event, and the session ends
"""

import asyncio
import dataclasses
from collections.abc import Callable
from typing import Protocol, TypeVar

from proxy.leash.leak import Cause, Describer, OpenLeak
from proxy.leash.policy import Action, Limits, Verdict, View, judge
from proxy.leash.terminate import last_words
from proxy.leash.unread import SAMPLE_EVERY, Unread
from proxy.leash.watchdog import Timer, Watchdog
from proxy.report import events, summary
from proxy.report.reporter import Reporter
from proxy.settings import NEVER
from proxy.wire.hold import Hold, HoldKind
from proxy.wire.tracker import Tracker
from proxy.wire.transaction import ROLLBACK

Observer = Callable[[bytes, float], None]
Result = TypeVar("Result")


def ignore(_data: bytes, _now: float) -> None:
    """Look at nothing: for sessions that are not judged."""


def read_on(leak: OpenLeak) -> bool:
    """Whether a leak of results that nobody read ends by reading on, not by another statement."""
    return leak.cause.hold is not None and leak.cause.hold.kind is HoldKind.UNREAD_RESULTS


class Leashed(Protocol):
    """What the guard asks of a session, and asks it to do."""

    def unread(self) -> int:
        """Bytes that lie in our buffer for the client."""

    def unsent(self) -> int:
        """Bytes that lie in our buffer for the server."""

    def taken(self) -> tuple[int, int]:
        """Bytes that the client's side has taken so far, and how many it takes at a time."""

    def facts(self) -> events.Session:
        """Who this is."""

    def observe(self, frontend: Observer, backend: Observer) -> None:
        """Show bytes to these from now on."""

    def terminate(self, words: bytes) -> None:
        """End the session with these last words to the client."""


class Guard:
    """Holds one session's leash.

    Args:
        loop: whose clock counts.
        tracker: what is known of the session.
        limits: what it may do.
        describer: makes the facts of a leak.
        reporter: takes events.
        session: the session.
    """

    __slots__ = (
        "_describer",
        "_earliest",
        "_leak",
        "_limits",
        "_loop",
        "_not_before",
        "_reporter",
        "_sampler",
        "_session",
        "_stuffed",
        "_tracker",
        "_unread",
        "_watchdog",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        tracker: Tracker,
        limits: Limits,
        describer: Describer,
        reporter: Reporter,
        session: Leashed,
    ) -> None:
        self._loop = loop
        self._tracker = tracker
        self._limits = limits
        self._earliest = limits.earliest
        self._describer = describer
        self._reporter = reporter
        self._session = session
        self._watchdog = Watchdog(self._loop, self._look)
        self._unread = Unread()
        self._sampler: Timer | None = None
        self._stuffed = False  # our buffer for the client is full
        self._not_before = 0.0  # until then it was not the client's fault
        self._leak: OpenLeak | None = None

    # Bytes, shown after they were forwarded.

    def frontend(self, data: bytes, now: float) -> None:
        """The client sent this: a transaction may begin."""
        if not self._watchdog.armed:
            self._watchdog.arm(now + self._earliest)
        self._tracker.frontend(data, now)  # last: a Terminate in it ends the judging

    def _frontend_flagged(self, data: bytes, now: float) -> None:
        self.frontend(data, now)
        self._safely(lambda: self._follow(now))

    def _backend_flagged(self, data: bytes, now: float) -> None:
        self._tracker.backend(data, now)
        self._safely(lambda: self._follow(now))

    def start(self) -> None:
        """Look at bytes as cheaply as can be: no leak is open."""
        self._session.observe(self.frontend, self._tracker.backend)

    # Sockets.

    def client_stuffed(self) -> None:
        """Our buffer for the client is full, and the server has to wait: the client may have stopped reading."""
        self._stuffed = True
        self._unread.forget()  # until now the server did not wait
        self._watch_reading()

    def client_took(self) -> None:
        """There is room for the server's next bytes again."""
        self._stuffed = False

    def _watch_reading(self) -> None:
        if self._sampler is None and self._earliest != NEVER:
            self._safely(self._sample)

    def server_took(self) -> None:
        """The server has taken what it had not: from here on it is the client's turn again."""
        self._not_before = self._loop.time()

    def _sample(self) -> None:
        now = self._loop.time()
        if self._session.unread():
            self._unread.sample(*self._session.taken(), now)
            self._sampler = self._loop.call_later(SAMPLE_EVERY, lambda: self._safely(self._sample))
        else:
            self._unread.forget()
            self._not_before = now  # only now the last message has left for the client
            self._sampler = None

    def _hold(self, now: float) -> Hold | None:
        """What is held, by the messages and by the sockets."""
        hold = self._tracker.hold()
        if self._session.unread() and self._tracker.in_transaction:
            self._watch_reading()
            # With room left in the buffer, and without the client's turn, it is the server that works.
            return self._unread.hold if self._stuffed or hold else None
        if hold is None:
            return None
        if self._session.unsent():
            self._not_before = now
        return hold if hold.since >= self._not_before else Hold(hold.kind, self._not_before)

    # The deadline.

    def _look(self, now: float) -> float:
        wake = self._safely(lambda: self._judge(now))
        return NEVER if wake is None else wake

    def _judge(self, now: float) -> float:
        tracker = self._tracker
        hold = self._hold(now)
        started = tracker.flow.transaction.started if tracker.in_transaction else None
        spared = tracker.flow.only_parsed or not tracker.flow.due.certain
        view = View(hold, started, flagged=self._leak is not None, spared=spared)
        verdict = judge(view, self._limits, now)
        if verdict.action is Action.FLAG:
            self._flag(hold, verdict, now)
        elif verdict.action is Action.TERMINATE:
            self._terminate(hold, verdict, now)
            return NEVER
        unsent = hold is not None and self._session.unsent()  # when it has gone, nobody calls
        return min(verdict.wake, now + SAMPLE_EVERY) if unsent else verdict.wake

    def _flag(self, hold: Hold | None, verdict: Verdict, now: float) -> None:
        cause = Cause.of(hold, verdict)
        facts = self._describer.leak(self._session.facts(), cause, now)
        transaction = self._tracker.flow.transaction
        transaction.followed = transaction.number
        self._leak = OpenLeak(facts, transaction, cause)
        self._session.observe(self._frontend_flagged, self._backend_flagged)
        self._reporter.emit(events.LeakFlagged(summary=summary.flagged(facts), leak=facts, flagged=True))

    def _terminate(self, hold: Hold | None, verdict: Verdict, now: float) -> None:
        facts, flagged = self._facts(Cause.of(hold, verdict), now)
        self._leak = None
        self._reporter.emit(events.LeakTerminated(summary=summary.terminated(facts), leak=facts, flagged=flagged))
        self._session.terminate(last_words(facts, by_age=verdict.by_age))

    def _facts(self, cause: Cause, now: float) -> tuple[events.Leak, bool]:
        """The facts as of now, under the id of the leak that is open, if any; and whether one is."""
        leak = self._leak
        facts = self._describer.leak(self._session.facts(), cause, now, leak.facts.id if leak else None)
        return facts, leak is not None

    # The end of a leak that was flagged.

    def _follow(self, now: float) -> None:
        leak = self._leak
        if leak is None:
            return
        tracker = self._tracker
        if leak.held_s is None and not self._still_held(leak):
            leak.held_s = now - leak.cause.hold.since if leak.cause.hold and not leak.cause.by_age else None
            leak.resumed_with = b"" if read_on(leak) else tracker.flow.last
        if tracker.flow.transaction.number != leak.number or not tracker.in_transaction:
            self._resolve(leak, now)

    def _still_held(self, leak: OpenLeak) -> bool:
        """Whether the hold that was flagged goes on; unread results end as soon as the server can send more."""
        flagged, hold = leak.cause.hold, self._tracker.hold()
        if flagged is None or read_on(leak):
            return False
        return hold is not None and hold.kind is flagged.kind and hold.since <= flagged.since

    def _resolve(self, leak: OpenLeak, now: float, outcome: str | None = None) -> None:
        transaction = self._tracker.flow.transaction
        same = transaction.number == leak.number
        age = now - leak.started
        facts = dataclasses.replace(
            leak.facts,
            held_s=age if leak.held_s is None else leak.held_s,
            transaction=dataclasses.replace(leak.facts.transaction, age_s=age),
        )
        outcome = outcome or (transaction.outcome if same else transaction.followed_outcome) or ROLLBACK
        resumed_with = self._describer.text(leak.resumed_with)
        self._leak = None
        self.start()
        if self._tracker.in_transaction and not self._watchdog.armed:  # the next one began without a request
            self._watchdog.arm(now + self._earliest)
        self._reporter.emit(
            events.LeakResolved(
                summary=summary.resolved(facts, outcome, resumed_with),
                leak=facts,
                flagged=True,
                outcome=outcome,
                resumed_with=resumed_with,
            )
        )

    # The end of the session.

    def client_gone(self, how: str, now: float) -> None:
        """The client went away.

        Args:
            how: `terminate`, `eof`, `reset` or `timeout`.
            now: the loop's time.
        """
        if self._tracker.in_transaction:
            self._safely(lambda: self._abandon(how, now))
        self.stop()

    def _abandon(self, how: str, now: float) -> None:
        hold, leak = self._tracker.hold(), self._leak
        running = "" if hold else self._describer.text(self._tracker.flow.last)
        if leak is not None and leak.held_s is None:
            hold = hold or leak.cause.hold  # results that nobody has read to this day
        facts, flagged = self._facts(Cause(hold), now)
        if leak is not None and leak.cause.by_age:
            facts = dataclasses.replace(facts, held_s=facts.transaction.age_s)
        elif leak is not None and leak.held_s is not None:
            facts = dataclasses.replace(facts, hold=leak.facts.hold, held_s=max(facts.held_s, leak.held_s))
        text = summary.abandoned(facts, how, running)
        self._leak = None
        self._reporter.emit(events.LeakAbandoned(summary=text, leak=facts, flagged=flagged, how=how, running=running))

    def server_gone(self, now: float) -> None:
        """The server ended the session, and its transaction with it."""
        self._resolve_as("rollback", now)
        self.stop()

    def lost_track(self) -> None:
        """The session has become opaque: it is not judged any more, and what was flagged cannot be followed."""
        self._resolve_as("unknown", self._loop.time())
        self.stop()

    def _resolve_as(self, outcome: str, now: float) -> None:
        leak = self._leak
        if leak is not None:
            self._safely(lambda: self._resolve(leak, now, outcome))

    def stop(self) -> None:
        """Judge no more."""
        self._session.observe(ignore, ignore)
        self._earliest = NEVER
        self._watchdog.disarm()
        if self._sampler is not None:
            self._sampler.cancel()
            self._sampler = None

    def _safely(self, call: Callable[[], Result]) -> Result | None:
        """Whatever is wrong in judging or telling, the session goes on, without being judged."""
        try:
            return call()
        except Exception as error:  # noqa: BLE001 - the watcher cannot hurt the watched
            self._leak = None
            self.stop()
            self._reporter.emit(events.InternalError.of(error))
            return None
