"""Every driver: what was held is let go of, COMMIT raises, ROLLBACK is silent, the connection goes on."""

from collections.abc import Callable
from functools import partial

import pytest

from tests.drivers.adapters import DOUBLE, Driver, swallow
from tests.drivers.support import (
    FAILED,
    HOLDS,
    INSERT,
    OURS,
    RELEASED,
    Ground,
    Hold,
    failed_under_a_savepoint,
    plainly,
    raises,
    under_a_savepoint,
)

every_hold = pytest.mark.parametrize("hold", HOLDS, ids=lambda hold: hold.__name__)


@every_hold
def test_nothing_is_held_any_more(ground: Ground, driver: Driver, hold: Hold) -> None:
    pid = ground.leak(driver, hold)

    assert ground.backend(pid) == RELEASED
    with ground.judge.transaction():
        ground.judge.execute("LOCK TABLE rolled_back NOWAIT")
    driver.rollback()
    ground.assert_clean(driver, pid)


@pytest.mark.parametrize("hold", [plainly, failed_under_a_savepoint], ids=lambda hold: hold.__name__)
def test_the_next_statement_raises(ground: Ground, driver: Driver, hold: Hold) -> None:
    pid = ground.leak(driver, hold)

    assert raises(driver, lambda: driver.execute("SELECT 1")) == OURS
    assert raises(driver, lambda: driver.execute("SELECT 1")) == FAILED
    driver.rollback()
    ground.assert_clean(driver, pid)


@every_hold
def test_commit_raises(ground: Ground, driver: Driver, hold: Hold) -> None:
    pid = ground.leak(driver, hold)

    assert raises(driver, driver.commit) == OURS
    ground.assert_clean(driver, pid)


@pytest.mark.parametrize("times", [1, 3])
def test_commit_raises_after_an_error_that_was_swallowed(ground: Ground, driver: Driver, times: int) -> None:
    pid = ground.leak(driver)

    for _ in range(times):
        swallow(driver, "SELECT 1")
    assert raises(driver, driver.commit) == OURS
    ground.assert_clean(driver, pid)


def test_a_block_raises_at_its_end(ground: Ground, driver: Driver) -> None:
    def work() -> None:
        driver.execute(INSERT)
        driver.wait(lambda: ground.roll_back(pid))

    driver.begin()
    ((pid,),) = driver.execute("SELECT pg_backend_pid()")
    driver.rollback()
    assert raises(driver, lambda: driver.block(work)) == OURS
    ground.assert_clean(driver, pid)


def test_a_savepoint_is_gone(ground: Ground, driver: Driver) -> None:
    pid = ground.leak(driver, under_a_savepoint)

    assert raises(driver, lambda: driver.execute("ROLLBACK TO SAVEPOINT here")) == OURS
    assert raises(driver, lambda: driver.execute("ROLLBACK TO SAVEPOINT here")) == "3B001"
    assert raises(driver, driver.commit) == OURS
    ground.assert_clean(driver, pid)


def test_what_was_there_before_is_there_afterwards(ground: Ground, driver: Driver) -> None:
    driver.begin()
    ((pid,),) = driver.execute("SELECT pg_backend_pid()")
    double = driver.prepare()
    driver.execute("SELECT pg_advisory_lock(4711)")
    driver.execute("CREATE TEMP TABLE kept AS SELECT 7 AS a")
    driver.execute("SET application_name = 'before'")
    driver.execute("SET TimeZone = 'Europe/Paris'")
    driver.commit()
    driver.listen("news")
    before = driver.parameter("application_name")

    def change_and_hear(driver: Driver) -> None:
        driver.execute("SET application_name = 'within'")
        driver.execute("SET TimeZone = 'Asia/Tokyo'")
        assert driver.parameter("application_name") == "within"
        ground.judge.execute("NOTIFY news, 'hello'")

    ground.leak(driver, change_and_hear)

    assert ground.backend(pid).locks == ["advisory"]
    driver.rollback()
    driver.begin()
    assert before == driver.parameter("application_name") == "before"
    assert driver.execute("SHOW TimeZone") == [("Europe/Paris",)]
    assert double() == driver.execute(DOUBLE) == [(42,)]
    assert driver.execute("SELECT a FROM kept") == [(7,)]
    assert driver.heard == ["hello"]
    assert driver.execute("SELECT pg_advisory_unlock(4711)") == [(True,)]
    driver.commit()
    ground.assert_clean(driver, pid)


def test_it_goes_on_as_after_any_error(ground: Ground, connect: Callable[[str], Driver]) -> None:
    """The calls of an application that rolls back what has failed, through us and where Postgres itself failed it."""

    def play(driver: Driver) -> list[object]:
        swallow(driver, "SELECT 1")
        seen: list[object] = [raises(driver, partial(driver.execute, query)) for query in ("SELECT 1", INSERT, "SELEC")]
        driver.rollback()
        driver.begin()
        seen += [driver.execute(DOUBLE), driver.execute(INSERT), driver.execute("SELECT a FROM rolled_back")]
        driver.rollback()
        return seen

    with connect(ground.directly) as driver:
        driver.begin()
        driver.execute(INSERT)
        swallow(driver, "SELECT 1 / 0")
        expected = play(driver)
    with connect(ground.through) as driver:
        ground.leak(driver)
        assert play(driver) == expected


def test_it_is_rolled_back_once_more(ground: Ground, driver: Driver) -> None:
    """A session whose transactions leak one after the other."""
    pid = ground.leak(driver)
    assert raises(driver, driver.commit) == OURS

    driver.begin()
    driver.execute(INSERT)
    driver.wait(lambda: ground.roll_back(pid))
    assert raises(driver, driver.commit) == OURS
    ground.assert_clean(driver, pid)
