"""A rollback of one session that keeps its connections: from the flight to the moment when the client knows.

relay -> the flight is sent, the client waits -> the one right answer, which is swallowed -> requests and answers are
looked at before they are passed on (proxy/wire/owed.py) -> the block is over -> relay

Whatever goes wrong is told, and the session has to be ended: nobody could be sure what the client would believe.
"""

import asyncio
from collections.abc import Callable
from typing import Final

from proxy.relay import HIGH_WATER, Leg, nobody
from proxy.wire.owed import Owed
from proxy.wire.rollback import Answer, flight
from proxy.wire.scanner import cut
from proxy.wire.tracker import Tracker

# Seconds. Nothing is rolled back row by row, so it takes no time, unless files have to be removed or the server has
# no time either; the client, which is idle, loses nothing by the wait.
ANSWER_WITHIN: Final = 5.0

Observer = Callable[[bytes, float], None]


class Rollback:
    """One rollback.

    Args:
        loop: whose clock counts.
        legs: the client's side and the server's.
        tracker: what is known of the session; it is shown what the client gets.
        owed: the error for the client.
        told: is told "" when the server has rolled back, and what has gone wrong if anything has, then or later.
        over: called when everything can be passed on as it comes again.

    Attributes:
        observe: is shown what the client gets, with the time.
    """

    __slots__ = (
        "_answer", "_client", "_finishing", "_kept", "_loop", "_over", "_owed", "_owing", "_rollbacks", "_server",
        "_timer", "_told", "_tracker", "observe",
    )  # fmt: skip

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        legs: tuple[Leg, Leg],
        tracker: Tracker,
        owed: bytes,
        told: Callable[[str], None],
        over: Callable[[], None],
    ) -> None:
        self._loop = loop
        self._client, self._server = legs
        self._tracker = tracker
        self._owed = owed
        self._told = told
        self._over = over
        self._rollbacks = tracker.flow.rollbacks()  # now: what the client says from here on is looked at later
        self._answer = Answer()
        self._owing: Owed | None = None
        self._kept = bytearray()
        self._finishing = False
        self._timer: asyncio.TimerHandle | None = None
        self.observe = self._server.observe

    def start(self, leak_id: str) -> None:
        """Ask the server."""
        self._client.forward = self._keep
        self._server.forward = self._answered
        self._server.observe = nobody  # what the client gets is shown instead
        self._server.write(flight(leak_id))
        self._timer = self._loop.call_later(ANSWER_WITHIN, lambda: self._fail("the server did not answer"))

    def stop(self) -> None:
        """The session ends: nothing is waited for any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def finish_server(self) -> None:
        """End our stream to the server behind what the client has said."""
        self._finishing = True
        self._finish_if_all_is_said()

    def _finish_if_all_is_said(self) -> None:
        owing = self._owing
        if self._finishing and not (self._kept if owing is None else owing.waits):
            self._finishing = False
            self._server.write(b"" if owing is None else owing.rest())
            self._server.finish()

    # Until the server has answered.

    def _keep(self, data: bytes) -> None:
        self._kept += data
        self._slow_down(len(self._kept))

    def _answered(self, data: bytes) -> None:
        self._safely(self._look_at_answer, data)

    def _look_at_answer(self, data: bytes) -> None:
        answer = self._answer
        self._to_client(answer.feed(data))
        if answer.ended:
            self.stop()  # whatever the server still says, and its close, takes the usual way
            self._to_client(answer.rest())
            self._open(self._keep, self._answered)
        elif answer.problem:
            self._fail(answer.problem)
        elif answer.over:
            self._settle()

    def _settle(self) -> None:
        self.stop()
        self._tracker.flow.rolled_back()
        self._owing = Owed(self._owed, self._rollbacks)
        self._client.forward = self._requested
        self._server.forward = self._responded
        self._told("")
        rest, kept = self._answer.rest(), cut(self._kept, len(self._kept))
        if rest:
            self._server.forward(rest)
        if kept:
            self._client.forward(kept)
        self._speed_up(0)

    # Until the client knows.

    def _requested(self, data: bytes) -> None:
        self._safely(self._from_client, data)

    def _responded(self, data: bytes) -> None:
        self._safely(self._from_server, data)

    def _safely(self, call: Callable[[bytes], None], data: bytes) -> None:
        try:
            call(data)
        except Exception as error:  # noqa: BLE001 - a fault of ours is a doubt like any other
            self._fail(f"pgleash met a {type(error).__name__}")

    def _from_client(self, data: bytes) -> None:
        owing = self._owing
        assert owing is not None  # noqa: S101 - made before the client is heard
        self._server.write(owing.frontend(data))
        self._slow_down(owing.held)
        self._look(owing)

    def _from_server(self, data: bytes) -> None:
        owing = self._owing
        assert owing is not None  # noqa: S101 - as above
        self._to_client(owing.backend(data))
        self._server.write(owing.released())
        self._look(owing)
        self._speed_up(owing.held)

    def _look(self, owing: Owed) -> None:
        if owing.doubt:
            self._fail(owing.doubt)
        elif owing.over:
            self._server.write(owing.released())
            self._open(self._requested, self._responded)
        self._finish_if_all_is_said()

    def _open(self, *gate: Callable[[bytes], None]) -> None:
        for leg, ours in zip((self._client, self._server), gate, strict=True):
            if leg.other.transport is not None and leg.forward == ours:  # else the session has been ended
                leg.forward = leg.other.transport.write
        self._server.observe = self.observe
        self._over()
        self._speed_up(0)

    def _to_client(self, data: bytes) -> None:
        if data:
            self._client.write(data)
            self.observe(data, self._loop.time())

    def _fail(self, problem: str) -> None:
        self.stop()
        self._told(problem)

    def give_up(self) -> None:
        """Something else is wrong with the session."""
        self._fail("what is said is not understood any more")

    # Back-pressure: what waits for an answer of the server is not to pile up here.

    def _slow_down(self, held: int) -> None:
        if held > HIGH_WATER:
            self._client.pause_reading()

    def _speed_up(self, held: int) -> None:
        if held <= HIGH_WATER and self._server.waiting() <= HIGH_WATER:
            self._client.resume_reading()
