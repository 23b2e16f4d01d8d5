"""What the server still owes to the client, in order (documentation: "Message Flow", "Pipelining").

Each Query, FunctionCall and Sync is answered by one ReadyForQuery; each Parse, Bind, Describe, Close and Execute by one
final reply of its own. Counting them is not enough, their order matters:

1. A *run* is a Query or a Sync together with the replies that are due before it: those of the extended messages sent
   in front of it. Equal runs behind the first are kept once with a number, so a pipeline of thousands stays small.
2. After an error in an extended series the server throws away everything up to the next Sync, Query and FunctionCall
   too. An error in a Query, or in the commit that a Sync does, discards nothing.
3. While COPY FROM STDIN runs, Sync and Flush are ignored. So a Sync sent behind an Execute that turns out to start a
   COPY owes nothing if it was read in copy mode, and one ReadyForQuery if the COPY failed before it was read. When the
   COPY fails nobody can know: these are kept apart in `maybe`, and `certain` is false until a reply comes that only a
   later request can have caused.
"""

from collections import deque
from typing import Final

# Unequal runs in flight; each took bytes that the server has not read: nobody honest gets here.
MAX_RUNS: Final = 10_000


class Run:
    """One ReadyForQuery that is due, and the replies due before it."""

    __slots__ = ("executes", "is_query", "opens", "replies", "times")

    def __init__(self, replies: int, executes: int, *, is_query: bool, opens: bool) -> None:
        self.replies = replies  # final replies of extended messages
        self.executes = executes  # how many of those answer an Execute
        self.is_query = is_query  # Query or FunctionCall; else Sync
        self.opens = opens  # it makes the server open a transaction; a Sync behind nothing, or behind a Close, does not
        self.times = 1

    def once(self) -> "Run":
        """One of them, to be answered by itself."""
        self.times -= 1
        return Run(self.replies, self.executes, is_query=self.is_query, opens=self.opens)


