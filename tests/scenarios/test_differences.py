"""What is not the same in all versions; that it is the same through the proxy; and how it is, for the table."""

import contextlib
import re
import socket
import ssl
from collections.abc import Iterator, Sequence

import pytest

from proxy.report.events import ProtocolViolation
from tests import messages as m
from tests.behaviour.support import run_copy, understanding
from tests.behaviour.test_truth import STATES, belief_of
from tests.conftest import StartProxy
from tests.harness import Proxy, until
from tests.life.support import PlainClient
from tests.rawclient import Message, fields
from tests.scenarios.conftest import Differs
from tests.scenarios.support import address_of, both, log_in
from tests.servers.server import RealPostgres

GROUP = "protocol and cancel"
OLDEST = {
    "DateStyle",
    "IntervalStyle",
    "TimeZone",
    "application_name",
    "client_encoding",
    "integer_datetimes",
    "is_superuser",
    "server_encoding",
    "server_version",
    "session_authorization",
    "standard_conforming_strings",
}
SCHEMA = re.compile(rb"pg_temp_\d+")
LAST = "the last row"

COPIED = m.query("CREATE TEMP TABLE copied (a int UNIQUE)")
COPY = "COPY copied FROM STDIN"
MERGE = "MERGE INTO copied USING (SELECT 1 AS a) b ON copied.a = b.a WHEN NOT MATCHED THEN INSERT VALUES (b.a)"
REFUSING = m.query(
    "CREATE FUNCTION pg_temp.refuse() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE ''refused''; END';"
    "CREATE TRIGGER refuse BEFORE INSERT ON copied FOR STATEMENT EXECUTE FUNCTION pg_temp.refuse()"
)
PROCEDURE = m.query("CREATE PROCEDURE pg_temp.twice() LANGUAGE plpgsql AS 'BEGIN COMMIT; PERFORM 1; COMMIT; END'")

