"""The messages of a session -> its phase, its transaction status, and what the client holds.

Rules:

1. *Status is what the server said.* Only ReadyForQuery's byte tells whether a transaction block is open.
2. *Whose turn is it?* The client's, when nothing is due (proxy/wire/outstanding.py), when a series without Sync has had
   all its replies, or when the server reads COPY data. Else the server's, for as long as it likes.
3. *A hold* is the client's turn while a transaction is open. Its clock starts with the message that made it the
   client's turn; ParameterStatus, notices and notifications do not move it; in a COPY every byte of the client does.
4. In a series without Sync no ReadyForQuery comes; there the tags tell whether a block was begun or ended. A series
   that has failed outside of a block holds nothing: the server has rolled back.
"""

from collections.abc import Callable
from typing import Final

from proxy.wire import messages as m
from proxy.wire.backend import Backend
from proxy.wire.error_response import is_fatal
from proxy.wire.hold import Hold, HoldKind
from proxy.wire.mistake import Mistake, rolled_back_by, warned_of
from proxy.wire.outstanding import Outstanding
from proxy.wire.phase import Phase
from proxy.wire.statements import UNKNOWN, Statements
from proxy.wire.transaction import COPY_IN, Transaction

STATUSES: Final = (m.IDLE, m.IN_TRANSACTION, m.IN_FAILED_TRANSACTION)


def _ignore(_mistake: Mistake, _statement: bytes) -> None:
    """Nobody wants to know."""


