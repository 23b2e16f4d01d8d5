"""The text of what the client asks for: kept, bounded, never parsed.

A Query carries its text; an Execute names a portal, which a Bind made from a statement, which a Parse named. So the
text behind each is remembered. What is remembered is the beginning of the text, enough to recognize a statement, and of
a longer one its last bytes, where tools put comments.
A Parse that fails is taken for one that did not: only a second Parse of a name that is still in use would show.
Everything here is raw and may hold literals: it is sanitized before anybody sees it (proxy/attribution/statements.py).
"""

from collections import deque
from typing import Final

from proxy.wire.exits import Exit, exit_of
from proxy.wire.scanner import TAIL_BYTES

STATEMENT_BYTES: Final = 2048  # of each text; most statements are shorter, and a log line should be
NAMES_BYTES: Final = 256  # of a Bind, for its two names
NAME_BYTES: Final = 63  # of a statement's name: as many as the server tells apart (NAMEDATALEN)
PREPARED_BYTES: Final = 65_536  # of all named statements of a session together; the oldest go first
ENTRY_BYTES: Final = 100  # of an entry, besides its name and text
MAX_PORTALS: Final = 64  # named portals of one transaction
MAX_FORGOTTEN: Final = 1000  # names of commits, and of rollbacks, whose text was forgotten
MAX_PENDING: Final = 256  # texts of a pipeline; of what is behind them only the number is known

UNKNOWN: Final = b""


class Statements:
    """The texts of one session: prepared, bound, and sent but not answered yet.

    Attributes:
        parsed: the text of the last Parse.
    """

    __slots__ = (
        "_commits", "_pending", "_portals", "_prepared", "_prepared_bytes", "_rollbacks", "_uncounted",
        "_unnamed_portal", "parsed",
    )  # fmt: skip

    def __init__(self) -> None:
        self._prepared: dict[bytes, bytes] = {}
        self._prepared_bytes = 0
        self._commits: set[bytes] = set()  # names that have once stood for a commit: the server may have kept it
        self._rollbacks: set[bytes] = set()  # names of statements that roll back, and whose text was forgotten
        self._portals: dict[bytes, bytes] = {}
        self._unnamed_portal = UNKNOWN
        self._pending: deque[bytes] = deque()
        self._uncounted = 0  # pending statements behind MAX_PENDING
        self.parsed = UNKNOWN

    # What the client sends; `body` is the beginning of the message's body.

    def query(self, body: bytes) -> None:
        """Query: its text."""
        self._send(body.rstrip(b"\0"))

    def function_call(self) -> None:
        """FunctionCall: it has no text."""
        self._send(UNKNOWN)

    def parse(self, body: bytes) -> None:
        """Parse: the statement's name, its text, and types that do not matter here."""
        name, _, rest = body.partition(b"\0")
        text = rest.partition(b"\0")[0]
        if len(text) > STATEMENT_BYTES:
            text = text[:STATEMENT_BYTES] + text[max(STATEMENT_BYTES, len(text) - TAIL_BYTES) :]
        self.parsed = text
        name = name[:NAME_BYTES]
        self._forget(name)
        self._prepared[name] = text
        self._prepared_bytes += ENTRY_BYTES + len(name) + len(text)
        while self._prepared_bytes > PREPARED_BYTES:
            oldest = next(iter(self._prepared))
            if _exit_of(self._prepared[oldest]) is Exit.ROLLBACK and len(self._rollbacks) < MAX_FORGOTTEN:
                self._rollbacks.add(oldest)
            self._forget(oldest)

    def _forget(self, name: bytes) -> None:
        """Forget a text. Whatever the reason is, the server may have kept the statement."""
        text = self._prepared.pop(name, None)
        if text is None:
            return
        self._prepared_bytes -= ENTRY_BYTES + len(name) + len(text)
        if name and len(self._commits) <= MAX_FORGOTTEN and _exit_of(text) in {Exit.COMMIT, Exit.UNKNOWN}:
            self._commits.add(name)

    def rollbacks(self) -> set[bytes]:
        """The names of prepared statements that roll back for certain.

        A Parse that was refused, or read over behind an error, has left what was there before: so a name that has ever
        stood for a commit is not one of them, and neither is the unnamed statement, which stands for anything.
        """
        if len(self._commits) > MAX_FORGOTTEN:
            return set()
        found = {name for name, text in self._prepared.items() if _exit_of(text) is Exit.ROLLBACK}
        return (found | self._rollbacks - self._prepared.keys()) - self._commits - {b""}

    def bind(self, body: bytes) -> None:
        """Bind: the portal's name, the statement's name, and parameters that are not looked at."""
        portal, _, rest = body.partition(b"\0")
        text = self._prepared.get(rest.partition(b"\0")[0][:NAME_BYTES], UNKNOWN)
        if not portal:
            self._unnamed_portal = text
        elif len(self._portals) < MAX_PORTALS:
            self._portals[portal] = text

    def execute(self, body: bytes) -> None:
        """Execute: the portal's name."""
        portal = body.partition(b"\0")[0]
        self._send(self._portals.get(portal, UNKNOWN) if portal else self._unnamed_portal)

    def close(self, body: bytes) -> None:
        """Close: `S` and a statement's name, or `P` and a portal's."""
        name = body[1:].partition(b"\0")[0]
        if body[:1] == b"S":
            self._forget(name[:NAME_BYTES])
        else:
            self._portals.pop(name, None)

    def _send(self, text: bytes) -> None:
        if self._uncounted or len(self._pending) >= MAX_PENDING:
            self._uncounted += 1
        else:
            self._pending.append(text)

    # What the server answers.

    @property
    def running(self) -> bytes:
        """The text of the first statement that has not been answered."""
        return self._pending[0] if self._pending else UNKNOWN

    @property
    def pending(self) -> int:
        """How many statements have not been answered."""
        return len(self._pending) + self._uncounted

    def answered(self) -> bytes:
        """The first statement has been answered, or never will be; returns its text."""
        if self._pending:
            return self._pending.popleft()
        if self._uncounted:
            self._uncounted -= 1
        return UNKNOWN

    def forget_portals(self) -> None:
        """A transaction has ended, and its portals with it."""
        if self._portals:
            self._portals.clear()


def beginning(text: bytes) -> bytes:
    """The beginning of a text that is kept here: all of it, or its first STATEMENT_BYTES."""
    return text[:STATEMENT_BYTES]


def end(text: bytes) -> bytes:
    """The last bytes of a text that is longer than that; they do not follow on its beginning."""
    return text[STATEMENT_BYTES:]


def _exit_of(text: bytes) -> Exit:
    return exit_of(beginning(text), cut=len(text) >= STATEMENT_BYTES)
