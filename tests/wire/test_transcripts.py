"""What a session does, as both sides tell it; numbers in names are lines of docs/protocol.md."""

import pytest

from tests import messages as m
from tests.wire.transcript import STARTED, Client, Cut, Expect, Server, Step, cuts, play

IDLE = "idle_in_transaction"
FAILED = "idle_in_failed_transaction"
STALLED = "stalled_pipeline"
COPY = "stalled_copy"
BEGUN: list[Step] = [*STARTED, Client(m.query("BEGIN")), Server(m.queried("BEGIN", "T"))]
COPYING: list[Step] = [*STARTED, Client(m.query("COPY t FROM STDIN")), Server(m.COPY_IN)]
COPY_SERIES = m.run("COPY t FROM STDIN")
COPY_SERIES_BEGUN = m.PARSED + m.BOUND + m.NO_DATA + m.COPY_IN

TRANSCRIPTS: dict[str, list[Step]] = {
    "starting is no transaction": [
        Expect(open=False),
        Server(m.AUTHENTICATED),
        Expect(open=False),
        Server(m.key_data() + m.ready("I")),
        Expect(open=False),
    ],
    "refused before authentication (10)": [Server(m.error("53300", "FATAL")), Expect(open=False)],
    "autocommit": [
        *STARTED,
        Client(m.query("SELECT 1")),
        Expect(open=True, last="SELECT 1", statements=1),
        Server(m.DESCRIBED + m.row() + m.queried("SELECT 1", "I")),
        Expect(open=False),
    ],
    "idle in a block: the opener is more than its BEGIN": [
        *BEGUN,
        Expect(hold=IDLE, since=2, opener="BEGIN", last="BEGIN", statements=1),
        Client(m.query("SELECT 1")),
        Expect(open=True, last="SELECT 1"),
        Server(m.DESCRIBED + m.row() + m.queried("SELECT 1", "T")),
        Expect(hold=IDLE, since=6, opener="SELECT 1", last="SELECT 1", first_write="", statements=2),
        Client(m.query("UPDATE t SET a = 1")),
        Server(m.queried("UPDATE 1", "T")),
        Expect(hold=IDLE, since=9, opener="SELECT 1", first_write="UPDATE t SET a = 1", statements=3),
        Client(m.query("COMMIT")),
        Server(m.queried("COMMIT", "I")),
        Expect(open=False, number=2),
    ],
    "half a Query has not been sent": [*BEGUN, Client(m.query("SELECT 1")[:-1]), Expect(hold=IDLE, since=2)],
    "a failed block, and back by ROLLBACK TO (20)": [
        *BEGUN,
        Client(m.query("SAVEPOINT a")),
        Server(m.queried("SAVEPOINT", "T")),
        Client(m.query("SELECT 1/0")),
        Server(m.error() + m.ready("E")),
        Expect(hold=FAILED, since=6, last="SELECT 1/0", opener="SELECT 1/0"),
        Client(m.query("ROLLBACK TO a")),
        Server(m.queried("ROLLBACK", "T")),
        Expect(hold=IDLE, since=9, number=2),
    ],
    "AND CHAIN is another transaction (19)": [
        *BEGUN,
        Client(m.query("COMMIT AND CHAIN")),
        Server(m.queried("COMMIT", "T")),
        Expect(hold=IDLE, since=4, number=3, opener="COMMIT AND CHAIN", statements=0),
        Client(m.query("ROLLBACK AND CHAIN")),
        Server(m.queried("ROLLBACK", "T")),
        Expect(hold=IDLE, since=7, number=4, opener="ROLLBACK AND CHAIN"),
        Client(m.query("SELECT 1")),
        Server(m.queried("SELECT 1", "T")),
        Expect(hold=IDLE, since=10, number=4, opener="SELECT 1", statements=1),
    ],
    "COMMIT; BEGIN in one Query is another transaction (19)": [
        *BEGUN,
        Client(m.query("COMMIT; BEGIN")),
        Server(m.complete("COMMIT") + m.queried("BEGIN", "T")),
        Expect(hold=IDLE, since=4, number=3, opener="COMMIT; BEGIN"),
    ],
    "PREPARE TRANSACTION leaves nothing open here (19)": [
        *BEGUN,
        Client(m.query("PREPARE TRANSACTION 'x'")),
        Server(m.queried("PREPARE TRANSACTION", "I")),
        Expect(open=False),
    ],
    "several statements in one Query are not idle in between (18)": [
        *STARTED,
        Client(m.query("SELECT 1; SELECT 2")),
        Server(m.DESCRIBED + m.row() + m.complete("SELECT 1")),
        Expect(open=True),
        Server(m.DESCRIBED + m.row() + m.queried("SELECT 1", "I")),
        Expect(open=False),
    ],
    "an empty Query": [*STARTED, Client(m.query("")), Server(m.EMPTY_QUERY + m.ready("I")), Expect(open=False)],
    "a pipeline of Queries has one ReadyForQuery each (12)": [
        *BEGUN,
        Client(m.query("SELECT 1") + m.query("SELECT 2")),
        Server(m.queried("SELECT 1", "T")),
        Expect(open=True, last="SELECT 2"),
        Server(m.queried("SELECT 1", "T")),
        Expect(hold=IDLE, since=6),
    ],
    "a pipeline of Syncs (12)": [
        *STARTED,
        Client((m.run("SELECT 1") + m.SYNC) * 5),
        Server((m.ran("SELECT 1") + m.ready("I")) * 4),
        Expect(open=True),
        Server(m.ran("SELECT 1") + m.ready("I")),
        Expect(open=False),
    ],
    "a pipeline in a block: BEGIN, statements, COMMIT behind one Sync": [
        *STARTED,
        Client(m.run("BEGIN") + m.run("INSERT INTO t VALUES (1)") + m.run("COMMIT") + m.SYNC),
        Server(m.ran("BEGIN") + m.ran("INSERT 0 1")),
        Expect(open=True, first_write="INSERT INTO t VALUES (1)", opener="INSERT INTO t VALUES (1)"),
        Server(m.ran("COMMIT") + m.ready("I")),
        Expect(open=False),
    ],
    "an error in a series discards up to Sync, the Query too (13)": [
        *BEGUN,
        Client(m.parse("bad") + m.bind() + m.execute() + m.query("SELECT 1") + m.SYNC),
        Server(m.error()),
        Expect(open=True),
        Server(m.ready("E")),
        Expect(hold=FAILED, since=6),
    ],
    "what follows the error's Sync is answered (13)": [
        *STARTED,
        Client(m.run("SELECT 1/0") + m.run("SELECT 2") + m.SYNC + m.run("SELECT 3") + m.SYNC),
        Server(m.PARSED + m.BOUND + m.error() + m.ready("I")),
        Expect(open=True, last="SELECT 3"),
        Server(m.ran("SELECT 1") + m.ready("I")),
        Expect(open=False),
    ],
    "an error and then more of the series, all discarded (13)": [
        *BEGUN,
        Client(m.parse("bad") + m.FLUSH),
        Server(m.error()),
        Expect(hold=STALLED, since=4),
        Client(m.bind() + m.execute() + m.query("SELECT 1")),
        Expect(hold=STALLED, since=4),
        Client(m.SYNC),
        Expect(open=True),
        Server(m.ready("E")),
        Expect(hold=FAILED, since=10),
    ],
    "the error of a simple Query inside a series discards nothing (13)": [
        *STARTED,
        Client(m.run("SELECT 1") + m.query("SELECT 1/0") + m.SYNC),
        Server(m.ran("SELECT 1") + m.error() + m.ready("I")),
        Expect(open=False),
        Server(m.ready("I")),
        Expect(open=False),
    ],
    "an error while a Sync commits": [
        *STARTED,
        Client(m.run("INSERT INTO t VALUES (1)") + m.SYNC),
        Server(m.ran("INSERT 0 1") + m.error("23503") + m.ready("I")),
        Expect(open=False),
    ],
    "Flush without Sync outside a block (15)": [
        *STARTED,
        Client(m.run("UPDATE t SET a = 1") + m.FLUSH),
        Expect(open=True),
        Server(m.ran("UPDATE 1")),
        Expect(hold=STALLED, since=3, opener="UPDATE t SET a = 1", first_write="UPDATE t SET a = 1"),
        Client(m.SYNC),
        Expect(open=True),
        Server(m.ready("I")),
        Expect(open=False),
    ],
    "Flush without Sync inside a block (15)": [
        *BEGUN,
        Client(m.run("SELECT 1") + m.FLUSH),
        Server(m.ran("SELECT 1")),
        Expect(hold=STALLED, since=4, last="SELECT 1"),
    ],
    "an unanswered series may be a running statement (15)": [*BEGUN, Client(m.run("SELECT 1") + m.FLUSH), Expect()],
    "asyncpg's prepare (15)": [
        *STARTED,
        Client(m.parse("SELECT 1", "p") + m.describe("p") + m.FLUSH),
        Server(m.PARSED + m.message("t", b"\0\0") + m.DESCRIBED),
        Expect(hold=STALLED, since=2, opener="SELECT 1", statements=0),
    ],
    "a failed series outside a block holds nothing (15)": [
        *STARTED,
        Client(m.parse("bad") + m.FLUSH),
        Server(m.error()),
        Expect(open=False),
    ],
    "a block that was ended in a series without Sync holds nothing": [
        *BEGUN,
        Client(m.run("COMMIT") + m.close("a") + m.FLUSH),
        Server(m.ran("COMMIT") + m.CLOSED),
        Expect(open=False),
        Client(m.parse("SELECT 1") + m.FLUSH),
        Server(m.PARSED),
        Expect(hold=STALLED, since=7, number=3),
    ],
    "a block that was ended AND CHAIN in a series without Sync holds": [
        *BEGUN,
        Client(m.run("COMMIT AND CHAIN") + m.FLUSH),
        Server(m.ran("COMMIT")),
        Expect(hold=STALLED, since=4, number=3),
    ],
    "a block that was begun in a series which then failed": [
        *STARTED,
        Client(m.run("BEGIN") + m.run("SELECT 1/0") + m.FLUSH),
        Server(m.ran("BEGIN") + m.PARSED + m.BOUND + m.error()),
        Expect(hold=STALLED, since=2),
    ],
    "a block that was begun in a series which then failed, and Queries that are discarded": [
        *STARTED,
        Client(m.run("BEGIN") + m.run("SAVEPOINT a") + m.parse("SELEC") + m.query("SELECT 1")),
        Server(m.ran("BEGIN") + m.ran("SAVEPOINT") + m.error()),
        Client(m.query("SELECT 2")),
        Expect(hold=STALLED, since=2),
    ],
    "a COPY that is discarded with its CopyDone, and one that is not": [
        *STARTED,
        Client(m.parse("bad") + m.FLUSH),
        Server(m.error()),
        Client(m.query("COPY t FROM STDIN") + m.copy_data() + m.COPY_DONE),
        Client(m.SYNC + m.query("COPY t FROM STDIN")),
        Server(m.ready("I") + m.COPY_IN),
        Expect(hold=COPY, since=5),
    ],
    "Close opens nothing": [*STARTED, Client(m.close("p") + m.FLUSH), Server(m.CLOSED), Expect(open=False)],
    "Close and Sync open nothing": [*STARTED, Client(m.close("p") + m.SYNC), Expect(open=False)],
    "what follows a Close begins by itself": [
        *STARTED,
        Client(m.close("p")),
        Client(m.run("SELECT 1") + m.FLUSH),
        Expect(open=True, number=2, last="SELECT 1"),
        Server(m.CLOSED + m.ran("SELECT 1")),
        Expect(hold=STALLED, since=4),
    ],
    "an error without the severity that is not localized (21)": [
        *BEGUN,
        Client(m.query("SELECT 1/0")),
        Server(m.message("E", m.text("SFEHLER", "C22012", "Mfalsch") + b"\0") + m.ready("E")),
        Expect(hold=FAILED, since=4),
    ],
    "FunctionCall after a COPY that failed": [
        *STARTED,
        Client(COPY_SERIES + m.SYNC),
        Server(COPY_SERIES_BEGUN),
        Client(m.copy_data() + m.COPY_DONE + m.SYNC),
        Server(m.error() + m.ready("I")),
        Client(m.message("F", b"\0" * 14)),
        Server(m.message("V", b"\0" * 4) + m.ready("T")),
        Expect(hold=IDLE, since=6),
    ],
    "a Parse that the server discards does not replace a statement": [
        *BEGUN,
        Client(m.parse("DELETE FROM t", "s1") + m.SYNC),
        Server(m.PARSED + m.ready("T")),
        Client(m.parse("bad") + m.FLUSH),
        Server(m.error()),
        Client(m.parse("SELECT 1", "s1") + m.SYNC),
        Server(m.ready("T")),
        Client(m.bind("s1") + m.execute() + m.SYNC),
        Server(m.BOUND + m.complete("DELETE 1") + m.ready("T")),
        Expect(hold=IDLE, last="DELETE FROM t"),
    ],
    "a suspended portal inside a block (16)": [
        *BEGUN,
        Client(m.parse("SELECT * FROM t") + m.bind() + m.execute(rows=1) + m.SYNC),
        Server(m.PARSED + m.BOUND + m.row() + m.SUSPENDED + m.ready("T")),
        Expect(hold=IDLE, since=4, last="SELECT * FROM t"),
    ],
    "what comes at any time moves nothing (17)": [
        *BEGUN,
        Server(m.NOTICE + m.NOTIFICATION + m.parameter_status("application_name", "other")),
        Expect(hold=IDLE, since=2),
    ],
    "COPY FROM STDIN without data, outside a block": [
        *COPYING,
        Expect(hold=COPY, since=2, last="COPY t FROM STDIN"),
        Client(m.copy_data()[:3]),
        Expect(hold=COPY, since=4),
        Client(m.copy_data()[3:] + m.COPY_DONE),
        Expect(open=True),
        Server(m.queried("COPY 1", "I")),
        Expect(open=False),
    ],
    "COPY FROM STDIN inside a block is a write": [
        *BEGUN,
        Client(m.query("COPY t FROM STDIN")),
        Server(m.COPY_IN),
        Expect(hold=COPY, since=4),
        Client(m.copy_data() + m.COPY_DONE),
        Server(m.queried("COPY 1", "T")),
        Expect(hold=IDLE, since=7, first_write="COPY t FROM STDIN"),
    ],
    "COPY TO STDOUT is the server's turn": [
        *BEGUN,
        Client(m.query("COPY t TO STDOUT")),
        Server(m.COPY_OUT + m.copy_data()),
        Expect(open=True),
        Server(m.COPY_DONE + m.queried("COPY 1", "T")),
        Expect(hold=IDLE, since=6, first_write=""),
    ],
    "CopyFail": [*COPYING, Client(m.copy_fail()), Server(m.error("57014") + m.ready("I")), Expect(open=False)],
    "late CopyData and CopyDone after a failed COPY are discarded (14)": [
        *COPYING,
        Client(m.copy_data()),
        Server(m.error() + m.ready("I")),
        Expect(open=False),
        Client(m.copy_data() + m.COPY_DONE),
        Expect(open=False),
        Client(m.query("SELECT 1")),
        Server(m.queried("SELECT 1", "I")),
        Expect(open=False),
    ],
    "CopyDone that was sent before the COPY began": [
        *STARTED,
        Client(m.query("COPY t FROM STDIN") + m.copy_data() + m.COPY_DONE),
        Server(m.COPY_IN),
        Expect(open=True),
        Server(m.queried("COPY 1", "I")),
        Expect(open=False),
    ],
    "two COPY in one Query": [
        *STARTED,
        Client(m.query("COPY a FROM STDIN; COPY b FROM STDIN")),
        Server(m.COPY_IN),
        Client(m.COPY_DONE),
        Server(m.complete("COPY 0") + m.COPY_IN),
        Expect(hold=COPY, since=4),
        Client(m.COPY_DONE),
        Server(m.queried("COPY 0", "I")),
        Expect(open=False),
    ],
    "libpq's COPY in a series: the first Sync is read in copy mode (14)": [
        *STARTED,
        Client(COPY_SERIES + m.SYNC),
        Server(COPY_SERIES_BEGUN),
        Expect(hold=COPY, since=2),
        Client(m.copy_data() + m.COPY_DONE + m.SYNC),
        Expect(open=True),
        Server(m.complete("COPY 1") + m.ready("I")),
        Expect(open=False),
    ],
    "a COPY in a series that fails: one ReadyForQuery (14)": [
        *BEGUN,
        Client(COPY_SERIES + m.SYNC),
        Server(COPY_SERIES_BEGUN),
        Client(m.copy_data() + m.COPY_DONE + m.SYNC),
        Server(m.error()),
        Expect(open=True),
        Server(m.ready("E")),
        Expect(hold=FAILED, since=8),
        Client(m.query("ROLLBACK")),
        Server(m.queried("ROLLBACK", "I")),
        Expect(open=False),
    ],
    "a COPY in a series that fails: two ReadyForQuery (14)": [
        *BEGUN,
        Client(COPY_SERIES + m.SYNC),
        Server(COPY_SERIES_BEGUN),
        Client(m.copy_data() + m.COPY_DONE + m.SYNC),
        Server(m.error() + m.ready("E") + m.ready("E")),
        Expect(hold=FAILED, since=6),
        Client(m.query("ROLLBACK")),
        Server(m.queried("ROLLBACK", "I")),
        Expect(open=False),
    ],
    "FunctionCall (12)": [
        *BEGUN,
        Client(m.message("F", b"\0" * 14)),
        Expect(open=True),
        Server(m.message("V", b"\0" * 4) + m.ready("T")),
        Expect(hold=IDLE, since=5),
    ],
    "the text behind a named statement and a named portal": [
        *BEGUN,
        Client(m.parse("DELETE FROM t", "s1") + m.SYNC),
        Server(m.PARSED + m.ready("T")),
        Client(m.bind("s1", "p1", b"secret") + m.execute("p1") + m.SYNC),
        Server(m.BOUND + m.complete("DELETE 1") + m.ready("T")),
        Expect(hold=IDLE, last="DELETE FROM t", first_write="DELETE FROM t"),
    ],
    "FATAL ends everything (21)": [*BEGUN, Server(m.error("57P01", "FATAL")), Expect(open=False)],
    "Terminate: what was held can still be told": [*BEGUN, Client(m.TERMINATE), Expect(hold=IDLE, since=2)],
    "a result of many bytes is skipped, not kept (22)": [
        *BEGUN,
        Client(m.query("SELECT " + "x" * 300)),
        Server(m.DESCRIBED + m.row(b"y" * 300) + m.queried("SELECT 1", "T")),
        Expect(hold=IDLE),
    ],
    "an unknown type of message (23)": [*BEGUN, Client(m.message("!")), Expect(opaque=True)],
    "a length below four (23)": [*BEGUN, Client(b"Q\0\0\0\3"), Expect(opaque=True)],
    "a negative length (23)": [*BEGUN, Server(b"D\xff\xff\xff\xff"), Expect(opaque=True)],
    "an answer that nobody asked for": [*BEGUN, Server(m.ready("T")), Expect(opaque=True)],
    "more replies than messages": [*BEGUN, Client(m.run("SELECT 1")), Server(m.PARSED * 5), Expect(opaque=True)],
    "a transaction status of tomorrow": [*BEGUN, Client(m.query("")), Server(m.ready("?")), Expect(opaque=True)],
    "replication in an ordinary session": [*BEGUN, Server(m.message("W", b"\0\0\0")), Expect(opaque=True)],
}


