"""Counts how one session's transaction blocks went, for the advice: on the way of every one, so next to nothing."""

from proxy.leash.telling import Named
from proxy.report.habits import AllHabits, Habits
from proxy.wire.flow import MessageFlow
from proxy.wire.transaction import COMMIT, Transaction


class Habit:
    """One session's.

    Args:
        flow: what is known of it.
        habits: where they are counted, by client.
        session: the session.
    """

    __slots__ = ("_flow", "_habits", "_name", "_of_client", "_session")

    def __init__(self, flow: MessageFlow, habits: AllHabits, session: Named) -> None:
        self._flow = flow
        self._habits = habits
        self._session = session
        self._name: str | None = None  # the application_name whose habits these are
        self._of_client: Habits | None = None

    def ended(self, transaction: Transaction, now: float) -> None:
        """A transaction block has ended by itself."""
        name = self._flow.backend.parameters.get("application_name")
        habits = self._of_client
        if habits is None or name is not self._name:
            self._name = name
            habits = self._of_client = self._habits.of(self._session.facts().client)
        habits.ended(transaction.longest, now - transaction.started, committed=transaction.outcome == COMMIT)
