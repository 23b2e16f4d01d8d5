"""How it is sent: at once, in pieces, too long, under names used twice, in TLS, while the rollback is under way."""

import select
from collections.abc import Callable, Iterator

import pytest

from proxy.demo.postgres import Postgres
from tests import messages as m
from tests.conftest import StartProxy
from tests.drivers.adapters import Driver, Psycopg, Psycopg2, PsycopgAsync, Sqlalchemy, swallow
from tests.drivers.support import INSERT, OURS, Ground, raises
from tests.drivers.test_statements import RAISE_AND_END, leak, shown
from tests.rawclient import RawClient, fields
from tests.servers.certificates import Certificates

NEXT = ("BEGIN", INSERT, "COMMIT")
RUN = ["BEGIN", "T", "INSERT 0 1", "T", "COMMIT", "I"]


@pytest.fixture
def client(ground: Ground) -> Iterator[RawClient]:
    with RawClient(ground.through) as client:
        yield client


def answers(client: RawClient, count: int) -> list[str]:
    return [one for _ in range(count) for one in shown(client.receive_until("Z"))]


@pytest.mark.parametrize("begin", [["COMMIT"], ["SELECT 1", "COMMIT"], ["SELECT 1", "ROLLBACK"], ["ROLLBACK"]])
def test_the_next_transaction_in_the_same_flight(ground: Ground, client: RawClient, begin: list[str]) -> None:
    """Its COMMIT commits: it is another one's."""
    leak(ground, client, INSERT)

    client.send(b"".join(m.query(text) for text in (*begin, *NEXT)))
    seen = answers(client, len(begin) + len(NEXT))
    assert seen[-len(RUN) :] == RUN
    assert seen.count(OURS) == len(begin) - (begin[-1] == "ROLLBACK")
    assert ground.rows() == 1


def test_the_next_transaction_in_the_same_flight_of_series(ground: Ground, client: RawClient) -> None:
    leak(ground, client, INSERT)

    client.send(b"".join(m.run(text) + m.SYNC for text in ("COMMIT", *NEXT)))
    assert [one for one in answers(client, 4) if one not in {"1", "2", "n"}] == [OURS, "I", *RUN]
    assert ground.rows() == 1


def test_byte_by_byte(ground: Ground, client: RawClient) -> None:
    leak(ground, client, INSERT)

    for byte in m.query("SELECT 1") + m.query("/* ; */ COMMIT") + b"".join(m.query(text) for text in NEXT):
        client.send(bytes([byte]))
    assert answers(client, 5) == [OURS, "E", *RAISE_AND_END, *RUN]
    assert ground.rows() == 1


def test_while_the_rollback_is_under_way(ground: Ground, client: RawClient) -> None:
    """Whichever is first, nobody is told that something was committed which was not."""
    enforcer = ground.proxy.session_of(client.backend_pid).guard.enforcer
    committed = 0
    for _ in range(30):
        client.query("BEGIN")
        client.query(INSERT)
        problem = ground.proxy.ask(lambda: enforcer.roll_back("a test"))
        answer = shown(client.query("COMMIT"))
        assert answer == (["COMMIT", "I"] if problem else RAISE_AND_END)
        committed += answer == ["COMMIT", "I"]
    assert ground.rows() == committed


def test_a_long_commit(ground: Ground, client: RawClient) -> None:
    """What stands behind the first statement is not sent, however long it is; nor is it answered before its end."""
    leak(ground, client, INSERT)
    whole = m.query("COMMIT; SELECT '" + 300_000 * "x" + "'")

    client.send(whole[:200_000])
    assert select.select([client.socket], [], [], 0.3)[0] == []
    client.send(whole[200_000:])
    assert shown(client.receive_until("Z")) == RAISE_AND_END
    assert shown(client.query("SELECT 1"))[-1] == "I"


def test_a_long_statement(ground: Ground, client: RawClient) -> None:
    leak(ground, client, INSERT)

    assert shown(client.query("SELECT '" + 3_000_000 * "x" + "'")) == [OURS, "E"]
    assert shown(client.query("COMMIT")) == RAISE_AND_END


def ends_in_a_fatal(ground: Ground, client: RawClient) -> None:
    """Where nobody can be sure, the session ends, and nothing was committed."""
    *_, last = client.everything()
    assert (fields(last)["S"], fields(last)["C"]) == ("FATAL", OURS)
    assert ground.rows() == 0


def test_a_commit_behind_a_long_comment(ground: Ground, client: RawClient) -> None:
    leak(ground, client, INSERT)

    client.send(m.query("/*" + 100_000 * " " + "*/ COMMIT"))
    ends_in_a_fatal(ground, client)


def test_commit_and_chain_in_a_series(ground: Ground, client: RawClient) -> None:
    """It would open a transaction that its client takes for its own."""
    leak(ground, client, INSERT)

    client.send(m.run("COMMIT AND CHAIN") + m.SYNC)
    ends_in_a_fatal(ground, client)


def many(kind: str) -> bytes:
    """So many statements that the texts of those before are not kept."""
    return b"".join(m.parse("SELECT 1", f"{kind} {number}") for number in range(1000)) + m.SYNC


