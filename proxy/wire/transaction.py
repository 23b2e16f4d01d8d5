"""What one transaction did: its statements, its times and how it ended, as the server's CommandComplete tags tell.

Whether a transaction is open is not decided here but by ReadyForQuery (proxy/wire/flow.py). Tags say what that byte
cannot: that COMMIT AND CHAIN, or `COMMIT; BEGIN` in one Query, went from a transaction to another one.
"""

import re
from collections.abc import Callable
from typing import Final

from proxy.wire.statements import UNKNOWN

# The tag's first word ("SQL Commands"; the tags are listed in the server's source, tcop/cmdtaglist.h).
CONTROL: Final = frozenset({b"BEGIN", b"START", b"SET", b"RESET", b"SAVEPOINT", b"RELEASE", b"COMMIT", b"ROLLBACK"})
READING: Final = CONTROL | {
    b"SELECT", b"FETCH", b"MOVE", b"SHOW", b"EXPLAIN", b"DECLARE", b"CLOSE", b"PREPARE", b"DEALLOCATE", b"EXECUTE",
    b"LISTEN", b"UNLISTEN", b"NOTIFY", b"DISCARD", b"LOCK", b"LOAD", b"CHECKPOINT", b"CALL", b"DO", b"COPY",
}  # fmt: skip  # one word beside the other; CALL and DO may write, but nothing says so; COPY writes when it reads
LISTENING: Final = frozenset({b"LISTEN", b"UNLISTEN", b"DISCARD"})
COPY_IN: Final = b"COPY FROM STDIN"  # stands for the tag of a COPY that took data from the client

COMMIT: Final = "commit"
ROLLBACK: Final = "rollback"

# ROLLBACK and ROLLBACK TO SAVEPOINT have the same tag, and only the first ends the transaction.
_to_savepoint: Final = re.compile(rb"\bROLLBACK\s+(?:WORK\s+|TRANSACTION\s+)?TO\b", re.IGNORECASE).search
# Nor do COMMIT and COMMIT AND CHAIN differ; ReadyForQuery will tell, but in a series without Sync it does not come.
_chains: Final = re.compile(rb"\bAND\s+CHAIN\b", re.IGNORECASE).search


def _ignore(_transaction: "Transaction", _now: float) -> None:
    """Nobody wants to know."""


class Transaction:
    """The transaction that a session has open, or had last.

    Attributes:
        number: tells transactions of a session apart.
        started: when the first request of it was forwarded, seconds of the caller's clock.
        statements: how many statements the server has answered in it.
        first: the first statement, mostly BEGIN; raw.
        opener: the first statement that is more than transaction control, else the first; raw.
        opened_by_control: whether the opener is only that, so that the next statement takes its place.
        first_write: the first one whose tag is that of a write; raw.
        last: the last one that was answered; raw.
        is_block: whether a BEGIN has been answered in it.
        failed: whether a statement, or the commit of a Sync, has failed in it.
        idle: seconds in which it waited for the client between two requests, without the current wait.
        longest: the longest of these waits, seconds.
        idle_after, idle_before: the statements around that one; raw.
        listens: whether the session waits for notifications, also when the transaction is over.
        outcome: "commit", "rollback", or None while nothing has ended it.
        block_over: called with this when it was a block and has ended, and with the time.
        followed: the number of a transaction whose outcome is to be remembered; 0 for none.
        followed_outcome, followed_last: how that one ended, and with which statement, once another has begun.
    """

    __slots__ = (
        "_last_tag", "_waited", "block_over", "failed", "first", "first_write", "followed", "followed_last",
        "followed_outcome", "idle", "idle_after", "idle_before", "is_block", "last", "listens", "longest",
        "number", "opened_by_control", "opener", "outcome", "started", "statements",
    )  # fmt: skip

    def __init__(self) -> None:
        self.number = 0
        self.listens = False
        self.outcome: str | None = None
        self.block_over: Callable[[Transaction, float], None] = _ignore
        self.followed = 0
        self.followed_outcome: str | None = None
        self.last = self.followed_last = UNKNOWN
        self.begin(0.0)

    def begin(self, now: float) -> None:
        """A request was sent outside of any transaction: whatever it does is a new one."""
        if self.number == self.followed:
            self.followed_outcome, self.followed_last = self.outcome, self.last
        self.number += 1
        self.started = now
        self.statements = 0
        self.first = self.opener = self.first_write = self.last = self._last_tag = UNKNOWN
        self.idle_after = self.idle_before = UNKNOWN
        self.failed = self.is_block = self._waited = False
        self.opened_by_control = True
        self.idle = self.longest = 0.0
        self.outcome = None

    def chain(self, now: float) -> None:
        """The statement that ended the transaction has begun another one."""
        chaining = self.last
        self.another(now)
        self.first = self.opener = self.last = chaining
        self.is_block = True

    def another(self, now: float) -> None:
        """Another one begins before ReadyForQuery could tell of this one's end."""
        if self.is_block:
            self.block_over(self, now)
        self.begin(now)

    @property
    def in_failure(self) -> bool:
        """Whether a statement of it has failed, and nothing has ended it."""
        return self.failed and self.outcome is None

    def waited(self, length: float, after: bytes) -> None:
        """It has waited for the client, for so many seconds behind this statement, and something has come."""
        self.idle += length
        if length > self.longest:
            self.longest = length
            self.idle_after, self.idle_before = after, UNKNOWN
            self._waited = True

    def completed(self, statement: bytes, tag: bytes, now: float) -> None:
        """CommandComplete came for `statement`, with `tag`."""
        if self.outcome is not None:
            self.another(now)
        self._last_tag = tag
        word = tag.partition(b" ")[0]
        self._count(statement, control=word in CONTROL)
        if not self.first_write and (tag == COPY_IN or word not in READING):
            self.first_write = statement
        if word in {b"BEGIN", b"START"}:
            self.is_block = True
        elif tag in {b"COMMIT", b"PREPARE TRANSACTION"}:
            self.outcome = COMMIT
        elif tag == b"ROLLBACK" and not _to_savepoint(statement):
            self.outcome = ROLLBACK
        elif word in LISTENING:
            self.listens = word == b"LISTEN"
        if self.outcome is not None and _chains(statement):
            self.chain(now)

    def answered(self, statement: bytes) -> None:
        """A statement was answered without a tag: it was empty, its portal is suspended, or it failed."""
        self._count(statement, control=False)

    def fail(self) -> None:
        """ErrorResponse came."""
        self.failed = True

    def end(self, now: float) -> None:
        """The server has no transaction open any more; what no tag has told is told by whether a statement failed."""
        if self.outcome is None:
            self.outcome = ROLLBACK if self.failed or self._last_tag == b"ROLLBACK" else COMMIT
        if self.is_block:
            self.block_over(self, now)
            self.is_block = False

    def abort(self) -> None:
        """The server has ended the session."""
        self.outcome = self.outcome or ROLLBACK

    def _count(self, statement: bytes, *, control: bool) -> None:
        self.statements += 1
        self.last = statement
        if self._waited:
            self._waited = False
            self.idle_before = statement
        if self.opened_by_control:
            if not self.first:
                self.first = statement
            self.opener = statement
            self.opened_by_control = control