@pytest.mark.protocol(10, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23)
@pytest.mark.parametrize("name", TRANSCRIPTS)
def test_transcript(name: str) -> None:
    for cut in cuts(TRANSCRIPTS[name]):
        play(TRANSCRIPTS[name], cut)


@pytest.mark.protocol(14)
def test_a_copy_that_failed_is_uncertain_until_the_next_answer() -> None:
    failed = TRANSCRIPTS["a COPY in a series that fails: one ReadyForQuery (14)"]
    assert not play(failed[:9], Cut()).flow.due.certain
    assert play(failed, Cut()).flow.due.certain


def test_idle_time_is_the_sum_of_the_waits() -> None:
    steps: list[Step] = [*BEGUN, Client(m.query("SELECT 1")), Server(m.queried("SELECT 1", "T"))]
    steps += [Client(m.query("SELECT 1"))]
    assert play(steps, Cut()).flow.transaction.idle == 2.0  # from step 2 to 3, and from 4 to 5


def test_who_and_which_backend() -> None:
    tracker = play([*STARTED, Server(m.parameter_status("application_name", "worker"))], Cut(everywhere=True))
    assert tracker.flow.backend.parameters["application_name"] == "worker"
    assert tracker.flow.backend.pid == 4711
    assert tracker.flow.backend.cancel_key == b"\x01\x02\x03\x04"


