"""A transaction that pgleash has rolled back while its client was away, and what the server itself says of it."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import psycopg
import pytest

from proxy.demo.postgres import Postgres
from proxy.report.events import LeakRolledBack
from tests.drivers.adapters import Driver, swallow
from tests.harness import Proxy, dsn, until

OURS = "25P03"  # idle_in_transaction_session_timeout
FAILED = "25P02"  # in_failed_sql_transaction
MESSAGE = re.compile(r"transaction rolled back by pgleash after \d+\.\d s idle in (a failed )?transaction")
INSERT = "INSERT INTO rolled_back VALUES (1)"

Hold = Callable[[Driver], object]


def plainly(_driver: Driver) -> None:
    """As the INSERT has left it."""


def under_a_savepoint(driver: Driver) -> None:
    driver.execute("SAVEPOINT here")
    driver.execute(INSERT)


def failed_under_a_savepoint(driver: Driver) -> None:
    """The locks of what was done before the savepoint are still held."""
    driver.execute("SAVEPOINT here")
    swallow(driver, "SELECT 1 / 0")


HOLDS: list[Hold] = [plainly, under_a_savepoint, failed_under_a_savepoint]


class Backend(NamedTuple):
    """What the server says of a backend."""

    state: str
    locks: list[str]
    has_xid: bool
    has_snapshot: bool


RELEASED = Backend("idle in transaction (aborted)", [], has_xid=False, has_snapshot=False)
BACKEND = """
SELECT state, ARRAY(SELECT locktype FROM pg_locks WHERE pid = %(pid)s ORDER BY 1), backend_xid IS NOT NULL,
  backend_xmin IS NOT NULL
FROM pg_stat_activity WHERE pid = %(pid)s
"""


@dataclass(frozen=True)
class Ground:
    """A proxy that rolls back, its server, and a direct connection that tells the truth."""

    proxy: Proxy
    postgres: Postgres
    judge: psycopg.Connection

    @property
    def through(self) -> str:
        """How to connect through the proxy."""
        return dsn(self.proxy, self.postgres)

    @property
    def directly(self) -> str:
        """How to connect without it."""
        return self.postgres.dsn()

    def backend(self, pid: int) -> Backend:
        """What the server says of this backend."""
        row = self.judge.execute(BACKEND, {"pid": pid}).fetchone()
        assert row, "the backend is gone"
        return Backend(*row)

    def rows(self) -> int:
        """How many rows have been committed."""
        row = self.judge.execute("SELECT count(*) FROM rolled_back").fetchone()
        assert row
        return int(row[0])

    def roll_back(self, pid: int) -> None:
        """Have pgleash roll back what this backend's client holds, as at the end of its limit."""
        enforcer = self.proxy.session_of(pid).guard.enforcer
        before = len(self.proxy.recorder.of(LeakRolledBack))
        assert self.proxy.ask(lambda: enforcer.roll_back("a test")) == ""
        self.proxy.recorder.wait(LeakRolledBack, count=before + 1)

    def leak(self, driver: Driver, hold: Hold = plainly) -> int:
        """Write something, hold it, and have it rolled back; the backend's process id."""
        driver.begin()
        driver.execute(INSERT)
        ((pid,),) = driver.execute("SELECT pg_backend_pid()")
        hold(driver)
        driver.wait(lambda: self.roll_back(pid))
        return int(pid)

    def assert_clean(self, driver: Driver, pid: int) -> None:
        """The connection is idle, and its next transaction is one like any other."""
        until(lambda: self.backend(pid).state == "idle", what="the backend is not idle")
        assert self.backend(pid).locks == []
        driver.begin()
        driver.execute(INSERT)
        assert driver.execute("SELECT pg_backend_pid()") == [(pid,)]
        driver.commit()
        assert self.rows() == 1, "only what was done after the rollback is there"


def raises(driver: Driver, work: Callable[[], object]) -> str | None:
    """The SQLSTATE of what this raises; if it is ours, with our text."""
    with pytest.raises(driver.errors) as raised:
        work()
    sqlstate = driver.sqlstate(raised.value)
    assert (sqlstate == OURS) == bool(MESSAGE.search(str(raised.value))), raised.value
    return sqlstate
