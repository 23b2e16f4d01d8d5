"""The end of a session: both sockets are closed within a bounded time, whoever began it.

What ends a session, and what is done then:
- the client ends (Terminate, end of stream, reset): the server's side is ended as the client's was; a statement that
  still runs is cancelled, so that the backend does not work for nobody;
- the server ends: everything it has sent is delivered, then the client sees the end of the stream, nothing else;
- pgleash ends it: last words to the client, where a message of ours may stand, and the backend is released at once.
"""

import asyncio
import enum
from collections.abc import Callable
from typing import Final, Protocol

from proxy.leash.guard import Guard
from proxy.relay import Leg
from proxy.sockets import is_broken
from proxy.wire import replies
from proxy.wire.phase import Phase
from proxy.wire.tracker import Tracker

# Seconds. A client that ends is given until GRACE to have its statement answered, its backend is gone by END_WITHIN.
GRACE: Final = 0.5
END_WITHIN: Final = 1.5
LINGER: Final = 3.0  # after our last byte to a client, for what it may still send
UNREAD_LINGER: Final = 60.0  # for a client that has not read what the server sent before it went


class Stage(enum.Enum):
    """Where a session is in its life."""

    CONNECTING = "connecting"
    RELAYING = "relaying"
    ENDING = "ending"
    OVER = "over"


class Ended(Protocol):
    """What an ending asks of its session."""

    def cancel_statement(self) -> None:
        """Ask the server to stop what the backend is doing."""

    def finish_server(self) -> None:
        """End our stream to the server behind everything that the client has said."""

    def over(self) -> None:
        """Both sockets are closed."""


