"""How a session begins: the server gets every byte as it came, and the client every byte of the server's answer."""

import os
import re
import signal
import socket
from collections.abc import Iterator
from struct import pack

import psutil
import psycopg
import pytest

from proxy.demo.postgres import Postgres
from proxy.report.events import LeakFlagged, LeakTerminated, ProtocolViolation
from proxy.settings import Address
from proxy.wire.messages import MAX_STARTUP_PACKET_LENGTH, PROTOCOL_3_0, PROTOCOL_3_2
from tests import messages as m
from tests.conftest import StartProxy
from tests.harness import dsn, until
from tests.life.support import FakeServer, PlainClient, connected, exactly, read_startup, speaks, trusting_postgres
from tests.life.test_endings import waits_for
from tests.rawclient import Message, RawClient, fields

GONE = "SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = %s"


@pytest.fixture(scope="module")
def judge(trusting: Postgres) -> Iterator[psycopg.Connection]:
    with trusting.connect() as connection:
        yield connection


def packet(body: bytes, protocol: int = PROTOCOL_3_0) -> bytes:
    return pack("!ii", len(body) + 8, protocol) + body


USER = m.text("user", "postgres")
STARTUPS = {
    "nothing but a version": packet(b""),
    "nothing but an end": packet(b"\0"),
    "no user": packet(m.text("database", "postgres") + b"\0"),
    "a name twice": packet(USER + m.text("user", "other", "database", "a", "database", "b") + b"\0"),
    "options": packet(USER + m.text("options", r"-c search_path=a\ b -c statement_timeout=5s --geqo=off") + b"\0"),
    "not UTF-8": packet(b"user\0\xff\xfe\0application_name\0\xc3\x28\0\0"),
    "no end": packet(b"user\0postgres"),
    "an empty value": packet(USER + m.text("options", "") + b"\0"),
    "something behind the end": packet(USER + b"\0trailing"),
    "protocol 3.2": packet(USER + b"\0", PROTOCOL_3_2),
    "options of the protocol": packet(USER + m.text("_pq_.compression", "zstd", "_pq_.", "") + b"\0", PROTOCOL_3_2),
    "a protocol of tomorrow": packet(USER + b"\0", PROTOCOL_3_0 | 9999),
    "as long as can be": packet(USER.ljust(MAX_STARTUP_PACKET_LENGTH - 4, b"x")),
}


@pytest.mark.protocol(6, 7, 8)
def test_the_server_gets_the_startup_packet_byte_for_byte(start_proxy: StartProxy) -> None:
    got: list[bytes] = []

    def keep(connection: socket.socket) -> None:
        length = exactly(connection, 4)
        got.append(length + exactly(connection, int.from_bytes(length, "big") - 4))
        connection.sendall(m.STARTED)
        connection.recv(1)

    with FakeServer(keep) as server:
        proxy = start_proxy(upstream=server.address, upstream_tls__mode="disable")
        for kind, sent in STARTUPS.items():
            with PlainClient(proxy.address, sent) as client:
                assert exactly(client.socket, len(m.STARTED)) == m.STARTED, kind
            assert got.pop() == sent, kind
    assert proxy.recorder.of(ProtocolViolation) == []


