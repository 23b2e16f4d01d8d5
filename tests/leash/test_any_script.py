"""Whatever a client does, what is told of its transactions adds up, and nothing is left open or waiting."""

from collections.abc import Callable, Iterator
from typing import Final

from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.report import events
from tests import messages as m
from tests.leash.fake import FakeSession

ROUNDING: Final = 1e-6  # seconds


class Script:
    """A client that thinks and a server that works, both for as long as they are told to."""

    def __init__(self, session: FakeSession) -> None:
        self.session = session
        self.think = self.work = 0.0

    @property
    def status(self) -> str:
        return chr(self.session.tracker.flow.status)

    @property
    def inside(self) -> str:
        """What a statement that changes nothing leaves."""
        return "I" if self.status == "I" else "T"

    def asks(self, request: bytes, answer: bytes) -> None:
        self.session.client(request)
        self.session.loop.advance(self.work)
        self.session.server(answer)

    def step(self, name: str, think: float, work: float) -> None:
        self.think, self.work = think, work
        self.session.loop.advance(think)
        if self.session.tracker.flow.due.series and name != "flush":
            self.asks(m.SYNC, m.ready(self.status))
        elif self.status == "E" and name not in {"commit", "roll_back", "sync"}:
            self.asks(m.query("SELECT 1"), m.error("25P02") + m.ready("E"))
        else:
            STEPS[name](self)

    # What it may do.

    def begin(self) -> None:
        self.asks(m.query("BEGIN"), m.queried("BEGIN", "T"))

    def write(self) -> None:
        self.asks(m.query("UPDATE t SET a = 1"), m.queried("UPDATE 1", self.inside))

    def fail(self) -> None:
        self.asks(m.query("SELECT 1/0"), m.error() + m.ready("I" if self.status == "I" else "E"))

    def commit(self) -> None:
        self.asks(m.query("COMMIT"), m.queried("ROLLBACK" if self.status == "E" else "COMMIT", "I"))

    def roll_back(self) -> None:
        self.asks(m.query("ROLLBACK"), m.queried("ROLLBACK", "I"))

    def chain(self) -> None:
        status = self.inside
        self.asks(m.query("COMMIT AND CHAIN"), m.queried("COMMIT", "T") if status == "T" else m.error() + m.ready("I"))

    def several(self) -> None:
        tags = m.complete("COMMIT") + m.complete("BEGIN")
        self.asks(m.query("COMMIT; BEGIN; SELECT 1"), tags + m.queried("SELECT 1", "T"))

    def copy(self) -> None:
        status = self.inside
        self.asks(m.query("COPY t FROM STDIN"), m.COPY_IN)
        self.session.loop.advance(self.think)
        self.session.client(m.copy_data())
        self.session.loop.advance(self.think)
        self.asks(m.COPY_DONE, m.complete("COPY 1") + m.ready(status))

    def series(self) -> None:
        self.asks(m.run("SELECT 1") + m.SYNC, m.ran("SELECT 1") + m.ready(self.inside))

    def flush(self) -> None:
        self.asks(m.run("SELECT 1") + m.FLUSH, m.ran("SELECT 1"))

    def parse(self) -> None:
        self.asks(m.parse("SELECT 1") + m.FLUSH, m.PARSED)

    def sync(self) -> None:
        self.asks(m.SYNC, m.ready(self.status))


STEPS: Final[dict[str, Callable[[Script], None]]] = {
    name: step for name, step in vars(Script).items() if callable(step) and name not in {"__init__", "asks", "step"}
}
SECONDS: Final = st.floats(0.0, 4.0)
SCRIPTS: Final = st.lists(st.tuples(st.sampled_from(sorted(STEPS)), SECONDS, SECONDS), max_size=14)
LIMITS: Final = st.sampled_from(
    [{"flag_after": 1.0}, {"flag_transaction_after": 2.0}, {"flag_after": 3.0, "flag_transaction_after": 1.5}]
)


def transactions(session: FakeSession) -> Iterator[events.TransactionFacts]:
    """All that was told of any."""
    for event in session.events:
        if isinstance(event, events.LeakEvent):
            yield event.leak.transaction
        elif isinstance(event, events.ClientMistake):
            yield event.transaction


def adds_up(facts: events.TransactionFacts) -> bool:
    assert facts.busy_s is not None
    assert facts.longest_idle_s is not None
    together = abs(facts.idle_s + facts.busy_s - facts.age_s) < ROUNDING
    return together and 0.0 <= facts.longest_idle_s <= facts.idle_s + ROUNDING


@settings(max_examples=200)
@given(SCRIPTS, LIMITS, st.sampled_from(["terminate", "eof", "server", "lost"]))
def test_times_add_up_and_nothing_is_left(
    script: list[tuple[str, float, float]], limits: dict[str, object], end: str
) -> None:
    session = FakeSession(**limits)
    client = Script(session)
    for step in script:
        client.step(*step)
        hold = session.tracker.hold()
        held = session.loop.now - hold.since if hold else 0.0
        assert not session.tracker.in_transaction or adds_up(session.describer.transaction(session.loop.now, held))
    assert session.tracker.opaque is None, "the script is not the protocol"
    if end == "server":
        session.guard.server_gone(session.loop.now)
    elif end == "lost":
        session.server(b"?" * 10)
    else:
        session.guard.client_gone(end, session.loop.now)
    assert "proxy.error" not in session.names()
    assert all(map(adds_up, transactions(session)))
    assert sum(account.open for _, account in session.reporter.ledger) == 0
    assert session.loop.pending == 0
    ends = {event.leak.id for event in session.events if isinstance(event, events.LeakResolved | events.LeakAbandoned)}
    flags = [event.leak.id for event in session.events if isinstance(event, events.LeakFlagged)]
    assert len(flags) == len(set(flags))
    assert set(flags) <= ends
