"""Tells of what a client does wrong without holding anything: its transactions are not where it believes them to be."""

from proxy.leash.describer import Describer
from proxy.leash.telling import Named, Telling
from proxy.report import events, summary
from proxy.report.seldom import Seldom
from proxy.wire.flow import MessageFlow
from proxy.wire.mistake import Mistake


class Mistakes:
    """One session's.

    Args:
        flow: what is known of it.
        describer: makes texts.
        session: the session.
        telling: its voice.
    """

    __slots__ = ("_describer", "_flow", "_seldom", "_session", "_telling")

    def __init__(self, flow: MessageFlow, describer: Describer, session: Named, telling: Telling) -> None:
        self._flow = flow
        self._describer = describer
        self._session = session
        self._telling = telling
        self._seldom = {mistake: Seldom() for mistake in Mistake}

    def noticed(self, mistake: Mistake, made_by: bytes) -> None:
        """The server has said something that shows it; a client may make it with every transaction."""
        times = self._seldom[mistake].happened(self._flow.now)
        if not times:
            return
        transaction = self._describer.transaction(self._flow.now)
        statement = self._describer.text(made_by)
        repeated = times if times > 1 else None

        def make(session: events.Session) -> events.ClientMistake:
            if mistake is Mistake.DIRTY_CHECKOUT:
                text = summary.dirty_checkout(session, transaction)
                return events.DirtyCheckout(
                    summary=text, session=session, transaction=transaction, statement=statement, repeated=repeated
                )
            text = summary.silent_rollback(session, transaction)
            return events.SilentRollback(
                summary=text, session=session, transaction=transaction, statement=statement, repeated=repeated
            )

        self._telling.tell_of(self._session.facts(), make)
