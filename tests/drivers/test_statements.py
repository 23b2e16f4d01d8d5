"""What can be said to a transaction that was rolled back, message by message: commits raise, its end is its end."""

from collections.abc import Iterator

import pytest

from tests import messages as m
from tests.drivers.support import FAILED, INSERT, MESSAGE, OURS, RELEASED, Ground
from tests.harness import until
from tests.rawclient import Message, RawClient, fields


@pytest.fixture
def client(ground: Ground) -> Iterator[RawClient]:
    with RawClient(ground.through) as client:
        yield client


def leak(ground: Ground, client: RawClient, *queries: str, begin: str = "BEGIN") -> None:
    """Hold a transaction until it has been rolled back."""
    for query in (begin, *queries):
        assert client.query(query)[-1].body != b"E"
    ground.roll_back(client.backend_pid)


def shown(messages: list[Message]) -> list[str]:
    """The tags, the SQLSTATEs and the states, and everything else by its type."""
    return [show(message) for message in messages if message.kind not in "SNA"]


def show(message: Message) -> str:
    if message.kind == "E":
        told = fields(message)
        assert (told["C"] == OURS) == bool(MESSAGE.fullmatch(told["M"]))
        assert told["S"] == told["V"] == "ERROR"
        return told["C"]
    return message.body.rstrip(b"\0").decode() if message.kind in "CZ" else message.kind


RAISE_AND_END = [OURS, "I"]
SIMPLE = {
    "COMMIT": RAISE_AND_END,
    "commit work": RAISE_AND_END,
    "END": RAISE_AND_END,
    "End Transaction;": RAISE_AND_END,
    "/* a /* nested */ comment */ ; -- and one more\n\t ;END": RAISE_AND_END,
    "\ufeffCOMMIT": [OURS, "E"],  # to Postgres a name with a letter too many
    "COMMITS": [OURS, "E"],
    "COMMIT; SELECT 1": RAISE_AND_END,
    f"COMMIT; BEGIN; {INSERT}; COMMIT": RAISE_AND_END,
    "COMMIT AND NO CHAIN": RAISE_AND_END,
    "COMMIT AND CHAIN": RAISE_AND_END,
    "PREPARE TRANSACTION 'rolled back'": RAISE_AND_END,
    "PREPARE one AS SELECT 1": [OURS, "E"],
    "COMMIT PREPARED 'rolled back'": [OURS, "E"],
    "ROLLBACK": ["ROLLBACK", "I"],
    "abort": ["ROLLBACK", "I"],
    "ROLLBACK AND CHAIN": ["ROLLBACK", "T"],
    "ROLLBACK; SELECT 1": ["ROLLBACK", "T", "D", "SELECT 1", "I"],
    f"ROLLBACK; BEGIN; {INSERT}; COMMIT": ["ROLLBACK", "BEGIN", "INSERT 0 1", "COMMIT", "I"],
    "ROLLBACK; COMMIT": ["ROLLBACK", "COMMIT", "I"],
    "BEGIN": [OURS, "E"],
    "SELECT 1": [OURS, "E"],
    "SELECT 1; COMMIT": [OURS, "E"],
    "SELEC": [OURS, "E"],
    "SAVEPOINT a": [OURS, "E"],
    "RELEASE a": [OURS, "E"],
    "DISCARD ALL": [OURS, "E"],
    "COPY rolled_back FROM STDIN": [OURS, "E"],
    "": ["I", "E"],
    " ; -- nothing": ["I", "E"],
}


@pytest.mark.parametrize("query", SIMPLE)
def test_a_query(ground: Ground, client: RawClient, query: str) -> None:
    leak(ground, client, INSERT)
    assert ground.backend(client.backend_pid) == RELEASED

    assert shown(client.query(query)) == SIMPLE[query]
    assert shown(client.query("ROLLBACK"))[-1] == "I"
    assert shown(client.query("BEGIN")) == ["BEGIN", "T"]
    assert shown(client.query(INSERT)) == ["INSERT 0 1", "T"]
    assert shown(client.query("COMMIT")) == ["COMMIT", "I"]
    assert ground.rows() == 1 + ("INSERT 0 1" in SIMPLE[query])
    assert ground.judge.execute("SELECT * FROM pg_prepared_xacts").fetchall() == []


