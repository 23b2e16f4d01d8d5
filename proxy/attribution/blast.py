"""What a leak does to others: which locks it holds, how many sessions wait for them, and for how long.

Asked over a side connection (proxy/attribution/inquiry.py), by rules that keep it harmless:

1. Who asks has an answer within a second, or None. It is None rather than a guess.
2. One inquiry at a time, a few a second in all: each costs the server a process, and its lock manager a moment. An
   answer is good for a second; who asks for the same backend meanwhile shares it.
3. A database that gave no answer is left alone for a while. Why is told once, and again only if it has worked between.
4. A figure is only given for the transaction that was asked about. Behind a pooler the process id is a made-up number,
   or somebody else's: where user, database or the age of the transaction do not fit, that is told, and nothing else.
"""

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, NamedTuple

from proxy.attribution.lookup import Lookup
from proxy.errors import OperatorError

if TYPE_CHECKING:
    from proxy.attribution.inquiry import Found

PATIENCE: Final = 1.0  # seconds that who asks is kept waiting
DEADLINE: Final = 1.0  # seconds for one inquiry, from its beginning
CANCELLING: Final = 0.2  # seconds more: psycopg then asks the server to cancel, and waits for seconds if it is hung
INTERVAL: Final = 0.25  # seconds between the beginnings of two inquiries
FRESH: Final = 1.0  # seconds that an answer is good for
BACK_OFF: Final = 10.0  # seconds for which a database is left alone
TOLERANCE: Final = 5.0  # seconds: the server counts a transaction's age from when it gets to the first request
# PID_MAX_LIMIT of Linux (include/linux/threads.h), far above other systems'. Poolers make up numbers of 32 bits.
MAX_PID: Final = 4 * 1024 * 1024
MAX_TOLD: Final = 100

_POOLER: Final = (
    "the server of attribution.blast_radius_dsn does not have the sessions that upstream says it has:"
    " upstream seems to be a pooler, or the two to be different servers"
)
_LEFT_OUT: Final = "locks held and sessions blocked are left out"


class Backend(NamedTuple):
    """The backend that leaks, as far as we know it.

    Attributes:
        pid: its process id, as it said itself.
        user: whose session it is.
        database: in which database.
        age_s: seconds since its transaction began.
    """

    pid: int
    user: str
    database: str
    age_s: float


class Blast(NamedTuple):
    """What the leak does to others.

    Attributes:
        locks: what it holds, such as "RowExclusiveLock on public.invoices", the strongest first; at most eleven, the
            last of which may be "and 5 more".
        blocked_sessions: how many wait for it, directly or behind others.
        oldest_wait_s: seconds that the one has waited that has waited longest; None if none does, or it is not known.
            Of Postgres 13: seconds since its statement began.
        xid_age: how many transactions began since it was given its xid; None if it has none.
        xmin_age: how many began since the oldest one that its snapshot may look at; None if it has no snapshot.
    """

    locks: tuple[str, ...]
    blocked_sessions: int
    oldest_wait_s: float | None
    xid_age: int | None
    xmin_age: int | None


def check_dsn(dsn: str) -> None:
    """Check a connection string; imports psycopg, which takes a tenth of a second.

    Raises:
        ValueError: libpq cannot read it; what would be right, without a word of what is in it.
    """
    from proxy.attribution.inquiry import parsed  # noqa: PLC0415 - psycopg is loaded only where it is used

    parsed(dsn)