class Outstanding:
    """The order of what is due in one session.

    Attributes:
        series: extended messages were sent since the last Sync.
        series_opens: one of them makes the server open a transaction (all do but Close).
        series_executes: one of them was an Execute.
        discarding: the series failed, the server ignores everything until a Sync.
        copy_syncs: Syncs sent since the COPY that is running was.
        maybe: ReadyForQuery messages that may come, or not, before anything else (rule 3).
        confused: a reply came that nothing asked for; from there on nothing here is true.
    """

    __slots__ = (
        "_open_executes",
        "_open_replies",
        "_runs",
        "confused",
        "copy_syncs",
        "discarding",
        "maybe",
        "series",
        "series_executes",
        "series_opens",
    )

    def __init__(self) -> None:
        self._runs: deque[Run] = deque()
        self._open_replies = 0
        self._open_executes = 0
        self.copy_syncs = 0
        self.series = False
        self.series_opens = False
        self.series_executes = False
        self.discarding = False
        self.maybe = 0
        self.confused = False

    @property
    def quiet(self) -> bool:
        """Nothing is due, and no series is open: the server waits for a new request."""
        return not self._runs and not self.series

    @property
    def busy(self) -> bool:
        """Something is due: it is the server's turn, as far as is known."""
        return bool(self._runs) or self._open_replies > 0

    @property
    def opening(self) -> bool:
        """A request is under way: what is sent now begins no transaction before that one's ReadyForQuery."""
        return self.series_opens or bool(self._runs)

    @property
    def opens(self) -> bool:
        """Something that is due, or a series that has not failed, makes the server open a transaction."""
        return (self.series_opens and not self.discarding) or any(run.opens for run in self._runs)

    @property
    def stalled(self) -> bool:
        """A series is open and all its replies have come: the server waits for the rest of it."""
        return self.series and not self._runs and not self._open_replies

    @property
    def certain(self) -> bool:
        """Whether the number of ReadyForQuery messages to come is known."""
        return not self.maybe

    @property
    def in_query(self) -> bool:
        """Whether the next reply belongs to a Query or FunctionCall, not to an extended message."""
        return bool(self._runs) and self._runs[0].is_query and not self._runs[0].replies

    # What the client sends.

    def extended(self, *, opens: bool = True, executes: int = 0) -> None:
        """Parse, Bind, Describe, Close or Execute was sent."""
        self.series = True
        if self.discarding:
            return
        self._open_replies += 1
        self._open_executes += executes
        self.series_opens = self.series_opens or opens
        self.series_executes = self.series_executes or executes > 0

    def query(self) -> bool:
        """Query or FunctionCall was sent; false if the server will discard it."""
        if self.discarding:
            self.confused = self.confused or not self.certain
            return False
        self._close(is_query=True)
        return True

    def sync(self) -> None:
        """Sync was sent, outside of a COPY."""
        self._close(is_query=False)

    def copy_sync(self) -> None:
        """Sync was sent while, as far as is known, the server reads COPY data."""
        self.copy_syncs += 1

    def _close(self, *, is_query: bool) -> None:
        runs, replies, executes = self._runs, self._open_replies, self._open_executes
        opens = is_query or (self.series_opens and not self.discarding)
        self._open_replies = self._open_executes = 0
        self.series = self.series_opens = self.series_executes = self.discarding = False
        if len(runs) > 1:  # the first is being answered and stays by itself
            last = runs[-1]
            if (last.is_query, last.opens, last.replies, last.executes) == (is_query, opens, replies, executes):
                last.times += 1
                return
            self.confused = self.confused or len(runs) > MAX_RUNS
        runs.append(Run(replies, executes, is_query=is_query, opens=opens))

    # What the server answers.

    def reply(self, *, executes: int = 0) -> bool:
        """A reply came that ends an extended message; false if it is one of those that a Query may have."""
        self.maybe = 0
        if self.in_query:
            return False
        if self._runs:
            run = self._runs[0]
            run.replies -= 1
            run.executes -= executes
            self.confused = self.confused or run.replies < 0 or run.executes < 0
        else:
            self._open_replies -= 1
            self._open_executes -= executes
            self.confused = self.confused or self._open_replies < 0 or self._open_executes < 0
        return True

    def ready(self) -> bool:
        """ReadyForQuery came; true if it ends a Query or FunctionCall."""
        run = self._runs[0] if self._runs else None
        if self.maybe and (run is None or run.is_query or run.replies):
            self.maybe -= 1
            if run is None and self.discarding:
                self.series = self.series_opens = self.series_executes = self.discarding = False
            return False
        if run is None or run.replies:
            self.confused = True
            return False
        self._next_run()
        return run.is_query

    def _next_run(self) -> None:
        runs = self._runs
        runs.popleft()
        if runs and runs[0].times > 1:
            runs.appendleft(runs[0].once())

    def error(self) -> int:
        """ErrorResponse came; returns how many statements of extended messages and Queries will never be answered."""
        self.maybe, self.copy_syncs = self.copy_syncs, 0
        run = self._runs[0] if self._runs else None
        # Sync inside a COPY of the simple protocol: no driver does it, and the order of the answers is another one.
        self.confused = self.confused or (self.maybe > 0 and self.in_query)
        if (run is None and not self._open_replies) or (run is not None and not run.replies):
            return 0  # the error of a Query, of a Sync's commit, or of nothing that was asked
        dropped = 0
        while self._runs and self._runs[0].is_query:
            query = self._runs.popleft()
            dropped += (query.executes + 1) * query.times
        if self._runs:
            return dropped + self._discard_to_sync()
        dropped += self._open_executes
        self._open_replies = self._open_executes = 0
        self.series = self.series_opens = self.discarding = True
        return dropped

    def _discard_to_sync(self) -> int:
        """Empty the first run, which is a Sync's; the same ones behind it are not touched."""
        if self._runs[0].times > 1:
            self._runs.appendleft(self._runs[0].once())
        sync = self._runs[0]
        dropped = sync.executes
        sync.replies = sync.executes = 0
        return dropped

    # COPY FROM STDIN (rule 3).

    def copy_in(self) -> None:
        """CopyInResponse came: what was sent behind the COPY is read as part of it."""
        self.maybe = self.copy_syncs = 0
        if not self._runs:
            self.confused = self.confused or self._open_replies != 1 or self._open_executes != 1
            return
        copy = self._runs.popleft()
        self.copy_syncs = sum(run.times for run in self._runs)
        bare = not self._open_replies and not any(run.is_query or run.replies for run in self._runs)
        self._runs.clear()
        if copy.is_query:
            self._runs.append(copy)
            self.confused = self.confused or not bare or copy.replies != 0
        else:
            self.copy_syncs += 1
            self._open_replies = self._open_executes = 1
            self.series = self.series_opens = self.series_executes = True
            self.confused = self.confused or not bare or copy.replies != 1 or copy.executes != 1

    def copied(self) -> None:
        """The COPY is complete, so every Sync sent before its CopyDone was read in copy mode."""
        self.copy_syncs = 0
