"""One session's leash: from the hold to the event, and to the action.

a request arms the watchdog -> it wakes when a limit could have passed -> the hold is looked at, at the messages
and at the sockets -> policy judges -> flag: an event, and from then on every chunk is looked at for the leak's
end -> roll back: an event, once the server has done it -> terminate: an event, and the session ends
"""

import asyncio
from collections.abc import Callable
from typing import Final, TypeVar

from proxy.leash import outcome
from proxy.leash.clients import Held
from proxy.leash.describer import Describer
from proxy.leash.enforcer import Enforcer, Leashed
from proxy.leash.forgotten import Forgotten
from proxy.leash.habit import Habit
from proxy.leash.holding import Holding
from proxy.leash.leak import Cause, OpenLeak
from proxy.leash.mistakes import Mistakes
from proxy.leash.policy import Action, View, judge
from proxy.leash.rules import Ruling
from proxy.leash.telling import Telling
from proxy.leash.unread import SAMPLE_EVERY
from proxy.leash.watch import Watch
from proxy.leash.watchdog import Watchdog
from proxy.report import events
from proxy.settings import NEVER
from proxy.wire.mistake import Mistake
from proxy.wire.tracker import Tracker
from proxy.wire.transaction import Transaction

Result = TypeVar("Result")

LOST_EVERY: Final = 1.0  # seconds between two looks at a client whose host has something to answer


def ignore(_data: bytes, _now: float) -> None:
    """Look at nothing: for sessions that are not judged."""