SERIES = {
    "commit": (m.run("COMMIT"), ["1", "2", "n", OURS, "I"]),
    "commit, with more behind it": (m.run("COMMIT") + m.run("SELECT 1"), ["1", "2", "n", OURS, "I"]),
    "commit, and a flush": (m.run("COMMIT") + m.FLUSH, ["1", "2", "n", OURS, "I"]),
    "rollback": (m.run("ROLLBACK"), ["1", "2", "n", "ROLLBACK", "I"]),
    "rollback, with more behind it": (
        m.run("ROLLBACK") + m.run("SELECT 1"),
        ["1", "2", "n", "ROLLBACK", "1", "2", "T", "D", "SELECT 1", "I"],
    ),
    "commit after a rollback": (
        m.run("ROLLBACK") + m.run("COMMIT"),
        ["1", "2", "n", "ROLLBACK", "1", "2", "n", "COMMIT", "I"],
    ),
    "commit of what was begun after a rollback": (
        m.run("ROLLBACK") + m.run("BEGIN") + m.run(INSERT) + m.run("COMMIT"),
        [*"12n", "ROLLBACK", *"12n", "BEGIN", *"12n", "INSERT 0 1", *"12n", "COMMIT", "I"],
    ),
    "a statement": (m.run("SELECT 1"), [OURS, "E"]),
    "a statement, and commit": (m.run("SELECT 1") + m.run("COMMIT"), [OURS, "E"]),
    "a statement, and in a series of its own commit": (
        m.run("SELECT 1") + m.SYNC + m.run("COMMIT"),
        [OURS, "E", "1", "2", "n", OURS, "I"],
    ),
    "nothing": (b"", ["E"]),
    "parse and describe commit": (m.parse("COMMIT") + m.describe(), ["1", "t", "n", "E"]),
    "bind commit, and let it be": (m.parse("COMMIT") + m.bind(), ["1", "2", "E"]),
    "a portal that is not there": (m.execute("nowhere"), [OURS, "E"]),
    "close": (m.close("nothing"), ["3", "E"]),
    "two commits": (
        m.run("COMMIT") + m.SYNC + m.run("COMMIT"),
        ["1", "2", "n", OURS, "I", "1", "2", "n", "COMMIT", "I"],
    ),
}


@pytest.mark.parametrize("name", SERIES)
def test_a_series(ground: Ground, client: RawClient, name: str) -> None:
    leak(ground, client, INSERT)
    data, expected = SERIES[name]

    client.send(data + m.SYNC)
    answers = [client.receive_until("Z") for _ in range(1 + data.count(m.SYNC))]
    assert [one for answer in answers for one in shown(answer)] == expected
    assert shown(client.query("ROLLBACK"))[-1] == "I"
    assert ground.rows() == expected.count("INSERT 0 1")


def test_commit_that_was_prepared_long_ago(ground: Ground, client: RawClient) -> None:
    """pgjdbc binds what it has parsed long before."""
    client.send(m.parse("/* long ago */ COMMIT", "end") + m.parse("BEGIN", "begin") + m.SYNC)
    client.receive_until("Z")
    for _ in range(3):
        client.send(m.bind("begin") + m.execute() + m.SYNC + m.bind("end") + m.execute() + m.SYNC)
        assert shown(client.receive_until("Z") + client.receive_until("Z")) == ["2", "BEGIN", "T", "2", "COMMIT", "I"]
    leak(ground, client, INSERT)

    client.send(m.bind("end", "of it") + m.describe("of it", "P") + m.execute("of it") + m.SYNC)
    assert shown(client.receive_until("Z")) == ["2", "n", OURS, "I"]
    client.send(m.bind("begin") + m.execute() + m.SYNC + m.bind("end") + m.execute() + m.SYNC)
    assert shown(client.receive_until("Z") + client.receive_until("Z")) == ["2", "BEGIN", "T", "2", "COMMIT", "I"]


def test_commit_in_pieces(ground: Ground, client: RawClient) -> None:
    """pg8000 parses, describes and executes in a series each."""
    leak(ground, client, INSERT)

    client.send(m.parse("commit") + m.SYNC)
    assert shown(client.receive_until("Z")) == ["1", "E"]
    client.send(m.describe() + m.SYNC)
    assert shown(client.receive_until("Z")) == ["t", "n", "E"]
    client.send(m.bind() + m.execute() + m.SYNC)
    assert shown(client.receive_until("Z")) == ["2", OURS, "I"]
    client.send(m.bind() + m.execute() + m.SYNC)
    assert shown(client.receive_until("Z")) == ["2", "COMMIT", "I"]