@pytest.mark.protocol(15)
def test_only_a_prepare_can_be_told_from_a_statement() -> None:
    assert play(TRANSCRIPTS["asyncpg's prepare (15)"], Cut()).flow.only_parsed
    assert not play(TRANSCRIPTS["Flush without Sync inside a block (15)"], Cut()).flow.only_parsed


@pytest.mark.parametrize(
    ("steps", "outcome"),
    [
        ([Client(m.query("INSERT INTO t VALUES (1)")), Server(m.queried("INSERT 0 1", "I"))], "commit"),
        ([Client(m.query("SELECT 1/0")), Server(m.error() + m.ready("I"))], "rollback"),
        ([Client(m.run("INSERT INTO t VALUES (1)") + m.SYNC), Server(m.ran("INSERT 0 1") + m.error())], "rollback"),
        ([Client(m.message("F", b"\0" * 14)), Server(m.error())], "rollback"),
        ([Client(m.query("ROLLBACK TO a; ROLLBACK")), Server(m.complete("ROLLBACK") * 2)], "rollback"),
        ([Client(m.query("COMMIT")), Server(m.queried("ROLLBACK", "I"))], "rollback"),
        ([Client(m.query("COMMIT")), Server(m.queried("COMMIT", "I"))], "commit"),
        ([Client(m.query("PREPARE TRANSACTION 'x'")), Server(m.queried("PREPARE TRANSACTION", "I"))], "commit"),
    ],
)
def test_how_a_transaction_has_ended(steps: list[Step], outcome: str) -> None:
    last = steps[-1]
    assert isinstance(last, Server)
    whole: list[Step] = [*STARTED, *steps]
    if not last.data.endswith(m.ready("I")):
        whole.append(Server(m.ready("I")))
    for cut in cuts(whole):
        assert play(whole, cut).flow.transaction.outcome == outcome


def test_the_outcome_of_a_followed_transaction_is_remembered() -> None:
    tracker = play(BEGUN, Cut())
    tracker.flow.transaction.followed = tracker.flow.transaction.number
    tracker.frontend(m.query("ROLLBACK") + m.query("SELECT 1") * 2, 9.0)
    tracker.backend(m.queried("ROLLBACK", "I") + m.queried("SELECT 1", "I") * 2, 9.0)
    assert tracker.flow.transaction.followed_outcome == "rollback"