# What is sent, and after which type of message the next of it.
Transcript = list[tuple[bytes, str]]
TRANSCRIPTS: dict[str, Transcript] = {
    "MERGE": [(COPIED, "Z"), (m.query(MERGE), "Z")],
    "SET search_path": [(m.query("SET search_path TO public"), "Z")],
    "SET SESSION AUTHORIZATION": [(m.query("SET SESSION AUTHORIZATION postgres"), "Z")],
    "SHOW transaction_timeout": [(m.query("SHOW transaction_timeout"), "Z")],
    "SHOW idle_session_timeout": [(m.query("SHOW idle_session_timeout"), "Z")],
    "SHOW client_connection_check_interval": [(m.query("SHOW client_connection_check_interval"), "Z")],
    "Query behind Execute and in front of Sync": [(m.run("SELECT 1") + m.query("SELECT 2") + m.SYNC, "Z")],
    "the same, in a block": [(m.query("BEGIN"), "Z"), (m.run("SELECT 1") + m.query("SELECT 2") + m.SYNC, "Z")],
    "failing Execute, Query, Sync": [(m.run("SELECT 1/0") + m.query("SELECT 2") + m.SYNC, "Z")],
    "Query of several statements, one of which fails": [(m.query("SELECT 1; SELECT 1/0; SELECT 2"), "Z")],
    "BEGIN and COMMIT in a series": [(m.run("BEGIN") + m.run("SELECT 1") + m.run("COMMIT") + m.SYNC, "Z")],
    "COMMIT in a series outside of a block": [(m.run("SELECT 1") + m.run("COMMIT") + m.SYNC, "Z")],
    "SAVEPOINT in a series outside of a block": [(m.run("SELECT 1") + m.run("SAVEPOINT a") + m.SYNC, "Z")],
    "SET LOCAL in a series outside of a block": [
        (m.run("SELECT 1") + m.run("SET LOCAL work_mem TO '1MB'") + m.SYNC, "Z")
    ],
    "LOCK first in a series": [(COPIED, "Z"), (m.run("LOCK copied") + m.run("SELECT 1") + m.SYNC, "Z")],
    "VACUUM behind another statement of a series": [(m.run("SELECT 1") + m.run("VACUUM copied") + m.SYNC, "Z")],
    "VACUUM first in a series": [(COPIED, "Z"), (m.run("VACUUM copied") + m.run("SELECT 1") + m.SYNC, "Z")],
    "a procedure that commits, in a series": [(PROCEDURE, "Z"), (m.run("CALL pg_temp.twice()") + m.SYNC, "Z")],
    "COMMIT AND CHAIN in a failed block": [(m.query("BEGIN; SELECT 1/0"), "Z"), (m.query("COMMIT AND CHAIN"), "Z")],
    "Sync in COPY, then CopyFail and Sync": [
        (COPIED, "Z"),
        (run_copy(COPY) + m.SYNC, "G"),
        (m.copy_fail() + m.SYNC, "Z"),
    ],
    "Sync in COPY, then CopyDone and Sync": [
        (COPIED, "Z"),
        (run_copy(COPY) + m.SYNC, "G"),
        (m.copy_data() + m.COPY_DONE + m.SYNC, "Z"),
    ],
    "COPY that is refused behind its CopyInResponse, then its data": [
        (COPIED, "Z"),
        (REFUSING, "Z"),
        (run_copy(COPY) + m.SYNC, "Z"),
        (m.copy_data() + m.COPY_DONE + m.SYNC, "Z"),
    ],
    "COPY with a wrong row, then more": [
        (COPIED, "Z"),
        (m.query(COPY), "G"),
        (m.copy_data(b"wrong\n") + m.copy_data() + m.COPY_DONE, "Z"),
    ],
    "COPY of the same row twice": [
        (COPIED, "Z"),
        (m.query(COPY), "G"),
        (m.copy_data(b"1\n1\n") + m.COPY_DONE, "Z"),
    ],
    "Close of a portal that is suspended": [
        (m.parse("SELECT generate_series(1, 3)") + m.bind() + m.execute(rows=1) + m.close("", "P") + m.SYNC, "Z")
    ],
}
# The same, at whose end the server ends the session.
FATAL: dict[str, Transcript] = {
    "transaction_timeout": [(m.query("SET transaction_timeout TO '200ms'"), "Z"), (m.query("BEGIN"), "Z")],
    "idle_session_timeout": [(m.query("SET idle_session_timeout TO '200ms'"), "Z")],
    "idle_in_transaction_session_timeout": [
        (m.query("SET idle_in_transaction_session_timeout TO '200ms'"), "Z"),
        (m.query("BEGIN"), "Z"),
    ],
}


def in_short(message: Message) -> str:
    """What of a message may differ, in a word or two; nothing for what is of no interest."""
    kind, body = message
    if kind in "EN":
        error = fields(Message("E", body))
        return f"{error['V']} {error['C']}"
    if kind in "CS":
        return body.split(b"\0")[0].decode()
    return {"Z": f"`{body.decode()}`", "s": "PortalSuspended"}[kind] if kind in "Zs" else ""


def shortened(messages: list[Message]) -> str:
    return ", ".join(word for word in map(in_short, messages) if word)


def receive(client: PlainClient, kind: str) -> list[Message]:
    """Everything up to the next message of this type, or to the end of the stream."""
    answers: list[Message] = []
    while (message := client.receive()) is not None:
        answers.append(Message(message.kind, SCHEMA.sub(b"pg_temp", message.body)))
        if message.kind == kind:
            break
    return answers


def play(client: PlainClient, transcript: Transcript) -> list[Message]:
    """The answers to the last of it."""
    answers: list[Message] = []
    for flight, kind in transcript:
        client.send(flight)
        answers = receive(client, kind)
    return answers


def to_the_last_row(client: PlainClient) -> Iterator[Message]:
    """What is still to come of earlier answers; how much that is may differ."""
    with contextlib.suppress(OSError):  # the server may have ended the session
        while True:
            client.send(m.query(f"SELECT '{LAST}'"))
            answers = receive(client, "Z")
            if not answers or LAST.encode() in b"".join(one.body for one in answers):
                return
            yield from answers