def test_prepare_without_sync_is_answered(ground: Ground, client: RawClient) -> None:
    """asyncpg waits for the answer to its Flush."""
    leak(ground, client, INSERT)

    client.send(m.parse("SELECT 1", "one") + m.describe("one") + m.FLUSH)
    assert shown(client.receive_until("E")) == [OURS]
    client.send(m.SYNC)
    assert shown(client.receive_until("Z")) == ["E"]


def test_a_commit_whose_flush_is_answered(ground: Ground, client: RawClient) -> None:
    leak(ground, client, INSERT)

    client.send(m.run("COMMIT") + m.FLUSH)
    assert shown(client.receive_until("E")) == ["1", "2", "n", OURS]
    client.send(m.run("SELECT 1") + m.SYNC)
    assert shown(client.receive_until("Z")) == ["I"]


def test_what_the_client_has_prepared_is_left_alone(ground: Ground, client: RawClient) -> None:
    """Its unnamed statement, too: BEGIN and ROLLBACK are extended here, since a simple Query would drop that."""
    named = m.parse("BEGIN", "begin") + m.parse("ROLLBACK", "rollback") + m.parse("SELECT 41", "named")
    client.send(named + m.parse("SELECT 42") + m.bind("begin") + m.execute() + m.SYNC)
    assert shown(client.receive_until("Z"))[-1] == "T"
    ground.roll_back(client.backend_pid)

    client.send(m.bind("rollback") + m.execute() + m.SYNC)
    assert shown(client.receive_until("Z")) == ["2", "ROLLBACK", "I"]
    for name, value in (("", b"42"), ("named", b"41")):
        client.send(m.bind(name) + m.execute() + m.SYNC)
        _, row, *rest = client.receive_until("Z")
        assert row.body.endswith(value)
        assert shown(rest) == ["SELECT 1", "I"]


def test_a_client_that_never_looks_at_errors(ground: Ground, client: RawClient) -> None:
    leak(ground, client, INSERT)

    assert [shown(client.query("SELECT 1")) for _ in range(3)] == [[OURS, "E"], [FAILED, "E"], [FAILED, "E"]]
    assert shown(client.query("COMMIT")) == RAISE_AND_END
    assert shown(client.query("COMMIT")) == ["COMMIT", "I"]


def test_deferrable_does_not_wait_for_its_snapshot(ground: Ground, client: RawClient) -> None:
    """Which it would for as long as somebody else's serializable transaction is open."""
    deferrable = "BEGIN ISOLATION LEVEL SERIALIZABLE, READ ONLY, DEFERRABLE"
    for query in (deferrable, "SELECT count(*) FROM rolled_back"):
        client.query(query)
    with ground.postgres.connect() as other:
        other.execute("BEGIN ISOLATION LEVEL SERIALIZABLE")
        other.execute(INSERT)
        ground.roll_back(client.backend_pid)
        until(lambda: ground.backend(client.backend_pid) == RELEASED, 1.0, "the rollback waits")
        assert shown(client.query("COMMIT")) == RAISE_AND_END
        other.execute("ROLLBACK")


def test_two_phases_go_on(ground: Ground, client: RawClient) -> None:
    """What was prepared before can be committed as soon as the block is over."""
    for query in ("BEGIN", INSERT, "PREPARE TRANSACTION 'prepared before'"):
        client.query(query)
    leak(ground, client, "SELECT 1")

    assert shown(client.query("COMMIT PREPARED 'prepared before'")) == [OURS, "E"]
    assert shown(client.query("ROLLBACK")) == ["ROLLBACK", "I"]
    assert shown(client.query("COMMIT PREPARED 'prepared before'")) == ["COMMIT PREPARED", "I"]
    assert ground.rows() == 1


def test_the_server_s_words_come_through(ground: Ground, client: RawClient) -> None:
    """Parameters that revert are told at once, notifications when the block is over, as after any rollback."""
    client.query("SET application_name = 'before'")
    client.query("SET TimeZone = 'Europe/Paris'")
    client.query("LISTEN news")
    leak(ground, client, "SET application_name = 'within'", "SET TimeZone = 'Asia/Tokyo'")
    ground.judge.execute("NOTIFY news, 'hello'")

    told = [client.receive(), client.receive()]
    reverted = [m.parameter_status("application_name", "before"), m.parameter_status("TimeZone", "Europe/Paris")]
    assert {message.body for message in told if message} == {status[5:] for status in reverted}
    client.send(m.query("ROLLBACK"))
    ended = client.receive_until("Z")
    heard = next((message for message in ended if message.kind == "A"), None) or client.receive()
    assert shown(ended) == ["ROLLBACK", "I"]
    assert heard
    assert heard.body.endswith(b"news\0hello\0")