class Guard:
    """Holds one session's leash.

    Args:
        loop: whose clock counts.
        tracker: what is known of the session.
        watch: what it may do, what is done about it, who is told of it.
        describer: makes the facts of a leak.
        session: the session.

    Attributes:
        holding: what the client holds; to be told what becomes of the sockets' buffers.
        enforcer: what is done about it; somebody may ask for it by hand.
        describer: what is known of its transaction, for somebody who looks on.
        telling: knows besides what had to be asked for.
        stopped: whether nothing is judged any more.
    """

    __slots__ = (
        "_earliest", "_forgotten", "_habit", "_loop", "_mistakes", "_session", "_tracker", "_watch", "_watchdog",
        "describer", "enforcer", "holding", "stopped", "telling",
    )  # fmt: skip

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        tracker: Tracker,
        watch: Watch,
        describer: Describer,
        session: Leashed,
    ) -> None:
        self._loop = loop
        self._tracker = tracker
        self._watch = watch
        self._earliest = watch.terms.earliest
        self.describer = describer
        self._session = session
        self._watchdog = Watchdog(loop, self._look)
        self.holding = Holding(loop, tracker, session, self.safely, self._turned)
        self.holding.wanted = self._earliest != NEVER
        self.telling = Telling(watch.witnesses, watch.reporter, session)
        self.enforcer = Enforcer(tracker, watch, describer, self.telling, session, self)
        self._forgotten = Forgotten(tracker, watch, self, describer, session, self.telling)
        self._mistakes = Mistakes(tracker.flow, describer, session, self.telling)
        self._habit = Habit(tracker.flow, watch.habits, session)
        self.stopped = False

    # Bytes, shown after they were forwarded.

    def frontend(self, data: bytes, now: float) -> None:
        """The client sent this: a transaction may begin."""
        if now + self._earliest < self._watchdog.due:  # another rule may hold from now on, so it is none or too late
            self._watchdog.arm(now + self._earliest)
        self._tracker.frontend(data, now)  # last: a Terminate in it ends the judging

    def _frontend_flagged(self, data: bytes, now: float) -> None:
        self.frontend(data, now)
        self.safely(lambda: self._follow(now))

    def _backend_flagged(self, data: bytes, now: float) -> None:
        self._tracker.backend(data, now)
        self.safely(lambda: self._follow(now))

    def follow_closely(self) -> None:
        """A leak is open: look for its end behind every chunk."""
        self._session.observe(self._frontend_flagged, self._backend_flagged)

    def start(self) -> None:
        """Judge from now on."""
        self._watch.clients.add(self)
        self._tracker.flow.noticed = self._noticed
        self._tracker.flow.transaction.block_over = self._block_over
        self._turned(self._loop.time())  # a session that is never used is idle, too
        self._follow_loosely()

    def _follow_loosely(self) -> None:
        """Look at bytes as cheaply as can be: no leak is open."""
        self._session.observe(self.frontend, self._tracker.backend)

    # What the others of the same client see.

    @property
    def client(self) -> events.Client:
        """Whose session it is."""
        return self._session.facts().client

    @property
    def used_at(self) -> float:
        """When bytes of either side came last, seconds of the loop's clock."""
        return self._tracker.flow.now

    def held(self, now: float) -> Held | None:
        """What it is held in, if it has been flagged."""
        leak, hold = self.enforcer.leak, self.holding.now(now)
        if leak is None or hold is None or leak.rolled_back is not None:
            return None
        limit = self.ruling().limits.flag_after
        told = leak.facts.transaction
        return Held(hold.since, limit, told.opener, told.fingerprint)

    # What the tracker tells of besides.

    def _noticed(self, mistake: Mistake, statement: bytes) -> None:
        leak = self.enforcer.leak
        if leak is None or leak.rolled_back is None:  # else it is our doing, and the client is told
            self.safely(lambda: self._mistakes.noticed(mistake, statement))

    def _block_over(self, transaction: Transaction, now: float) -> None:
        leak = self.enforcer.leak
        if leak is None or leak.rolled_back is None:  # else it has not ended by itself
            self._habit.ended(transaction, now)

    # The deadline.

    def time(self) -> float:
        """Seconds of the loop's clock."""
        return self._loop.time()

    def reconsider(self) -> None:
        """The terms have changed: judge by the new ones at once."""
        if self.stopped:
            return
        self._earliest = self._watch.terms.earliest
        self.holding.wanted = self._earliest != NEVER
        self.enforcer.unbar()
        self.look_at(self._loop.time())

    def _turned(self, now: float) -> None:
        """It is the client's turn although it has said nothing: it has read, the server has, or its COMMIT chained."""
        if now + self._earliest < self._watchdog.due:
            self._watchdog.arm(now + self._earliest)

    def ruling(self) -> Ruling:
        """Which rule and limits apply now."""
        return self._watch.terms.ruling(self.client, self.describer.tags)

    def look_at(self, when: float) -> None:
        """Judge at this time, whatever was planned."""
        self._watchdog.arm(when)

    def _look(self, now: float) -> float:
        wake = self.safely(lambda: self._judge(now))
        return NEVER if wake is None else wake

    def _judge(self, now: float) -> float:
        if self.enforcer.rolling_back:
            return NEVER  # its end looks again
        lost = self._session.lost() if self._tracker.in_transaction else False
        if lost:
            self._session.give_up_client()
            return NEVER
        hold = self.holding.now(now)
        ruling = self.ruling()
        started = self._started()
        if started is None:
            return self._forgotten.judge(ruling, now)
        refused: set[Action] = set()
        while True:
            barred = self.enforcer.barred(hold, now) | refused
            verdict = judge(View(hold, started, barred), ruling.limits, now)
            cause = Cause(hold, verdict.limit, verdict.by_age, ruling.rule)
            if verdict.action is Action.WAIT:
                break
            refused.add(verdict.action)  # whatever becomes of it: each is looked at once
            if verdict.action is Action.FLAG:
                self.enforcer.flag(cause, now)
            elif self.enforcer.act(verdict.action, cause, now):
                return NEVER
        wake = min(verdict.wake, self.enforcer.bars_end(now))
        if hold is None:  # when the server has answered, another rule may hold, and nobody calls
            wake = min(wake, now + self._earliest)
        if hold is not None and self._session.unsent():  # when it has gone, nobody calls
            wake = min(wake, now + SAMPLE_EVERY)
        return min(wake, now + LOST_EVERY) if lost is None else wake

    def _started(self) -> float | None:
        """When the age of what is open began to count."""
        if not self._tracker.in_transaction:
            return None
        leak = self.enforcer.leak
        rolled_back = leak.rolled_back if leak else None
        return self._tracker.flow.transaction.started if rolled_back is None else rolled_back

    # The end of a leak.

    def _follow(self, now: float) -> None:
        leak = self.enforcer.leak
        if leak is not None and leak.follow(self._tracker, now):
            self._resolve(leak, now)

    def _resolve(self, leak: OpenLeak, now: float, how: str | None = None) -> None:
        ending = outcome.over(leak, self._tracker, self.describer, now, how)
        self.enforcer.forget()
        self._follow_loosely()
        if self._tracker.in_transaction:  # the next one began without a request
            self._turned(now)
        if ending is not None:
            self.telling.tell(*ending)

    # The end of the session.

    def client_gone(self, how: str, now: float) -> None:
        """The client went away.

        Args:
            how: `terminate`, `eof`, `reset` or `timeout`.
            now: the loop's time.
        """
        self.enforcer.client_gone()
        leak = self.enforcer.leak
        if self._tracker.in_transaction and (leak is None or leak.rolled_back is None):
            self.safely(lambda: self._abandon(how, now))
        self.stop()

    def _abandon(self, how: str, now: float) -> None:
        hold, leak = self._tracker.hold(), self.enforcer.leak
        running = "" if hold else self.describer.text(self._tracker.flow.last)
        facts, _ = self.enforcer.facts(Cause(outcome.hold_left(leak, hold), abandoned=True), now)
        self.enforcer.forget()
        self.telling.tell(*outcome.abandoned(leak, facts, how, running))

    def server_gone(self, now: float) -> None:
        """The server ended the session, and its transaction with it."""
        self._resolve_as("rollback", now)
        self.stop()

    def lost_track(self) -> None:
        """The session has become opaque: it is not judged any more, and what was flagged cannot be followed."""
        self._resolve_as("unknown", self._loop.time())
        self.stop()

    def _resolve_as(self, how: str, now: float) -> None:
        leak = self.enforcer.leak
        if leak is not None:
            self.safely(lambda: self._resolve(leak, now, how))

    def stop(self) -> None:
        """Judge no more."""
        self.stopped = True
        self._watch.clients.discard(self)
        self._session.observe(ignore, ignore)
        self._earliest = NEVER
        self._watchdog.disarm()
        self.holding.stop()

    def safely(self, call: Callable[[], Result]) -> Result | None:
        """Call something; whatever is wrong in judging or telling, the session goes on, without being judged."""
        try:
            return call()
        except Exception as error:  # noqa: BLE001 - the watcher cannot hurt the watched
            self.enforcer.forget()
            self.stop()
            self._watch.reporter.emit(events.InternalError.of(error))
            return None