class Ending:
    """Sees to it that a session ends.

    Args:
        legs: the client's side and the server's.
        tracker: what is known of it.
        guard: is told when there is nothing left to judge.
        session: the session.
        cancel_abandoned: whether to cancel a statement whose client is gone.

    Attributes:
        stage: where the session is; moved to RELAYING by the session, from there on by its ending.
    """

    def __init__(
        self, legs: tuple[Leg, Leg], tracker: Tracker, guard: Guard, session: Ended, *, cancel_abandoned: bool
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._client, self._server = legs
        self._tracker = tracker
        self._guard = guard
        self._session = session
        self._cancel_abandoned = cancel_abandoned
        self._timers: list[asyncio.TimerHandle] = []
        self._watching_client = False
        self.stage = Stage.CONNECTING

    # The client ends.

    def client_ended(self, error: Exception | None) -> None:
        """The client has sent its last byte, or its socket is closed."""
        if self.stage is Stage.CONNECTING:
            self.stage = Stage.ENDING
            self._client.abort()
        elif self.stage is Stage.RELAYING:
            how = "eof" if error is None else "timeout" if isinstance(error, TimeoutError) else "reset"
            self._release_server(how)
            self._session.finish_server()
        if self.stage is Stage.ENDING and self._client.closed:
            self._server.discard()
        self._check_over()

    def client_said_goodbye(self) -> None:
        """The client has sent Terminate."""
        if self.stage is Stage.RELAYING:
            self._release_server("terminate")

    def _release_server(self, how: str) -> None:
        """Nobody waits for this backend any more: let it finish what it can in no time, and then cut it off."""
        running, authenticating = self._statement_runs(), self._tracker.flow.phase is Phase.STARTUP
        self.stage = Stage.ENDING
        self._guard.client_gone(how, self._loop.time())
        if authenticating and self._cancel_abandoned:  # what came behind the startup packet may run yet
            self._server.observe = self._tracker.backend  # the key for a cancel is still to come
            self.after(GRACE, self._cancel_if_running)
        if running and self._cancel_abandoned:
            self.after(0.0 if self._client.closed else GRACE, self._session.cancel_statement)
        self.after(END_WITHIN, self._abort)

    def _cancel_if_running(self) -> None:
        if self._statement_runs():
            self._session.cancel_statement()

    def _statement_runs(self) -> bool:
        tracker = self._tracker
        return (
            tracker.opaque is None
            and not tracker.flow.due.quiet
            and tracker.flow.phase not in {Phase.STARTUP, Phase.ENDED}
        )

    def watch_client(self) -> None:
        """The server does not take what the client sends, so the client is not read from: look whether it is there."""
        if self.stage is not Stage.RELAYING or not self._server.waiting() or self._client.transport is None:
            return
        if is_broken(self._client.transport):
            self._release_server("reset")
            self._client.abort()
        elif not self._watching_client:
            self._watching_client = True
            self.after(GRACE, self._watch_client_again)

    def _watch_client_again(self) -> None:
        self._watching_client = False
        self.watch_client()

    # The server ends.

    def server_ended(self, error: Exception | None) -> None:
        """The server has sent its last byte, or its socket is closed."""
        del error  # whatever it was, the client sees what it would have seen without us: the end of the stream
        if self.stage is Stage.CONNECTING:
            return
        if self.stage is Stage.RELAYING:
            self.stage = Stage.ENDING
            self._guard.server_gone(self._loop.time())
            self._linger(self._loop.time() + UNREAD_LINGER)
        elif self.stage is Stage.ENDING and not self._client.closed:
            self._client.finish()
        self._server.close()
        self._check_over()

    def _linger(self, patience: float) -> None:
        """End the client's stream behind all that it is still to read, and go on reading for a while."""
        self._client.discard()
        self._client.finish()
        self.after(LINGER, lambda: self._stop_lingering(patience))

    def _stop_lingering(self, patience: float) -> None:
        if self._client.waiting() and self._loop.time() < patience:
            self.after(LINGER, lambda: self._stop_lingering(patience))
        else:
            self._abort()

    # We end it.

    def terminate(self, words: bytes) -> None:
        """End the session; the client gets these last words if a message of ours may stand there."""
        flow = self._tracker.flow
        quiet, running = flow.due.quiet, self._statement_runs() and self._tracker.hold() is None
        self.stage = Stage.ENDING
        self._guard.server_gone(self._loop.time())
        if quiet and self._tracker.frontend_at_boundary:
            self._server.write(replies.terminate())
        if running and not self._client.waiting():  # a backend blocked in writing ignores a cancel; closing works
            self._session.cancel_statement()
        self._server.discard()
        self._server.close()
        self.end_client(words)

    def end_client(self, words: bytes) -> None:
        """Give the client these last words and end its stream, or just close where they would be torn."""
        self.stage = Stage.ENDING
        if self._client.waiting() or not (self._server.received == 0 or self._tracker.backend_at_boundary):
            self._abort()
            return
        if self._tracker.flow.phase is not Phase.ENDED:  # the server has said the last words
            self._client.write(words)
        self._linger(self._loop.time())

    def drain(self, words: bytes) -> bool:
        """End the session if it has nothing open; returns whether all has been said."""
        tracker = self._tracker
        idle = tracker.opaque is None and tracker.flow.phase is Phase.READY and not tracker.in_transaction
        if self.stage is Stage.RELAYING and idle and tracker.flow.due.quiet:
            self.terminate(words)
        return self.stage in {Stage.ENDING, Stage.OVER} and not self._client.waiting()

    def cut(self, words: bytes) -> bool:
        """End the session whatever it is doing; returns whether it had a transaction open."""
        if self.stage not in {Stage.CONNECTING, Stage.RELAYING}:
            return False
        busy = self._tracker.in_transaction
        self.terminate(words)
        return busy

    def abort(self) -> None:
        """Close both sockets now."""
        self.stage = Stage.ENDING
        self._abort()

    # Over.

    def _abort(self) -> None:
        self._client.abort()
        self._server.abort()

    def after(self, delay: float, call: Callable[[], None]) -> None:
        """Call something unless the session is over by then."""
        self._timers.append(self._loop.call_later(delay, call))

    def _check_over(self) -> None:
        if self.stage is Stage.OVER or not (self._client.closed and self._server.closed):
            return
        self.stage = Stage.OVER
        for timer in self._timers:
            timer.cancel()
        self._session.over()
