"""A batch that is sent at once meets what a failed transaction of Postgres's own gives it, with our error in front."""

from collections.abc import Callable

import psycopg
import pytest

from tests.behaviour.support import Journal
from tests.drivers.adapters import Psycopg, swallow
from tests.drivers.support import FAILED, INSERT, MESSAGE, OURS, Ground

Batch = Callable[[psycopg.Connection, Journal], object]
QUERIES = ("SELECT 1", INSERT, "SELECT 2")


def statements(connection: psycopg.Connection, journal: Journal) -> None:
    with journal.attempt(), connection.pipeline():
        for query in QUERIES:
            connection.execute(query)


def statements_and_commit(connection: psycopg.Connection, journal: Journal) -> None:
    """The COMMIT is discarded like all else up to the Sync."""
    with journal.attempt(), connection.pipeline():
        for query in QUERIES:
            connection.execute(query)
        connection.commit()


def a_sync_between(connection: psycopg.Connection, journal: Journal) -> None:
    with journal.attempt(), connection.pipeline() as pipeline:
        for query in QUERIES:
            with journal.attempt():
                connection.execute(query)
                pipeline.sync()


def statements_and_rollback(connection: psycopg.Connection, journal: Journal) -> None:
    with journal.attempt(), connection.pipeline() as pipeline:
        with journal.attempt():
            connection.execute("SELECT 1")
            pipeline.sync()
        connection.rollback()
        journal.note(connection.execute("SELECT 3").fetchall())


def rollback_and_statements(connection: psycopg.Connection, journal: Journal) -> None:
    """It begins with what ends the block, and so nothing in it fails."""
    with journal.attempt(), connection.pipeline():
        connection.rollback()
        journal.note([connection.execute(query).fetchall() for query in ("SELECT 1", "SELECT 2")])


BATCHES: list[Batch] = [
    statements,
    statements_and_commit,
    a_sync_between,
    statements_and_rollback,
    rollback_and_statements,
]


def play(driver: Psycopg, batch: Batch) -> list[object]:
    """What a batch sees, and how it leaves the connection."""
    journal = Journal(psycopg.Error)
    batch(driver.connection, journal)
    journal.note(driver.connection.info.transaction_status.name)
    driver.rollback()
    journal.note(driver.connection.info.transaction_status.name)
    return journal.entries


def as_if_the_server_s(entry: object) -> object:
    """An entry, but for the error, which is ours, that of a transaction that Postgres has failed."""
    if isinstance(entry, tuple) and OURS in entry:
        assert MESSAGE.search(str(entry[-1])), entry
        return "InFailedSqlTransaction", FAILED
    return entry[:2] if isinstance(entry, tuple) else entry


@pytest.mark.parametrize("batch", BATCHES, ids=lambda batch: batch.__name__)
def test_a_batch_fails_as_in_a_failed_transaction(ground: Ground, batch: Batch) -> None:
    with Psycopg(ground.directly) as driver:
        swallow(driver, "SELECT 1 / 0")
        expected = [as_if_the_server_s(entry) for entry in play(driver, batch)]
    with Psycopg(ground.through) as driver:
        pid = ground.leak(driver)
        seen = play(driver, batch)
        assert [as_if_the_server_s(entry) for entry in seen] == expected
        assert any(OURS in str(entry) for entry in seen) == (batch is not rollback_and_statements)
        ground.assert_clean(driver, pid)


def test_commit_in_a_batch_raises(ground: Ground) -> None:
    with Psycopg(ground.through) as driver:
        pid = ground.leak(driver)
        with pytest.raises(psycopg.Error, match=MESSAGE.pattern) as raised, driver.connection.pipeline():
            driver.commit()
        assert raised.value.sqlstate == OURS
        ground.assert_clean(driver, pid)


def test_commit_in_a_batch_raises_after_an_error_that_was_swallowed(ground: Ground) -> None:
    journal = Journal(psycopg.Error)
    with Psycopg(ground.through) as driver:
        pid = ground.leak(driver)
        with journal.attempt(), driver.connection.pipeline() as pipeline:
            with journal.attempt():
                driver.connection.execute("SELECT 1")
                pipeline.sync()
            driver.commit()
        assert [entry[1] for entry in journal.entries if isinstance(entry, tuple)] == [OURS, OURS]
        ground.assert_clean(driver, pid)