class MessageFlow:
    """One session, as the messages of both sides tell it.

    Args:
        goodbye: called when the client has sent Terminate.

    Attributes:
        now: when the messages that are being told were seen; set by the caller, in seconds.
        phase: what the session is in the middle of.
        status: the byte of the last ReadyForQuery.
        transaction: what the open transaction, or the last one, did.
        backend: what the server process has told of itself.
        due: what the server still owes.
        noticed: called with a mistake that shows in what the server says, and with the statement that made it; raw.
        confused: why what came cannot be understood, or None.
    """

    __slots__ = (
        "_early_copy_ends", "_goodbye", "_statements", "_turn_since", "backend", "confused", "due", "noticed",
        "now", "phase", "status", "transaction",
    )  # fmt: skip

    def __init__(self, goodbye: Callable[[], None]) -> None:
        self._goodbye = goodbye
        self.due = Outstanding()
        self.due.query()  # the startup packet, too, is answered by a ReadyForQuery
        self._statements = Statements()
        self._statements.function_call()
        self._early_copy_ends = 0  # CopyDone or CopyFail that the client sent before it saw a CopyInResponse
        self._turn_since = 0.0
        self.now = 0.0
        self.phase = Phase.STARTUP
        self.status: int = m.IDLE
        self.transaction = Transaction()
        self.backend = Backend()
        self.noticed: Callable[[Mistake, bytes], None] = _ignore
        self.confused: str | None = None

    @property
    def in_transaction(self) -> bool:
        """Whether the server has a transaction open: a block, or the one around a running request."""
        if self.phase is Phase.STARTUP or self.phase is Phase.ENDED:
            return False
        if self.due.stalled:
            return self._stalled_in_transaction()
        return self.status != m.IDLE or self.due.opens

    def _stalled_in_transaction(self) -> bool:
        """What ReadyForQuery will say when the series gets its Sync, as the tags that came in it tell."""
        if self.transaction.outcome is not None:
            return False
        if self.status != m.IDLE or self.transaction.is_block:
            return True
        return self.due.series_opens and not self.due.discarding

    @property
    def only_parsed(self) -> bool:
        """Whether all that keeps a transaction open is a series that has executed nothing, like asyncpg's prepare()."""
        return self.status == m.IDLE and self.due.stalled and not self.due.series_executes

    @property
    def opener(self) -> bytes:
        """The raw text that opened the transaction, as far as it is known."""
        running = self._statements.running
        if running and self.transaction.opened_by_control:
            return running
        return self.transaction.opener or self._parsed_text()

    @property
    def running(self) -> bytes:
        """The raw text of the first statement that has not been answered."""
        return self._statements.running

    @property
    def last(self) -> bytes:
        """The raw text of the running statement, else of the last one."""
        return self._statements.running or self.transaction.last or self._parsed_text()

    @property
    def statements(self) -> int:
        """How many statements the transaction has had, with those that are not answered yet."""
        return self.transaction.statements + self._statements.pending

    def hold(self) -> Hold | None:
        """What the client holds, as far as messages tell; unread results show at the socket."""
        if not self.in_transaction:
            return None
        if self.phase is Phase.COPY_IN:
            return Hold(HoldKind.STALLED_COPY, self._turn_since)
        if self.due.stalled:
            return Hold(HoldKind.STALLED_PIPELINE, self._turn_since)
        if not self.due.quiet:
            return None
        if self.status == m.IN_FAILED_TRANSACTION:
            return Hold(HoldKind.IDLE_IN_FAILED_TRANSACTION, self._turn_since)
        return Hold(HoldKind.IDLE_IN_TRANSACTION, self._turn_since)

    @property
    def idle_since(self) -> float | None:
        """Since when the session has been idle outside of a transaction; None if it is not."""
        idle = self.phase is Phase.READY and self.status == m.IDLE and self.due.quiet
        return self._turn_since if idle else None

    def _parsed_text(self) -> bytes:
        """What stands for a statement where none was executed."""
        return UNKNOWN if self.transaction.statements else self._statements.parsed

    def rollbacks(self) -> set[bytes]:
        """The names of prepared statements that roll back for certain."""
        return self._statements.rollbacks()

    def rolled_back(self) -> None:
        """The transaction was rolled back by pgleash, and a failed one is open in its place.

        Whose turn it is and since when stays as it was.
        """
        self.status = m.IN_FAILED_TRANSACTION
        self._statements.forget_portals()
        self.transaction.fail()

    def client_moved(self) -> None:
        """Bytes came from the client: a COPY goes on, even within a message."""
        if self.phase is Phase.COPY_IN:
            self.transaction.waited(self.now - self._turn_since, self._statements.running)
            self._turn_since = self.now

    # The frontend's messages. Flush, CopyData and passwords change nothing.

    def query(self, body: bytes) -> None:
        """Query."""
        self._request()
        if self.due.query():
            self._statements.query(body)

    def function_call(self, _body: bytes) -> None:
        """FunctionCall: answered like a Query."""
        self._request()
        if self.due.query():
            self._statements.function_call()

    def parse(self, body: bytes) -> None:
        """Parse."""
        self._request()
        if not self.due.discarding:
            self._statements.parse(body)
        self.due.extended()

    def bind(self, body: bytes) -> None:
        """Bind."""
        self._request()
        self._statements.bind(body)
        self.due.extended()

    def describe(self, _body: bytes) -> None:
        """Describe."""
        self._request()
        self.due.extended()

    def close(self, body: bytes) -> None:
        """Close: the only extended message that opens no transaction."""
        self._request(opens=False)
        self._statements.close(body)
        self.due.extended(opens=False)

    def execute(self, body: bytes) -> None:
        """Execute."""
        self._request()
        if not self.due.discarding:
            self._statements.execute(body)
        self.due.extended(executes=1)

    def sync(self, _body: bytes) -> None:
        """Sync."""
        if self.phase is Phase.COPY_IN:
            self.due.copy_sync()
        else:
            self._request(opens=False)
            self.due.sync()

    def copy_end(self, _body: bytes) -> None:
        """CopyDone or CopyFail; late ones are discarded by the server, early ones wait for the COPY to begin."""
        if self.phase is Phase.COPY_IN:
            self.phase = Phase.COPY_IN_DONE
        elif self.phase is Phase.READY and not self.due.quiet and not self.due.discarding:
            self._early_copy_ends += 1

    def terminate(self, _body: bytes) -> None:
        """Terminate."""
        self._goodbye()

    def _request(self, *, opens: bool = True) -> None:
        """A request begins; if it was the client's turn, that turn ends, and outside a transaction one may begin."""
        if self.phase is Phase.COPY_IN:  # Postgres 14 ends such a session, 13 discards the request
            self.confused = "a request in the middle of COPY data"
        if opens and self.status == m.IDLE and not self.due.opening:
            self.transaction.begin(self.now)
        elif not self.due.busy:
            self.transaction.waited(self.now - self._turn_since, self.transaction.last)

    # The backend's messages. DataRow, CopyData and notifications change nothing.

    def replied(self, body: bytes) -> None:
        """The answer to a Parse, Bind or Describe; or part of the answer to a Query or FunctionCall."""
        if self.transaction.outcome is not None:  # a COMMIT came before it, in the same series
            self.transaction.another(self.now)
        self.closed(body)

    def closed(self, _body: bytes) -> None:
        """CloseComplete."""
        self.due.reply()
        self._turn_since = self.now

    def command_complete(self, body: bytes) -> None:
        """CommandComplete: of an Execute, or of one of the statements in a Query."""
        tag = body.rstrip(b"\0")
        if self.phase is not Phase.READY:
            tag = self._copy_complete(tag)
        statement = self._executed()
        if tag == b"ROLLBACK" and self.transaction.in_failure and (mistake := rolled_back_by(statement)):
            self.noticed(mistake, statement)
        self.transaction.completed(statement, tag, self.now)

    def executed(self, _body: bytes) -> None:
        """EmptyQueryResponse or PortalSuspended: an answer without a tag."""
        self.transaction.answered(self._executed())

    def _executed(self) -> bytes:
        """The text of the statement that was answered; that of a Query stays until ReadyForQuery."""
        self._turn_since = self.now
        return self._statements.answered() if self.due.reply(executes=1) else self._statements.running

    def _copy_complete(self, tag: bytes) -> bytes:
        tag = tag if self.phase is Phase.COPY_OUT else COPY_IN
        self.phase = Phase.READY
        self.due.copied()
        return tag

    def error(self, body: bytes) -> None:
        """ErrorResponse: of what is due first; a FATAL is the last message of a session."""
        if is_fatal(body):
            self.phase = Phase.ENDED
            self.transaction.abort()
            return
        if self.phase is not Phase.STARTUP:
            self.phase = Phase.READY
        self._turn_since = self.now
        self.transaction.fail()
        dropped = self.due.error()
        if dropped:
            self.transaction.answered(self._statements.answered())
        elif self.due.in_query:
            self.transaction.answered(self._statements.running)
        for _ in range(dropped - 1):
            self._statements.answered()

    def copy_in(self, _body: bytes) -> None:
        """CopyInResponse."""
        self.due.copy_in()
        self._turn_since = self.now
        self.phase = Phase.COPY_IN
        if self._early_copy_ends:
            self._early_copy_ends -= 1
            self.phase = Phase.COPY_IN_DONE
            if self.due.copy_syncs:
                self.confused = "a Sync was sent with the data of a COPY that had not begun"

    def copy_out(self, _body: bytes) -> None:
        """CopyOutResponse."""
        self.phase = Phase.COPY_OUT

    def copy_both(self, _body: bytes) -> None:
        """CopyBothResponse: replication, in a session that did not ask for it."""
        self.confused = "replication in an ordinary session"

    def ready(self, body: bytes) -> None:
        """ReadyForQuery: the only message that says whether a transaction is open."""
        if self.due.ready():
            self._statements.answered()
        self.status = body[0] if body else 0
        if self.status not in STATUSES:
            self.confused = "a transaction status that does not exist"
        self._turn_since = self.now
        self.phase = Phase.READY
        if self.due.quiet:
            self._early_copy_ends = 0
        if self.status == m.IDLE:
            self._statements.forget_portals()
            self.transaction.end(self.now)
            if not self.due.quiet:
                self.transaction.begin(self.now)
        elif self.transaction.outcome is not None:
            self.transaction.chain(self.now)

    def notice(self, body: bytes) -> None:
        """NoticeResponse: a warning may tell of a mistake."""
        if mistake := warned_of(body):
            self.noticed(mistake, self.last)

    def parameter_status(self, body: bytes) -> None:
        """ParameterStatus."""
        self.backend.parameter_status(body)

    def backend_key_data(self, body: bytes) -> None:
        """BackendKeyData."""
        self.backend.key_data(body)
