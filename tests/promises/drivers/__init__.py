"""Ways of talking to Postgres, under one face.

A driver raises Told when the server refused something and the connection lives, Lost when the connection is gone. What
else it raises is a fault: its own, or that of whoever confused it.
"""

import abc
import random
import re
from collections.abc import Sequence
from typing import ClassVar, Final, NamedTuple

OURS: Final = re.compile(r"rolled back by pgleash")
IDLE_IN_TRANSACTION_TIMEOUT: Final = "25P03"
READ_COMMITTED: Final = "read committed"
ISOLATIONS: Final = (READ_COMMITTED, "repeatable read", "serializable")
USER: Final = "postgres"  # trusted by the server

Row = Sequence[int]


class Door(NamedTuple):
    """Where the proxy is, and whether to speak TLS with it."""

    host: str
    port: int
    tls: bool


class Told(Exception):  # noqa: N818 - what a client is told is no fault of ours
    """The server refused something, and the connection lives.

    Attributes:
        sqlstate: its code; "" where the driver drops it.
        ours: whether it was told that pgleash rolled its transaction back.
    """

    def __init__(self, sqlstate: str | None, message: str) -> None:
        super().__init__(f"{sqlstate or ''} {message.splitlines()[0] if message else ''}".strip())
        self.sqlstate = sqlstate or ""
        self.ours = self.sqlstate == IDLE_IN_TRANSACTION_TIMEOUT and bool(OURS.search(message))


class Lost(Told):
    """The connection is gone.

    Attributes:
        terminated: whether the client was told that it held its transaction for too long.
        nothing: whether it cannot have committed anything: it was terminated, or its COMMIT was not sent to the end.
    """

    def __init__(self, sqlstate: str | None, message: str, *, unsent: bool = False) -> None:
        super().__init__(sqlstate, message)
        self.terminated = self.sqlstate == IDLE_IN_TRANSACTION_TIMEOUT
        self.nothing = unsent or self.terminated


class SilentRollback(Exception):  # noqa: N818 - it is what was found
    """A COMMIT was answered by the tag ROLLBACK, and by no error."""


class Driver(abc.ABC):
    """One connection through one driver.

    Args:
        seed: of what the driver decides by itself, if anything.

    Attributes:
        name: which driver, and how it is used; the connection's application_name too.
        together: whether its last write and its COMMIT can be in one flight.
        trailing: whether it can send a statement behind a COMMIT, without waiting for the answer.
        attentive: whether it tells what was said last on a connection that was closed while nothing was asked.
        forgiving: whether it can go on after one of its calls was cancelled.
    """

    name: ClassVar[str]
    together: ClassVar[bool] = False
    trailing: ClassVar[bool] = False
    attentive: ClassVar[bool] = False
    forgiving: ClassVar[bool] = True

    def __init__(self, seed: str) -> None:
        self._random = random.Random(seed)  # noqa: S311 - spellings are no secret

    @abc.abstractmethod
    async def connect(self, door: Door) -> None:
        """Begin a session."""

    @abc.abstractmethod
    async def close(self) -> None:
        """End it as one does."""

    @abc.abstractmethod
    def abort(self) -> None:
        """End it without a word, whatever goes on."""

    @property
    @abc.abstractmethod
    def lost(self) -> bool:
        """Whether the session is over."""

    @property
    @abc.abstractmethod
    def idle(self) -> bool:
        """Whether no transaction is open, as far as the driver knows."""

    @abc.abstractmethod
    async def begin(self, isolation: str) -> None:
        """Open a transaction, now or with the first statement."""

    @abc.abstractmethod
    async def fetch(self, sql: str, *values: int) -> Row:
        """The only row of a query."""

    @abc.abstractmethod
    async def execute(self, sql: str, *values: int) -> None:
        """Run a statement."""

    @abc.abstractmethod
    async def save(self) -> None:
        """Set a savepoint; they nest."""

    @abc.abstractmethod
    async def release(self) -> None:
        """Release the latest savepoint."""

    @abc.abstractmethod
    async def back(self) -> None:
        """Roll back to the latest savepoint, and release it."""

    @abc.abstractmethod
    async def commit(self) -> None:
        """Commit."""

    @abc.abstractmethod
    async def commit_with(self, sql: str, *values: int) -> None:
        """Run a statement and commit, in one flight if `together`."""

    async def commit_before(self, sql: str, *values: int) -> None:
        """Commit, and run a statement outside of the transaction, in one flight; only if `trailing`."""
        raise NotImplementedError(sql, values)

    @abc.abstractmethod
    async def rollback(self) -> None:
        """Roll back; of a transaction that failed, too."""

    @abc.abstractmethod
    async def cancel(self) -> None:
        """Ask the server to cancel what runs; does nothing where the driver cannot."""


def inline(sql: str, values: Sequence[int]) -> str:
    """The statement without parameters: for Query."""
    return re.sub(r"\$(\d+)", lambda found: str(values[int(found[1]) - 1]), sql)
