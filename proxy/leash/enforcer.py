"""What is done about a leak: told, rolled back, ended, or spared and why."""

import dataclasses
from collections.abc import Callable
from typing import Final, NamedTuple, Protocol

from proxy.leash import words
from proxy.leash.describer import Describer
from proxy.leash.holding import Holding, Sockets
from proxy.leash.leak import Cause, OpenLeak
from proxy.leash.policy import Action
from proxy.leash.safety import unsafe
from proxy.leash.telling import Connected, Named, Telling
from proxy.leash.watch import Watch
from proxy.report import events, summary
from proxy.settings import NEVER
from proxy.wire.hold import Hold
from proxy.wire.tracker import Tracker

TRY_AGAIN: Final = 0.2  # seconds until what was not safe may be

Observer = Callable[[bytes, float], None]


class Leashed(Sockets, Connected, Named, Protocol):
    """What the guard asks of a session, and asks it to do."""

    def observe(self, frontend: Observer, backend: Observer) -> None:
        """Show bytes to these from now on."""

    def roll_back(self, leak_id: str, owed: bytes, told: Callable[[str], None]) -> None:
        """Roll the transaction back where that is safe; `owed` is the client's error.

        `told` is called with "" when the server has done it, and with what went wrong, then or later: then the session
        has to be ended.
        """

    def terminate(self, words: bytes) -> None:
        """End the session with these last words to the client."""

    def give_up_client(self) -> None:
        """The client's host is lost: do as if the kernel had said so."""


class Guarding(Protocol):
    """What is asked of the guard."""

    holding: Holding
    stopped: bool

    def time(self) -> float:
        """Seconds of the loop's clock."""

    def follow_closely(self) -> None:
        """A leak is open: look for its end."""

    def look_at(self, when: float) -> None:
        """Judge at this time."""

    def safely(self, call: Callable[[], None]) -> None:
        """Call something that must not hurt the session."""


class Bar(NamedTuple):
    """An action that is not to be taken.

    Attributes:
        reason: `observe`, `unsafe` or `budget`.
        detail: what stands in the way, for a person.
        since: the hold that it is not to be taken in; None for the whole transaction.
        until: when it may be taken again.
    """

    reason: str
    detail: str = ""
    since: float | None = None
    until: float = NEVER

    def holds(self, hold: Hold | None, now: float) -> bool:
        """Whether it still does."""
        return now < self.until and (self.since is None or (hold is not None and hold.since == self.since))