class BlastRadius:
    """Finds out what leaks do to others.

    Args:
        dsn: how libpq reaches the server of `upstream`, as a role with pg_monitor; its database is not used.
        told: takes why nothing is found out: one line for a person, without a secret.

    Raises:
        ValueError: see `check_dsn`.
    """

    def __init__(self, dsn: str, told: Callable[[str], None]) -> None:
        from proxy.attribution import inquiry  # noqa: PLC0415 - psycopg is loaded only where it is used

        self._ask = inquiry.ask
        self._parts = inquiry.parsed(dsn)
        self._tell = told
        self._told: dict[str, str] = {}  # and by whose failure, a database's
        self._left_alone: dict[str, float] = {}  # databases, and until when
        self._known: dict[int, tuple[float, Blast | None]] = {}  # by pid, and since when
        self._asking: dict[int, asyncio.Task[Blast | None]] = {}
        self._lookup = Lookup()
        self._turn = asyncio.Lock()
        self._free_at = 0.0
        self._misfits = 0
        self._closed = False

    async def of(self, backend: Backend, holds: Callable[[], bool] = lambda: True) -> Blast | None:
        """What this backend does to others, or None where that is not known; within a second. Never raises.

        Args:
            backend: who leaks.
            holds: whether it does so to this moment: else nothing that does not fit is a wonder.
        """
        now = asyncio.get_running_loop().time()
        since, known = self._known.get(backend.pid, (-FRESH, None))
        if now - since < FRESH:
            return known
        task = self._asking.get(backend.pid) or self._begin(backend, holds, now)
        if task is None:
            return None
        await asyncio.wait([task], timeout=PATIENCE)
        return task.result() if task.done() and not task.cancelled() else None

    async def close(self) -> None:
        """Ask no more; what is under way is given up."""
        self._closed = True
        pending = set(self._asking.values())
        while pending:  # more than once: psycopg answers the first cancellation by asking the server to cancel, too
            for task in pending:
                task.cancel()
            _, pending = await asyncio.wait(pending, timeout=CANCELLING)

    def _begin(self, backend: Backend, holds: Callable[[], bool], now: float) -> asyncio.Task[Blast | None] | None:
        """Ask when there is a free place within the second."""
        if self._closed or self._is_left_alone(backend.database, now):
            return None
        if not 0 < backend.pid <= MAX_PID:
            self._fail(backend.database, _POOLER, now)
            return None
        start = max(now, self._free_at)
        if start - now >= PATIENCE:
            return None
        self._free_at = start + INTERVAL
        task = asyncio.create_task(self._inquire(backend, holds, now, start))
        self._asking[backend.pid] = task
        task.add_done_callback(lambda _: self._asking.pop(backend.pid))
        return task

    async def _inquire(self, backend: Backend, holds: Callable[[], bool], asked: float, start: float) -> Blast | None:
        clock = asyncio.get_running_loop().time
        await asyncio.sleep(start - asked)
        async with self._turn:
            if clock() - asked >= PATIENCE or self._is_left_alone(backend.database, clock()):
                return None  # nobody waits for it any more, or it would fail
            try:
                found = await self._answer(backend)
            except OperatorError as error:
                self._fail(backend.database, str(error), clock())
                return None
            now = clock()
            blast = self._judged(found, backend, now - asked, now) if holds() else None
        self._known = {pid: known for pid, known in self._known.items() if now - known[0] < FRESH}
        self._known[backend.pid] = (now, blast)
        return blast

    async def _answer(self, backend: Backend) -> "Found":
        try:
            async with asyncio.timeout(DEADLINE + CANCELLING), asyncio.timeout(DEADLINE):
                parts = await self._lookup.resolved(self._parts)
                return await self._ask(parts, backend.pid, backend.user, backend.database)
        except TimeoutError:
            raise OperatorError(f"the side connection had no answer within {DEADLINE:g} s") from None
        except OperatorError as error:
            raise OperatorError(f"the side connection failed: {error}") from None
        except Exception as error:
            raise OperatorError(f"the side connection failed: {type(error).__name__}") from error

    def _judged(self, found: "Found", backend: Backend, waited: float, now: float) -> Blast | None:
        """What was found, if it is of the transaction that was asked about."""
        if found.is_session and not found.is_visible:
            lacking = f"{found.role} may not see what other users' sessions do: grant it pg_monitor"
            self._fail(backend.database, lacking, now)
            return None
        if not found.is_session or found.age_s is None or abs(found.age_s - backend.age_s - waited) > TOLERANCE:
            self._misfits += 1
            # A client may have gone on just now; twice in a row is no accident, nor is a process of somebody else's.
            if self._misfits > 1 or found.is_session is False:
                self._fail(backend.database, _POOLER, now)
            return None
        self._misfits = 0
        self._told = {reason: database for reason, database in self._told.items() if database != backend.database}
        more = found.held - len(found.locks)
        locks = (*found.locks, f"and {more} more") if more else tuple(found.locks)
        return Blast(locks, found.blocked_sessions, found.oldest_wait_s, found.xid_age, found.xmin_age)

    def _is_left_alone(self, database: str, now: float) -> bool:
        return now < self._left_alone.get(database, now)

    def _fail(self, database: str, reason: str, now: float) -> None:
        """Leave the database alone for a while, and tell why unless it is known."""
        self._left_alone = {name: until for name, until in self._left_alone.items() if now < until}
        self._left_alone[database] = now + BACK_OFF
        if reason in self._told:
            return
        if len(self._told) >= MAX_TOLD:
            self._told.clear()
        self._told[reason] = database
        self._tell(f"{reason}; {_LEFT_OUT}")
