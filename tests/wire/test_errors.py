"""Errors of every kind wherever they come, and other rare turns; numbers in names are lines of docs/protocol.md."""

import pytest

from tests import messages as m
from tests.wire.test_transcripts import BEGUN, COPY, COPYING, FAILED, IDLE, STALLED
from tests.wire.transcript import STARTED, Client, Expect, Server, Step, cuts, play

FUNCTION_CALL = m.message("F", b"\0" * 14)
FATAL = m.error("57P01", "FATAL")
FAILS = m.query("SELECT 1/0")
PORTAL = m.parse("SELECT * FROM t") + m.bind() + m.execute(rows=1)
SUSPENDED = m.PARSED + m.BOUND + m.row() + m.SUSPENDED


def error(body: bytes) -> bytes:
    return m.message("E", body)


MALFORMED = {
    "nothing": b"",
    "no fields": b"\0",
    "no end": b"SERROR\0VERROR\0C22012",
    "no values": b"S\0V\0C\0\0",
    "no severity": b"C22012\0Mwrong\0\0",
    "no letters": b"\0\0\0\0\0",
    "not UTF-8": b"S\xff\xfe\0V\xff\0\0",
    "a severity of tomorrow": b"SAPOCALYPSE\0VAPOCALYPSE\0\0",
}
TRANSCRIPTS: dict[str, list[Step]] = {
    "COMMIT AND CHAIN in a block that has failed opens a live transaction (19)": [
        *BEGUN,
        Client(FAILS),
        Server(m.error() + m.ready("E")),
        Expect(hold=FAILED, since=4, number=2),
        Client(m.query("COMMIT AND CHAIN")),
        Server(m.queried("ROLLBACK", "T")),
        Expect(hold=IDLE, since=7, number=3, statements=0),
    ],
    "AND CHAIN whose text is not known (19)": [
        *BEGUN,
        Client(m.bind("forgotten") + m.execute() + m.SYNC),
        Server(m.BOUND + m.complete("COMMIT") + m.ready("T")),
        Expect(hold=IDLE, since=4, number=3),
    ],
    "an error between two statements of a Query (18)": [
        *STARTED,
        Client(m.query("SELECT 1; SELECT 1/0; SELECT 2")),
        Server(m.DESCRIBED + m.row() + m.complete("SELECT 1") + m.error()),
        Expect(open=True),
        Server(m.ready("I")),
        Expect(open=False),
    ],
    "a procedure that commits has one ReadyForQuery at its end (18)": [
        *STARTED,
        Client(m.query("CALL commits()")),
        Server(m.NOTICE),
        Expect(open=True),
        Server(m.queried("CALL", "I")),
        Expect(open=False, number=2),
    ],
    "a suspended portal outside a block, whose Sync ends it (16)": [
        *STARTED,
        Client(PORTAL + m.SYNC),
        Server(SUSPENDED),
        Expect(open=True),
        Server(m.ready("I")),
        Expect(open=False),
    ],
    "a suspended portal outside a block, without Sync (15, 16)": [
        *STARTED,
        Client(PORTAL + m.FLUSH),
        Server(SUSPENDED),
        Expect(hold=STALLED, since=2),
        Client(m.execute(rows=1) + m.FLUSH),
        Expect(open=True),
        Server(m.row() + m.SUSPENDED),
        Expect(hold=STALLED, since=6),
    ],
    "FunctionCall that fails inside a block (12)": [
        *BEGUN,
        Client(FUNCTION_CALL),
        Server(m.error()),
        Expect(open=True),
        Server(m.ready("E")),
        Expect(hold=FAILED, since=6),
    ],
    "FunctionCall that fails outside of a block (12)": [
        *STARTED,
        Client(FUNCTION_CALL + FUNCTION_CALL),
        Server(m.error() + m.ready("I")),
        Expect(open=True),
        Server(m.message("V", b"\0" * 4) + m.ready("I")),
        Expect(open=False),
    ],
    "FunctionCall that is discarded (13)": [
        *STARTED,
        Client(m.parse("bad") + FUNCTION_CALL + m.SYNC),
        Server(m.error() + m.ready("I")),
        Expect(open=False),
    ],
    "Sync and Flush in a COPY of a Query are not read (14)": [
        *COPYING,
        Client(m.SYNC + m.copy_data() + m.FLUSH + m.SYNC),
        Expect(hold=COPY, since=3),
        Client(m.COPY_DONE),
        Server(m.queried("COPY 1", "I")),
        Expect(open=False),
        Client(m.query("BEGIN")),
        Server(m.queried("BEGIN", "T")),
        Expect(hold=IDLE, since=9),
    ],
    "a COPY of a Query that fails behind a Sync: nobody knows what is due, nothing is judged (14)": [
        *COPYING,
        Client(m.SYNC + m.copy_data()),
        Server(m.error() + m.ready("I")),
        Expect(opaque=True),
    ],
    "a COPY that fails before its CopyInResponse (14)": [
        *BEGUN,
        Client(m.query("COPY missing FROM STDIN") + m.copy_data() + m.COPY_DONE),
        Server(m.error() + m.ready("E")),
        Expect(hold=FAILED, since=4),
        Client(m.query("ROLLBACK")),
        Server(m.queried("ROLLBACK", "I")),
        Expect(open=False),
    ],
    "a COPY that fails in the commit of its Sync (14)": [
        *STARTED,
        Client(m.run("COPY t FROM STDIN") + m.FLUSH),
        Server(m.PARSED + m.BOUND + m.NO_DATA + m.COPY_IN),
        Client(m.copy_data() + m.COPY_DONE + m.SYNC),
        Server(m.complete("COPY 1") + m.error("23505") + m.ready("I")),
        Expect(open=False),
    ],
    "COPY TO STDOUT that fails before its first row": [
        *BEGUN,
        Client(m.query("COPY (SELECT 1/0) TO STDOUT")),
        Server(m.COPY_OUT + m.error() + m.ready("E")),
        Expect(hold=FAILED, since=4),
    ],
    "COPY TO STDOUT that fails in the middle of a series": [
        *STARTED,
        Client(m.run("COPY t TO STDOUT") + m.run("SELECT 1") + m.SYNC),
        Server(m.PARSED + m.BOUND + m.NO_DATA + m.COPY_OUT + m.copy_data() + m.error()),
        Expect(open=True),
        Server(m.ready("I")),
        Expect(open=False),
    ],
    "what comes at any time comes between an error and its ReadyForQuery too (17)": [
        *BEGUN,
        Client(FAILS),
        Server(m.NOTICE + m.error() + m.NOTICE + m.parameter_status("application_name", "x")),
        Expect(open=True),
        Server(m.NOTICE + m.ready("E")),
        Expect(hold=FAILED, since=6),
    ],
    "FATAL while it starts (10)": [Server(m.AUTHENTICATED + FATAL), Expect(open=False)],
    "FATAL while a statement runs (21)": [*BEGUN, Client(m.query("SELECT 1")), Server(FATAL), Expect(open=False)],
    "FATAL in the middle of a pipeline (21)": [
        *BEGUN,
        Client((m.run("SELECT 1") + m.SYNC) * 3),
        Server(m.ran("SELECT 1") + m.ready("T") + FATAL),
        Expect(open=False),
    ],
    "FATAL in a stalled series (21)": [
        *STARTED,
        Client(m.run("SELECT 1") + m.FLUSH),
        Server(m.ran("SELECT 1")),
        Server(FATAL),
        Expect(open=False),
    ],
    "FATAL in a COPY, behind the error that it is for (14, 21)": [
        *COPYING,
        Client(m.query("SELECT 1")),
        Expect(opaque=True),
        Server(m.error("08P01") + m.error("08P01", "FATAL")),
        Expect(opaque=True),
    ],
    "a second FATAL (21)": [*BEGUN, Server(FATAL + FATAL), Expect(open=False)],
    "FATAL that only the severity which is not localized tells (21)": [
        *BEGUN,
        Server(error("SZÁVAŽNÁ\0VFATAL\0C57P01\0\0".encode())),
        Expect(open=False),
    ],
    "FATAL of a server that does not know the other severity (21)": [
        *BEGUN,
        Server(error(b"SFATAL\0C57P01\0\0")),
        Expect(open=False),
    ],
    "a session without BackendKeyData, and with options of the protocol (6)": [
        Server(m.AUTHENTICATED + m.message("v", b"\0\3\0\0\0\0\0\1_pq_.x\0") + m.ready("I")),
        Client(m.query("BEGIN")),
        Server(m.queried("BEGIN", "T")),
        Expect(hold=IDLE, since=2, number=2),
    ],
    **{
        f"a malformed error ({kind}) in a block (21)": [
            *BEGUN,
            Client(FAILS),
            Server(error(body) + m.ready("E")),
            Expect(hold=FAILED, since=4),
        ]
        for kind, body in MALFORMED.items()
    },
    **{
        f"a malformed error ({kind}) in a series (13, 21)": [
            *STARTED,
            Client(m.run("SELECT 1/0") + m.query("SELECT 1") + m.SYNC),
            Server(m.PARSED + m.BOUND + error(body) + m.ready("I")),
            Expect(open=False),
        ]
        for kind, body in MALFORMED.items()
    },
}


@pytest.mark.protocol(6, 10, 12, 13, 14, 15, 16, 17, 18, 19, 21)
@pytest.mark.parametrize("name", TRANSCRIPTS)
def test_errors(name: str) -> None:
    for cut in cuts(TRANSCRIPTS[name]):
        play(TRANSCRIPTS[name], cut)