REUSED = {
    "refused, since the name is in use": [m.parse("COMMIT", "name") + m.SYNC, m.parse("ROLLBACK", "name") + m.SYNC],
    "closed before": [m.parse("ROLLBACK", "name") + m.close("name") + m.parse("COMMIT", "name") + m.SYNC],
    "deallocated before": [
        m.parse("ROLLBACK", "name") + m.SYNC,
        m.query("DEALLOCATE name"),
        m.parse("COMMIT", "name") + m.SYNC,
    ],
    "discarded before": [
        m.parse("ROLLBACK", "name") + m.SYNC,
        m.query("DISCARD ALL"),
        m.parse("COMMIT", "name") + m.SYNC,
    ],
    "refused for its text": [m.parse("ROLLBAC", "name") + m.SYNC, m.parse("COMMIT", "name") + m.SYNC],
    "refused, long after": [m.parse("COMMIT", "name") + many("filler"), m.parse("ROLLBACK", "name") + m.SYNC],
    "deallocated long after": [
        m.parse("ROLLBACK", "name") + many("filler"),
        m.query("DEALLOCATE name"),
        m.parse("COMMIT", "name") + many("another filler"),
    ],
    "never prepared for an error before": [
        m.parse("COMMIT", "name") + m.SYNC,
        m.parse("SELEC") + m.close("name") + m.parse("ROLLBACK", "name") + m.SYNC,
    ],
}


@pytest.mark.parametrize("how", REUSED)
def test_a_commit_under_a_name_used_twice(ground: Ground, client: RawClient, how: str) -> None:
    for flight in REUSED[how]:
        client.send(flight)
        client.receive_until("Z")
    leak(ground, client, INSERT)

    client.send(m.bind("name") + m.execute() + m.SYNC)
    assert shown(client.receive_until("Z")) == ["2", *RAISE_AND_END]


@pytest.mark.parametrize("before", [b"", m.parse("SELECT 1")], ids=["refused", "not read"])
def test_a_rollback_that_was_not_prepared(ground: Ground, client: RawClient, before: bytes) -> None:
    """When its name is in use, or behind an error, what the server has under that name is still the COMMIT."""
    client.send(m.parse("COMMIT", "name") + many("filler"))
    client.receive_until("Z")
    leak(ground, client, INSERT)

    client.send(before + m.parse("ROLLBACK", "name") + m.SYNC)
    assert shown(client.receive_until("Z")) == [OURS, "E"]
    client.send(m.bind("name") + m.execute() + m.SYNC)
    assert shown(client.receive_until("Z")) == ["2", *RAISE_AND_END]


CLOSED_FIRST = {"COMMIT": RAISE_AND_END, "ROLLBACK": ["ROLLBACK", "I"], "SELECT 1": [OURS, "E"]}


@pytest.mark.parametrize("text", CLOSED_FIRST)
def test_a_close_in_front_of_a_query(ground: Ground, client: RawClient, text: str) -> None:
    """pgjdbc closes what it does not need any more in front of its next request, whatever that is."""
    client.send(m.parse("SELECT 1", "not needed") + m.SYNC)
    client.receive_until("Z")
    leak(ground, client, INSERT)

    client.send(m.close("not needed") + m.query(text))
    assert shown(client.receive_until("Z")) == ["3", *CLOSED_FIRST[text]]
    assert shown(client.query("ROLLBACK"))[-1] == "I"


@pytest.mark.parametrize(("text", "answer"), [("COMMIT", RAISE_AND_END), ("ROLLBACK", ["ROLLBACK", "I"])])
def test_an_end_among_thousands(ground: Ground, client: RawClient, text: str, answer: list[str]) -> None:
    """However many statements a client has prepared since."""
    client.send(m.parse(text, "end"))
    for number in range(20):
        client.send(many(f"filler {number}"))
        client.receive_until("Z")
    leak(ground, client, INSERT)

    client.send(m.bind("end") + m.execute() + m.SYNC)
    assert shown(client.receive_until("Z")) == ["2", *answer]


@pytest.fixture
def ground_in_tls(
    ground: Ground, postgres: Postgres, start_proxy: StartProxy, tmp_path_factory: pytest.TempPathFactory
) -> Ground:
    """The same for clients in TLS."""
    own = Certificates(tmp_path_factory.mktemp("certificates"))
    files = {"client_tls__cert_file": str(own.cert_file), "client_tls__key_file": str(own.key_file)}
    return Ground(start_proxy(flag_after="never", client_tls__mode="require", **files), postgres, ground.judge)


@pytest.mark.parametrize("kind", [Psycopg, PsycopgAsync, Psycopg2, Sqlalchemy], ids=lambda kind: kind.name)
@pytest.mark.parametrize("times", [0, 1])
def test_in_tls(ground_in_tls: Ground, kind: Callable[[str], Driver], times: int) -> None:
    with kind(f"{ground_in_tls.through} sslmode=require") as driver:
        pid = ground_in_tls.leak(driver)
        for _ in range(times):
            swallow(driver, "SELECT 1")
        assert raises(driver, driver.commit) == OURS
        ground_in_tls.assert_clean(driver, pid)
