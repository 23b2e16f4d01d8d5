"""A transcript: what each side says, step by step, and what is then known of the session."""

from collections.abc import Iterator
from typing import NamedTuple

from proxy.wire.tracker import Tracker
from tests import messages as m


class Client(NamedTuple):
    """The client says this."""

    data: bytes


class Server(NamedTuple):
    """The server says this."""

    data: bytes


class Expect(NamedTuple):
    """What is known now; `since` counts the steps."""

    hold: str | None = None
    since: int | None = None
    open: bool | None = None
    opener: str | None = None
    first_write: str | None = None
    last: str | None = None
    statements: int | None = None
    number: int | None = None
    opaque: bool = False


Step = Client | Server | Expect
STARTED: list[Step] = [Server(m.STARTED)]


class Cut(NamedTuple):
    """Where a transcript's bytes are cut: `step` before its byte `at`; or everywhere."""

    step: int = -1
    at: int = 0
    everywhere: bool = False


def cuts(steps: list[Step]) -> Iterator[Cut]:
    """Whole, byte by byte, and each place where one chunk can become two."""
    yield Cut()
    yield Cut(everywhere=True)
    for number, step in enumerate(steps):
        if not isinstance(step, Expect):
            yield from (Cut(number, at) for at in range(1, len(step.data)))


def chunks(data: bytes, number: int, cut: Cut) -> list[bytes]:
    if cut.everywhere:
        return [data[at : at + 1] for at in range(len(data))]
    if cut.step == number:
        return [data[: cut.at], data[cut.at :]]
    return [data]


def play(steps: list[Step], cut: Cut) -> Tracker:
    """Run a transcript through a Tracker; each step happens one second after the one before."""
    tracker = Tracker(gave_up=lambda _reason, _error: None, goodbye=lambda: None)
    for number, step in enumerate(steps):
        if isinstance(step, Expect):
            check(tracker, step, number)
            continue
        tell = tracker.frontend if isinstance(step, Client) else tracker.backend
        for chunk in chunks(step.data, number, cut):
            tell(chunk, float(number))
    return tracker


def check(tracker: Tracker, expected: Expect, number: int) -> None:
    where = f"at step {number}: opaque because {tracker.opaque}"
    flow = tracker.flow
    hold = tracker.hold()
    assert (tracker.opaque is not None) is expected.opaque, where
    assert (hold.kind.value if hold else None) == expected.hold, where
    assert expected.since is None or (hold and hold.since == expected.since), where
    assert expected.open is None or tracker.in_transaction is expected.open, where
    assert expected.hold is None or tracker.in_transaction, where
    assert expected.opener is None or flow.opener.decode() == expected.opener, where
    assert expected.last is None or flow.last.decode() == expected.last, where
    assert expected.first_write is None or flow.transaction.first_write.decode() == expected.first_write, where
    assert expected.statements is None or flow.statements == expected.statements, where
    assert expected.number is None or flow.transaction.number == expected.number, where
