"""The mistakes: where each is made, and the line of the log that has to name it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePath


@dataclass(frozen=True, eq=False)
class Mistake:
    """A mistake that people make with a library, and what pgleash has to say of it.

    Attributes:
        name: the mistake in words.
        library: the library with which it is made here.
        program: its file below this directory; the first part is the language.
        fix: what the program does with FIXED=1.
        leak_class: of `leak.flagged`; empty: nothing is open, so nothing is flagged.
        hold: its hold.
        opener, first_write, last: its statements, sanitized.
        leaks: how many there are in the end.
        events: further events that name the mistake.
        options: of the proxy, beyond flag_after.
    """

    name: str
    library: str
    program: str
    fix: str
    leak_class: str = ""
    hold: str = "idle_in_transaction"
    opener: str = ""
    first_write: str = ""
    last: str = ""
    leaks: int = 1
    events: tuple[str, ...] = ()
    options: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.stem

    @property
    def stem(self) -> str:
        """The file's name without its ending."""
        return PurePath(self.program).stem

    @property
    def language(self) -> str:
        """The directory of the program: python, node, go or java."""
        return PurePath(self.program).parts[0]

    @property
    def application_name(self) -> str:
        """What its sessions are called."""
        return f"shop-{self.stem}"


UPDATE = "UPDATE invoices SET status = ? WHERE id = ?"

MISTAKES = (
    Mistake(
        name="pool.connect() without release: an error is thrown in between",
        library="node-postgres",
        program="node/thrown_error.mjs",
        fix="ROLLBACK in catch, release() in finally",
        leak_class="uncommitted_write",
        opener="UPDATE invoices SET status = $1 WHERE id = $2",
        first_write="UPDATE invoices SET status = $1 WHERE id = $2",
        last="UPDATE invoices SET status = $1 WHERE id = $2",
    ),
    Mistake(
        name="a failed statement whose exception is swallowed, and the connection is kept",
        library="psycopg",
        program="python/swallowed_exception.py",
        fix="the statement in a savepoint of its own: with connection.transaction()",
        leak_class="ignored_error",
        hold="idle_in_failed_transaction",
        opener="UPDATE invoices SET status = ? WHERE id = $1",
        first_write="UPDATE invoices SET status = ? WHERE id = $1",
        last="INSERT INTO payments VALUES ($1, $2, ?)",
        events=("client.silent_rollback",),
    ),
)
