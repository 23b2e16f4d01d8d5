"""What extended messages meet after a rollback: a failed transaction, with our error first."""

import pytest

from proxy.demo.postgres import Postgres
from proxy.report.events import LeakRolledBack
from tests import messages as m
from tests.harness import Proxy
from tests.rawclient import RawClient
from tests.rollback.support import ABORTED, OWED, bound, kinds, leak, one, states, status


def test_an_executed_commit_fails_and_nothing_behind_it_runs(
    proxy: Proxy, client: RawClient, postgres: Postgres
) -> None:
    leak(client, proxy)
    client.send(bound("COMMIT") + bound("INSERT INTO rolled VALUES (4)") + m.SYNC)
    answer = client.receive_until("Z")
    assert (kinds(answer), states(answer), status(answer)) == ("12EZ", [OWED], "I")
    assert one(postgres, "SELECT count(*) FROM rolled") == 0


@pytest.mark.parametrize("behind", [m.FLUSH, m.FLUSH + m.parse("SELECT 1") + m.FLUSH])
def test_an_executed_commit_is_answered_at_flush(proxy: Proxy, client: RawClient, behind: bytes) -> None:
    leak(client, proxy)
    client.send(bound("COMMIT") + behind)
    assert kinds(client.receive_until("E")) == "12E"
    client.send(m.SYNC)
    assert status(client.receive_until("Z")) == "I"


def test_an_executed_rollback_is_silent_and_what_follows_runs(
    proxy: Proxy, client: RawClient, postgres: Postgres
) -> None:
    leak(client, proxy)
    client.send(bound("ROLLBACK") + bound("INSERT INTO rolled VALUES (5)") + bound("COMMIT") + m.SYNC)
    answer = client.receive_until("Z")
    assert (states(answer), status(answer)) == ([], "I")
    assert one(postgres, "DELETE FROM rolled RETURNING a") == 5


def prepared(client: RawClient, *statements: str) -> None:
    for number, sql in enumerate(statements):
        client.send(m.parse(sql, name=f"s{number}"))
    client.send(m.SYNC)
    client.receive_until("Z")


def test_statements_prepared_long_ago(proxy: Proxy, client: RawClient) -> None:
    prepared(client, "COMMIT", "ROLLBACK", "SELECT 7", "")
    leak(client, proxy)
    assert kinds(client.query("")) == "IZ"  # what some drivers ask to see whether the connection is alive
    client.send(m.bind("s3") + m.execute() + m.SYNC)  # and others so: in a failed block Postgres refuses it
    assert states(client.receive_until("Z")) == [OWED]
    client.send(m.bind("s0") + m.execute() + m.SYNC)
    answer = client.receive_until("Z")
    assert (kinds(answer), states(answer), status(answer)) == ("2EZ", [OWED], "I")
    leak(client, proxy)
    client.send(m.bind("s1") + m.execute() + m.SYNC)
    assert kinds(client.receive_until("Z")) == "2CZ"
    client.send(m.bind("s2") + m.execute() + m.SYNC)
    assert kinds(client.receive_until("Z")) == "2DCZ"


def test_the_unnamed_statement_is_left_alone(proxy: Proxy, client: RawClient) -> None:
    prepared(client, "BEGIN", "ROLLBACK")
    client.send(m.parse("SELECT 8") + m.bind("s0", "p") + m.execute("p") + m.SYNC)
    client.receive_until("Z")
    proxy.recorder.wait(LeakRolledBack)
    client.send(m.bind("s1", "q") + m.execute("q") + m.SYNC)
    assert kinds(client.receive_until("Z")) == "2CZ"
    client.send(m.bind() + m.execute() + m.SYNC)
    assert kinds(client.receive_until("Z")) == "2DCZ"


@pytest.mark.parametrize("filler", [0, 100], ids=["known", "forgotten"])
def test_a_statement_whose_text_was_forgotten_counts_as_a_commit(proxy: Proxy, client: RawClient, filler: int) -> None:
    prepared(client, "COMMIT", "ROLLBACK", *[f"SELECT {'1, ' * 600} 1"] * filler)
    leak(client, proxy)
    client.send(m.bind("s0") + m.execute() + m.SYNC)
    assert states(client.receive_until("Z")) == [OWED]
    leak(client, proxy)
    client.send(m.bind("s1") + m.execute() + m.SYNC)
    assert states(client.receive_until("Z")) == []


def test_a_name_that_the_server_has_refused_is_not_believed(proxy: Proxy, client: RawClient) -> None:
    prepared(client, "COMMIT")
    prepared(client, "ROLLBACK")  # 42P05: the name is in use
    leak(client, proxy)
    client.send(m.bind("s0") + m.execute() + m.SYNC)
    assert states(client.receive_until("Z")) == [OWED]
    leak(client, proxy)
    prepared(client, "ROLLBACK")
    client.send(m.bind("s0") + m.execute() + m.SYNC)
    assert states(client.receive_until("Z")) == [OWED]


def test_a_pipeline_meets_a_failed_transaction_with_our_error_first(proxy: Proxy, client: RawClient) -> None:
    leak(client, proxy)
    client.send((m.run("SELECT 1") + m.SYNC) * 3 + m.run("COMMIT") + m.SYNC + m.run("SELECT 1") + m.SYNC)
    answers = [client.receive_until("Z") for _ in range(5)]
    assert [states(answer) for answer in answers] == [[OWED], [ABORTED], [ABORTED], [OWED], []]
    assert [status(answer) for answer in answers] == ["E", "E", "E", "I", "I"]


def test_parse_and_describe_without_sync_do_not_hang(proxy: Proxy, client: RawClient) -> None:
    leak(client, proxy)
    client.send(m.parse("SELECT 1", "a") + m.describe("a") + m.FLUSH)
    assert states([client.receive() or pytest.fail("the end")]) == [OWED]
    client.send(m.SYNC)
    assert status(client.receive_until("Z")) == "E"
