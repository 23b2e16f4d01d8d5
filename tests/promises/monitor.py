"""Looks at pg_stat_activity all the while, past the proxy: who is idle in a transaction, and for how long."""

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Self

import psycopg

from tests.promises.ledger import Broken

EVERY: Final = 0.02  # seconds
# A transaction that failed keeps its outer locks under a savepoint; without one it holds nothing.
# now() was before the states were read, so that nobody was idle for less than this. What SERIALIZABLE transactions have
# read is remembered beyond their end, and keeps nobody waiting.
IDLE: Final = """
SELECT pid, application_name, state, extract(epoch FROM now() - state_change)::float8 AS idle,
  state_change, query,
  CASE WHEN state <> 'idle in transaction' THEN
    (SELECT string_agg(concat_ws(' ', locktype, relation::regclass, mode), ', ') FROM pg_locks AS held
     WHERE held.pid = activity.pid AND mode <> 'SIReadLock') END AS locks
FROM pg_stat_activity AS activity
WHERE state LIKE 'idle in transaction%' AND now() - state_change > interval '0.03 s'"""


class Monitor:
    """A thread that looks.

    Args:
        dsn: the server's.
        through: the same through the proxy.
        limit: for how long this application may be idle in a transaction, in seconds.

    Attributes:
        broken: who was for longer.
        longest: the longest that each application was, in seconds.
        looks: how often it has looked.
        late: the longest that a query of its own took through the proxy, in seconds.
    """

    def __init__(self, dsn: str, through: str, limit: Callable[[str], float]) -> None:
        self._dsn = dsn
        self._through = through
        self._limit = limit
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="monitor")
        self._suspects: set[tuple[Any, ...]] = set()
        self.broken: list[Broken] = []
        self.longest: dict[str, float] = {}
        self._late_before = 0.0
        self.looks = 0
        self.late = 0.0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        with (
            psycopg.connect(self._dsn, autocommit=True) as connection,
            psycopg.connect(self._through, autocommit=True) as through,
        ):
            while not self._stop.wait(EVERY):
                began = time.monotonic()
                through.execute("SELECT 1")
                self._look(connection, time.monotonic() - began)

    def _look(self, connection: psycopg.Connection, late: float) -> None:
        self.looks += 1
        self.late = max(self.late, late)
        suspects = set()
        for pid, name, state, idle, since, query, locks in connection.execute(IDLE):
            failed = state != "idle in transaction"
            if failed and not locks:
                continue
            self.longest[name] = max(self.longest.get(name, 0.0), idle)
            if idle > self._limit(name) + late + self._late_before and not has_to_run(pid):
                suspects.add((pid, since))
                # What has failed is looked at twice: its locks are not read at the same moment as its state.
                if not failed or (pid, since) in self._suspects:
                    proof = f"{idle:.3f} s, {name}, {pid}, {query}: {locks}"
                    self.broken.append(Broken(f"{state} for too long", proof))
        self._suspects = suspects
        self._late_before = late


def has_to_run(pid: int) -> bool:
    """Whether a backend has been told something and the machine does not let it run; only Linux says so."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(") ")[2].startswith("R")