def assert_what_we_believe_is_true(proxy: Proxy, server: RealPostgres, client: PlainClient) -> None:
    """Soon: bytes are forwarded first, and looked at second."""
    session = proxy.session_of(client.backend_pid)
    with server.connect() as judge:
        state = "SELECT state FROM pg_stat_activity WHERE pid = %s"
        (truth,) = judge.execute(state, [client.backend_pid]).fetchone() or ("gone",)

    def is_believed() -> bool:
        belief = proxy.ask(lambda: belief_of(session))
        believed = belief.quiet and STATES[belief.status] == truth and belief.in_transaction == (truth != "idle")
        return believed and belief.opaque is None

    until(is_believed, 1.0, f"the server says {truth!r}, we do not")


@pytest.mark.parametrize("name", TRANSCRIPTS)
def test_answers_are_the_same(trusting: RealPostgres, start_trusting: StartProxy, differs: Differs, name: str) -> None:
    with understanding(start_trusting()) as proxy, both(trusting, proxy) as clients:
        last = the_same_answers(clients, TRANSCRIPTS[name])
        differs(name, last)
        if "FATAL" not in last:
            assert_what_we_believe_is_true(proxy, trusting, clients[1])


def the_same_answers(clients: Sequence[PlainClient], transcript: Transcript) -> str:
    """What the last of it is answered, directly and through the proxy."""
    seen: list[list[Message]] = []
    for client in clients:
        client.log_in()
        seen.append([*play(client, transcript), *to_the_last_row(client)])
    assert seen[0] == seen[1]
    return shortened(seen[0])


def test_a_request_in_the_middle_of_copy_data_is_answered_the_same(
    trusting: RealPostgres, start_trusting: StartProxy, differs: Differs
) -> None:
    """Whether the server goes on, and what is due then, depends on its version: such a session is not judged."""
    proxy = start_trusting()
    with both(trusting, proxy) as clients:
        transcript = [(COPIED, "Z"), (m.query(COPY), "G"), (m.query("SELECT 1"), "Z")]
        differs("Query in COPY", the_same_answers(clients, transcript))
    (violation,) = proxy.recorder.of(ProtocolViolation)
    assert violation.reason == "a request in the middle of COPY data"


@pytest.mark.parametrize("name", FATAL)
def test_timeouts_of_the_server_are_the_same(
    trusting: RealPostgres, start_trusting: StartProxy, differs: Differs, name: str
) -> None:
    with understanding(start_trusting(flag_after="never")) as proxy, both(trusting, proxy) as clients:
        seen: list[list[Message]] = []
        for client in clients:
            client.log_in()
            answers = play(client, FATAL[name][:1])
            known = "E" not in {one.kind for one in answers}
            seen.append(answers)
            if known:
                play(client, FATAL[name][1:])
                seen[-1] += client.everything()
        assert seen[0] == seen[1]
        assert sum("FATAL" in in_short(one) for one in seen[0]) == known
    differs(name, shortened(seen[0][-1:] if known else seen[0][:1]))


def test_the_greeting_is_the_same(trusting: RealPostgres, start_trusting: StartProxy, differs: Differs) -> None:
    with understanding(start_trusting()) as proxy, both(trusting, proxy) as (direct, through):
        greeting = log_in(through)
        assert greeting == log_in(direct)
    names = [one.body.split(b"\0")[0].decode() for one in greeting if one.kind == "S"]
    assert set(names) >= OLDEST
    differs("ParameterStatus at the start, beyond those of 13", ", ".join(sorted(set(names) - OLDEST)) or "none")


def speaks_direct_tls(server: RealPostgres) -> bool:
    context = ssl.create_default_context(cafile=server.certificates.ca_file)
    context.set_alpn_protocols(["postgresql"])
    with socket.create_connection(address_of(server)) as plain:
        try:
            with context.wrap_socket(plain, server_hostname="localhost") as encrypted:
                return encrypted.selected_alpn_protocol() == "postgresql"
        except (ssl.SSLError, ConnectionError):
            return False


def test_direct_tls(trusting: RealPostgres, differs: Differs) -> None:
    speaks = speaks_direct_tls(trusting)
    assert speaks == (trusting.version >= 17)
    differs("TLS without SSLRequest", "yes" if speaks else "no")