class Enforcer:
    """Acts for one session's guard.

    Args:
        tracker: what is known of the session.
        watch: by what is judged, and who else is to know.
        describer: makes the facts of a leak.
        telling: tells of it.
        session: the session.
        guard: sees to it that something is done when it is due.

    Attributes:
        leak: the leak that is open, or was rolled back and whose client does not know yet.
    """

    __slots__ = (
        "_bars", "_clients", "_describer", "_guard", "_session", "_telling", "_terms", "_told", "_tracker", "leak",
    )  # fmt: skip

    def __init__(
        self,
        tracker: Tracker,
        watch: Watch,
        describer: Describer,
        telling: Telling,
        session: Leashed,
        guard: Guarding,
    ) -> None:
        self._tracker = tracker
        self._terms = watch.terms
        self._clients = watch.clients
        self._describer = describer
        self._telling = telling
        self._session = session
        self._guard = guard
        self._bars: dict[Action, Bar] = {}  # of the leak that is open
        self.leak: OpenLeak | None = None
        self._told: Callable[[str], None] | None = None  # to be told how the rollback goes that is under way

    @property
    def rolling_back(self) -> bool:
        """Whether the server has been asked for a rollback and has not answered."""
        return self._told is not None

    def client_gone(self) -> None:
        """The client went away: what the server was asked for, it does in any case."""
        if self._told is not None:
            self._told("")

    def forget(self) -> None:
        """The leak is over."""
        self.leak = None
        self._told = None
        self._bars.clear()

    def unbar(self) -> None:
        """The terms have changed: what stood in the way may do so no more."""
        self._bars.clear()

    def bars_end(self, now: float) -> float:
        """When what stands in the way now ends by itself."""
        return min((bar.until for bar in self._bars.values() if bar.until > now), default=NEVER)

    def barred(self, hold: Hold | None, now: float) -> frozenset[Action]:
        """What is not to be done, whatever passes."""
        barred = {action for action, bar in self._bars.items() if bar.holds(hold, now)}
        flow, leak = self._tracker.flow, self.leak
        # Nothing but a Parse keeps the transaction open, and drivers leave such a series for as long as they like
        # (asyncpg's prepare()); or it is not certain what the server still owes.
        if flow.only_parsed or not flow.due.certain:
            barred |= {Action.ROLL_BACK, Action.TERMINATE}
        if leak is not None:
            barred.add(Action.FLAG)
            if leak.rolled_back is not None:
                barred.add(Action.ROLL_BACK)
        return frozenset(barred)

    def flag(self, cause: Cause, now: float) -> OpenLeak:
        """Tell of it; from now on it is a leak."""
        facts = self._describer.leak(self._session.facts(), cause, now)
        leak = self._open(facts, cause)
        self._telling.ask(facts, lambda: self.leak is leak and leak.held_s is None)
        self._telling.tell(
            facts, lambda leak: events.LeakFlagged(summary=summary.flagged(leak), leak=leak, flagged=True)
        )
        if not cause.by_age and cause.limit is not None:
            self._clients.flagged(facts.client, cause.limit)
        return leak

    def _open(self, facts: events.Leak, cause: Cause) -> OpenLeak:
        transaction = self._tracker.flow.transaction
        transaction.followed = transaction.number
        self.leak = OpenLeak(facts, transaction, cause)
        self._bars.clear()
        self._guard.follow_closely()
        return self.leak

    def act(self, action: Action, cause: Cause, now: float) -> bool:
        """Carry out what is due; false if something stands in the way."""
        bar = self._allow(action, cause, now)
        if bar is not None:
            self._spare(action, cause, bar, now)
        elif action is Action.ROLL_BACK:
            self._roll_back(cause, now)
        else:
            self._terminate(cause, now)
        return bar is None

    def _allow(self, action: Action, cause: Cause, now: float) -> Bar | None:
        """Take an action from the budget, or say what stands in its way."""
        terms = self._terms
        if action is Action.ROLL_BACK and (problem := self._unsafe(cause.hold)):
            return Bar("unsafe", problem, since=cause.hold.since if cause.hold else None, until=now + TRY_AGAIN)
        if terms.observing:
            return Bar("observe")
        if not terms.budget.take(now):
            return Bar("budget", until=terms.budget.free_at(now))
        return None

    def _unsafe(self, hold: Hold | None) -> str:
        return unsafe(self._tracker, hold, unread=self._session.unread(), unsent=self._session.unsent())

    def _spare(self, action: Action, cause: Cause, bar: Bar, now: float) -> None:
        leak = self.leak or self.flag(cause, now)
        self._bars[action] = bar
        if (action, bar.reason) in leak.spared:
            return
        first = not leak.spared
        leak.spared.add((action, bar.reason))
        facts, flagged = self.facts(cause, now)
        spared = self._terms.budget.spared.happened(now) if bar.reason == "budget" else None

        def make(leak: events.Leak) -> events.LeakSpared:
            return events.LeakSpared(
                summary=summary.spared(leak, action.value, bar.reason, bar.detail),
                leak=leak, flagged=flagged, action=action.value, reason=bar.reason, detail=bar.detail,
                spared=spared, first=first,
            )  # fmt: skip

        if spared == 0:  # a line a minute says enough
            self._telling.count(make(facts))
        else:
            self._telling.tell(facts, make)

    def _roll_back(self, cause: Cause, now: float, asked_by: str = "") -> None:
        facts, _ = self.facts(cause, now)

        def told(problem: str) -> None:
            self._told = None
            if not self._guard.stopped:
                self._guard.safely(lambda: self._rolled_back(facts, cause, asked_by, problem))

        self._told = told
        self._session.roll_back(facts.id, words.rolled_back(facts), told)

    def _rolled_back(self, facts: events.Leak, cause: Cause, asked_by: str, problem: str) -> None:
        now = self._guard.time()
        flagged = self.leak is not None
        if problem:
            self._end(facts, words.unsure(problem, facts), detail=problem, asked_by=asked_by)
            return
        if self.leak is None:
            self._telling.ask()
        leak = self.leak or self._open(facts, cause)
        leak.rolled_back, leak.facts = now, facts
        self._telling.tell(
            facts,
            lambda leak: events.LeakRolledBack(
                summary=summary.rolled_back(leak), leak=leak, flagged=flagged, asked_by=asked_by
            ),
        )
        self._guard.look_at(now)

    def _terminate(self, cause: Cause, now: float) -> None:
        facts, _ = self.facts(cause, now)
        self._end(facts, words.last_words(facts, by_age=cause.by_age))

    def _end(self, facts: events.Leak, last_words: bytes, *, detail: str = "", asked_by: str = "") -> None:
        leak, self.leak = self.leak, None
        rolled_back = leak is not None and leak.rolled_back is not None
        flagged = leak is not None and not rolled_back
        if leak is None:
            self._telling.ask()
        self._telling.tell(
            facts,
            lambda leak: events.LeakTerminated(
                summary=summary.terminated(leak, rolled_back=rolled_back), leak=leak,
                flagged=flagged, rolled_back=rolled_back, detail=detail, asked_by=asked_by,
            ),
        )  # fmt: skip
        self._session.terminate(last_words)

    def facts(self, cause: Cause, now: float) -> tuple[events.Leak, bool]:
        """The facts as of now, under the id of the leak that is open, if any; and whether one is."""
        leak = self.leak
        facts = self._describer.leak(self._session.facts(), cause, now, leak.facts.id if leak else None)
        if leak is not None and leak.rolled_back is not None:  # that it has failed is our doing
            facts = dataclasses.replace(facts, hold=leak.facts.hold, leak_class=leak.facts.leak_class)
        return facts, leak is not None and leak.rolled_back is None

    # By hand: what somebody asks for is neither observed nor counted.

    def roll_back(self, asked_by: str) -> str:
        """Roll the transaction back for somebody; returns why that is not possible, or ""."""
        now = self._guard.time()
        hold = self._guard.holding.now(now)
        if self._guard.stopped:
            return "the session is ending, or is not judged"
        if self.rolling_back or (self.leak is not None and self.leak.rolled_back is not None):
            return "it has been rolled back already"
        problem = self._unsafe(hold)
        if not problem:
            self._roll_back(Cause(hold), now, asked_by)
        return problem

    def terminate(self, asked_by: str) -> None:
        """End the session for somebody."""
        now = self._guard.time()
        if self._guard.stopped or not self._tracker.in_transaction:
            self._session.terminate(words.by_hand(None))
            return
        facts, _ = self.facts(Cause(self._guard.holding.now(now)), now)
        self._end(facts, words.by_hand(facts), asked_by=asked_by)