@pytest.mark.protocol(7, "half a startup packet")
def test_no_part_of_a_startup_packet_goes_out_before_the_whole(start_proxy: StartProxy) -> None:
    """Nor is a connection opened for it: it may never be completed."""
    whole = STARTUPS["a name twice"]
    with FakeServer(speaks(m.STARTED)) as server:
        proxy = start_proxy(upstream=server.address)
        for number, at in enumerate((1, 3, 4, 7, 8, 9, len(whole) // 2, len(whole) - 1)):
            with PlainClient(proxy.address, whole[:at]) as client:
                with PlainClient(proxy.address, m.ssl_request()) as other:
                    assert other.byte() == b"N"  # the proxy has been round since
                assert server.accepted == number
                client.send(whole[at:])
                client.logged_in()
                assert server.accepted == number + 1


# What the server says to it.


def answers(address: Address, protocol: int, **parameters: str) -> list[Message]:
    """What comes up to ReadyForQuery, without the key."""
    with PlainClient(address) as client:
        return [answer for answer in client.log_in(protocol, **parameters) if answer.kind != "K"]


@pytest.mark.protocol(6, "a second NegotiateProtocolVersion")
@pytest.mark.parametrize("protocol", [PROTOCOL_3_0, PROTOCOL_3_2], ids=["3.0", "3.2"])
def test_options_of_the_protocol_are_negotiated_by_the_server_alone_and_the_session_is_judged(
    trusting: Postgres, start_trusting: StartProxy, protocol: int
) -> None:
    proxy = start_trusting(flag_after="100ms")
    options = {"_pq_.one": "on", "_pq_.two": "off"}
    direct = answers(Address(trusting.host, trusting.port), protocol, **options)
    assert answers(proxy.address, protocol, **options) == direct
    assert [message.kind for message in direct].count("v") == 1
    with PlainClient(proxy.address) as client:
        client.log_in(protocol, **options)
        client.query("BEGIN")
        assert proxy.recorder.wait(LeakFlagged).leak.session.backend_pid == client.backend_pid


@pytest.mark.protocol(5, 6)
def test_a_long_cancel_key_is_relayed_known_and_used(judge: psycopg.Connection, start_trusting: StartProxy) -> None:
    proxy = start_trusting()
    with connected(proxy.address, PROTOCOL_3_2) as client:
        pid = client.backend_pid
        assert len(client.cancel_key) == 32
        client.send(m.query("SELECT pg_sleep(60)"))
        waits_for(judge, pid, "PgSleep")
        with PlainClient(proxy.address, m.cancel_request(pid, client.cancel_key)) as canceller:
            assert canceller.byte() == b""
        assert "E" in {message.kind for message in client.receive_until("Z")}
        client.send(m.query("SELECT pg_sleep(60)"))
        waits_for(judge, pid, "PgSleep")
        client.reset()  # now it is for us to cancel
        until(lambda: judge.execute(GONE, [pid]).fetchone() == (True,), 2.0, "the backend is left")


@pytest.mark.protocol(6)
def test_libpq_speaks_3_2(postgres: Postgres, start_proxy: StartProxy) -> None:
    if psycopg.pq.version() < 180000:
        pytest.skip("this libpq has no max_protocol_version")
    through = dsn(start_proxy(), postgres, max_protocol_version="latest", min_protocol_version="3.2")
    with psycopg.connect(through, autocommit=True) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
        connection.cancel_safe()


@pytest.mark.protocol(6)
def test_a_server_that_gives_no_key(start_proxy: StartProxy) -> None:
    """Its statements cannot be cancelled; all else is as ever."""
    started = m.AUTHENTICATED + m.ready("I")
    with FakeServer(speaks(started, m.queried("BEGIN", "T"), b"")) as server:
        proxy = start_proxy(upstream=server.address, flag_after="100ms", terminate_transaction_after="300ms")
        with connected(proxy.address) as client:
            assert client.query("BEGIN")[-1].body == b"T"
            assert proxy.recorder.wait(LeakFlagged).leak.session.backend_pid is None
            client.send(m.query("SELECT 1"))
            proxy.recorder.wait(LeakTerminated)
            assert [message.kind for message in client.everything()] == ["E"]
        with connected(proxy.address) as client:
            client.send(m.query("BEGIN") + m.query("SELECT 1"))
            client.reset()
        proxy.settle(timeout=3.0)
        assert server.accepted == 2, "something was cancelled"


# Replication.


@pytest.mark.protocol(9)
def test_replication_however_it_is_spelled_is_relayed_and_never_judged(
    postgres: Postgres, start_proxy: StartProxy
) -> None:
    """CopyBoth goes on until both sides are done; then the server takes commands again."""
    proxy = start_proxy(flag_after="50ms", terminate_after="100ms", terminate_transaction_after="100ms")

    def begin(through: str) -> RawClient:
        client = RawClient(through)
        told = client.query("IDENTIFY_SYSTEM")
        position = re.search(r"[0-9A-F]+/[0-9A-F]+", str(told))
        assert position
        client.send(m.query(f"START_REPLICATION PHYSICAL {position[0]}"))
        assert client.receive_until("W")[-1].kind == "W"
        return client

    def end(client: RawClient) -> list[str]:
        client.send(m.COPY_DONE)
        kinds = [message.kind for message in client.receive_until("Z") if message.kind != "d"]
        assert "D" in {message.kind for message in client.query("IDENTIFY_SYSTEM")}
        client.close()
        return kinds

    spellings = ("true", "1", "on", "yes", "TRUE", "database")
    clients = [begin(dsn(proxy, postgres, replication=spelling)) for spelling in spellings]
    with pytest.raises(AssertionError):
        proxy.recorder.wait(LeakFlagged, timeout=0.3)
    direct = end(begin(postgres.dsn(replication="true")))
    assert direct[0] == "c"
    assert [end(client) for client in clients] == [direct] * len(spellings)
    assert proxy.recorder.of(ProtocolViolation) == []
    proxy.settle()


# FATAL before authentication.


@pytest.mark.protocol(10)
@pytest.mark.parametrize("sqlstate", ["53300", "57P03", "28P01", "28000", "3D000"])
def test_a_refusal_before_authentication_arrives_whole_and_then_the_end(start_proxy: StartProxy, sqlstate: str) -> None:
    told = m.text("SFATAL", "VFATAL", f"C{sqlstate}", "M" + "refused " * 1000, "Dd", "Hh", "Fauth.c", "L1", "Rauth")
    refusal = m.message("E", told + b"\0")

    def refuse(connection: socket.socket) -> None:
        read_startup(connection)
        connection.sendall(refusal)

    with FakeServer(refuse) as server:
        proxy = start_proxy(upstream=server.address)
        with PlainClient(proxy.address, packet(USER + b"\0")) as client:
            assert exactly(client.socket, len(refusal)) == refusal
            assert client.byte() == b""
        proxy.settle()
    assert proxy.recorder.of(ProtocolViolation) == []


@pytest.mark.protocol(10)
def test_a_postmaster_that_cannot_fork_says_so_without_a_length(start_proxy: StartProxy) -> None:
    """In the words of protocol 2.0: to us it is the beginning of a message of 1.6 GB."""
    told = b"Ecould not fork new process for connection: Cannot allocate memory\n\0"

    def cannot_fork(connection: socket.socket) -> None:
        connection.sendall(told)
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(1000):
            pass

    with FakeServer(cannot_fork) as server:
        proxy = start_proxy(upstream=server.address)
        with PlainClient(proxy.address, packet(USER + b"\0")) as client:
            assert exactly(client.socket, len(told)) == told
            assert client.byte() == b""
        proxy.settle()


def refusal(address: Address, **parameters: str) -> list[Message]:
    """All that a server says to this to its end; a server that trusts everybody says so first."""
    with PlainClient(address, m.startup(PROTOCOL_3_0, **parameters)) as client:
        return client.everything()


def sqlstate_of(told: list[Message]) -> str:
    return fields(told[-1])["C"]


@pytest.mark.protocol(10)
def test_the_server_s_own_refusals_are_the_same_as_without_us(
    trusting: Postgres, judge: psycopg.Connection, start_trusting: StartProxy
) -> None:
    judge.execute("CREATE ROLE crowded LOGIN CONNECTION LIMIT 0; CREATE ROLE barred NOLOGIN")
    proxy = start_trusting()
    for parameters, sqlstate in (
        ({"user": "crowded", "database": "postgres"}, "53300"),
        ({"user": "barred", "database": "postgres"}, "28000"),
        ({"user": "postgres", "database": "missing"}, "3D000"),
        ({"user": "postgres", "options": "-c no.such=1 --wrong"}, "42601"),
        ({"database": "postgres"}, "28000"),
    ):
        direct = refusal(Address(trusting.host, trusting.port), **parameters)
        assert sqlstate_of(direct) == sqlstate
        assert refusal(proxy.address, **parameters) == direct
    judge.execute("DROP ROLE crowded; DROP ROLE barred")
    proxy.settle()


@pytest.mark.protocol(10)
def test_a_server_that_shuts_down_says_so_through_us(start_proxy: StartProxy) -> None:
    with trusting_postgres() as server:
        proxy = start_proxy(upstream=f"{server.host}:{server.port}")
        with connected(proxy.address) as client:
            os.kill(psutil.Process(client.backend_pid).ppid(), signal.SIGTERM)  # it waits for its clients
            direct = Address(server.host, server.port)
            until(
                lambda: sqlstate_of(refusal(direct, user="postgres", database="no")) == "57P03",
                what="it does not shut down",
            )
            assert refusal(proxy.address, user="postgres") == refusal(direct, user="postgres")
            client.query("SELECT 1")


@pytest.mark.protocol("a console that kills")
def test_there_is_no_console(trusting: Postgres, start_trusting: StartProxy) -> None:
    """No name of a user or of a database is ours: the server alone says who may do what."""
    proxy = start_trusting()
    for name in ("pgleash", "pgbouncer", "proxy", "admin", "console"):
        told = refusal(proxy.address, user="postgres", database=name)
        assert fields(told[-1])["M"] == f'database "{name}" does not exist'
        assert told == refusal(Address(trusting.host, trusting.port), user="postgres", database=name)
