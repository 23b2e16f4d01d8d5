"""Servers that are not there, and clients that are not clients: each is told, or dropped, and nobody else notices."""

import contextlib
import random
import socket
import struct
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import psutil
import psycopg
import pytest

from proxy.demo.postgres import Postgres
from proxy.report.events import (
    CancelDropped,
    LeakAbandoned,
    LeakFlagged,
    ProtocolViolation,
    SessionClosed,
    SessionOpened,
    UpstreamUnreachable,
)
from proxy.settings import Address
from proxy.wire.messages import GSSENC_REQUEST_CODE, PROTOCOL_3_0, SSL_REQUEST_CODE
from tests import messages as m
from tests.conftest import StartProxy
from tests.harness import PATIENCE, Proxy, dsn, until
from tests.life.support import (
    FakeServer,
    PlainClient,
    connected,
    echo,
    exactly,
    never_answers,
    read_startup,
    serve,
)
from tests.rawclient import RawClient, fields, now

SSL = m.ssl_request(SSL_REQUEST_CODE)
GSSENC = m.ssl_request(GSSENC_REQUEST_CODE)
STARTUP = m.startup(user="postgres", database="postgres")
EARLY = 0.02  # seconds that a time limit may be early: the loop's clock is coarse, and the packets take their time
LATE = 0.3  # seconds that one may be late on a busy machine


@contextlib.contextmanager
def unused_port() -> Iterator[int]:
    """A port that nobody listens on, and that nobody else is given meanwhile."""
    with socket.socket() as reserved:
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        reserved.bind(("127.0.0.1", 0))
        yield int(reserved.getsockname()[1])


@contextlib.contextmanager
def full_queue() -> Iterator[str]:
    """An address whose queue of connects is full: the kernel leaves further ones without an answer."""
    with socket.socket() as full, contextlib.ExitStack() as waiting:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for _ in range(2):
            one = waiting.enter_context(socket.socket())
            one.setblocking(False)  # noqa: FBT003 - its only argument
            one.connect_ex(full.getsockname())
        yield f"127.0.0.1:{full.getsockname()[1]}"


# The server is not there.


def test_an_upstream_that_is_not_there_is_named_and_used_once_it_is(start_proxy: StartProxy) -> None:
    with unused_port() as port:
        proxy = start_proxy(upstream=f"127.0.0.1:{port}")
        for _ in range(20):
            with PlainClient(proxy.address, STARTUP) as client:
                told = client.refused()
            assert told["C"] == "08001"
            assert told["M"] == f'could not connect to server "127.0.0.1:{port}": Connection refused'
            assert "pgleash" in told["D"]
            assert "upstream" in told["H"]
        (event,) = proxy.recorder.of(UpstreamUnreachable)
        assert (event.upstream, event.reason, event.failures) == (f"127.0.0.1:{port}", "Connection refused", 1)
    proxy.settle()
    with FakeServer(echo, port), connected(proxy.address):
        pass


def test_psycopg_shows_what_is_wrong_with_the_upstream(start_proxy: StartProxy) -> None:
    with unused_port() as port:
        proxy = start_proxy(upstream=f"127.0.0.1:{port}")
        with pytest.raises(psycopg.OperationalError, match=f'could not connect to server "127.0.0.1:{port}"'):
            psycopg.connect(host=proxy.address.host, port=proxy.address.port)


def test_a_name_that_does_not_resolve_is_named(start_proxy: StartProxy) -> None:
    proxy = start_proxy(upstream="nowhere.invalid:5432", connect_timeout="5s")  # RFC 6761, 6.4
    with PlainClient(proxy.address, STARTUP) as client:
        told = client.refused()
    assert told["C"] == "08001"
    assert told["M"].startswith('could not connect to server "nowhere.invalid:5432": ')
    assert told["M"].isprintable()
    event = proxy.recorder.wait(UpstreamUnreachable)
    assert event.upstream == "nowhere.invalid:5432"
    assert event.reason in told["M"]


def test_a_unix_socket_that_is_not_there_is_named(start_proxy: StartProxy) -> None:
    proxy = start_proxy(upstream="/nowhere:5432")
    with PlainClient(proxy.address, STARTUP) as client:
        assert client.refused()["M"] == 'could not connect to server "/nowhere:5432": No such file or directory'


def test_an_upstream_that_does_not_accept_is_given_up(start_proxy: StartProxy) -> None:
    with full_queue() as upstream:
        proxy = start_proxy(upstream=upstream, connect_timeout="300ms")
        began = now()
        with PlainClient(proxy.address, STARTUP) as client:
            told = client.refused()
        assert 0.3 - EARLY <= now() - began < 0.3 + LATE
        assert told["C"] == "08001"
        assert told["M"].endswith(": no answer within 300ms")


@pytest.mark.protocol(24)
def test_a_client_that_leaves_while_we_connect_leaves_nothing(start_proxy: StartProxy) -> None:
    with full_queue() as upstream:
        proxy = start_proxy(upstream=upstream, connect_timeout="400ms")
        PlainClient(proxy.address, STARTUP).close()
        PlainClient(proxy.address, STARTUP).reset()
        proxy.settle(timeout=2.0)


def test_an_upstream_that_says_nothing_is_given_up_at_the_authentication_timeout(start_proxy: StartProxy) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        upstream = f"127.0.0.1:{silent.getsockname()[1]}"
        proxy = start_proxy(upstream=upstream, upstream_tls__mode="disable", authentication_timeout="300ms")
        began = now()
        with PlainClient(proxy.address, STARTUP) as client:
            told = client.refused()
        assert 0.3 - EARLY <= now() - began < 0.3 + LATE
        assert told["M"] == "canceling authentication due to timeout"
        assert told["C"] == "57014"
        proxy.settle(timeout=5.0)


def test_a_client_that_owes_its_password_is_given_up_too(postgres: Postgres, start_proxy: StartProxy) -> None:
    proxy = start_proxy(authentication_timeout="300ms")
    with PlainClient(proxy.address, STARTUP) as client, postgres.connect() as judge:
        assert client.receive_until("R")[-1].body.startswith(struct.pack("!i", 10))  # AuthenticationSASL
        assert client.refused()["M"] == "canceling authentication due to timeout"
        gone = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
        until(lambda: judge.execute(gone).fetchone() == (0,), 2.0, "the backend is left")
    proxy.settle(timeout=5.0)


def test_a_session_that_has_begun_is_not_given_up(start_trusting: StartProxy) -> None:
    proxy = start_trusting(authentication_timeout="200ms", startup_timeout="200ms")
    with connected(proxy.address) as client:
        client.query("SELECT pg_sleep(0.5)")
        client.query("SELECT 1")


@pytest.mark.protocol(10)
def test_the_servers_own_refusal_arrives_whole_and_once(postgres: Postgres, start_proxy: StartProxy) -> None:
    proxy = start_proxy()
    with pytest.raises(psycopg.OperationalError, match="password authentication failed") as told:
        psycopg.connect(dsn(proxy, postgres, password="wrong"))
    assert str(told.value).count("password authentication failed") == 1
    with pytest.raises(psycopg.OperationalError, match='database "nowhere" does not exist'):
        psycopg.connect(dsn(proxy, postgres, dbname="nowhere"))
    proxy.settle(timeout=5.0)


# The client is something else.

NOT_POSTGRES = {
    "HTTP": (b"GET / HTTP/1.1\r\nHost: db\r\n\r\n", "HTTP"),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "TLS"),
    "2 GB": (struct.pack("!ii", 0x7FFFFFFF, PROTOCOL_3_0), "invalid length"),
    "a negative length": (struct.pack("!ii", -1, PROTOCOL_3_0), "invalid length"),
    "no length": (struct.pack("!ii", 0, PROTOCOL_3_0), "invalid length"),
    "10,001 bytes": (struct.pack("!ii", 10_005, PROTOCOL_3_0), "invalid length"),
    "behind SSLRequest": (SSL + b"x", "unencrypted data"),
    "a startup packet behind SSLRequest": (SSL + STARTUP, "unencrypted data"),
    "a startup packet behind GSSENCRequest": (GSSENC + STARTUP, "unencrypted data"),
    "a cancel request without a key": (m.cancel_request(1, b""), "cancel request"),
    "a cancel request with too long a key": (m.cancel_request(1, b"x" * 257), "cancel request"),
}


@pytest.mark.protocol(2, 7)
@pytest.mark.parametrize("kind", NOT_POSTGRES)
def test_what_is_not_the_protocol_is_told_so_and_closed(start_trusting: StartProxy, kind: str) -> None:
    sent, reason = NOT_POSTGRES[kind]
    proxy = start_trusting()
    with PlainClient(proxy.address, sent) as client:
        told = client.refused()
    assert told["C"] == "08P01"
    assert reason in told["M"]
    event = proxy.recorder.wait(ProtocolViolation)
    assert (event.reason, event.address, event.session) == (told["M"], "127.0.0.1", None)
    assert len(proxy.recorder.of(ProtocolViolation)) == 1
    connected(proxy.address).close()


@pytest.mark.protocol(1)
@pytest.mark.parametrize("request_code", [SSL_REQUEST_CODE, GSSENC_REQUEST_CODE])
def test_encryption_is_asked_for_once(start_trusting: StartProxy, request_code: int) -> None:
    proxy = start_trusting()
    with PlainClient(proxy.address, m.ssl_request(request_code)) as client:
        assert client.byte() == b"N"
        client.send(m.ssl_request(request_code))
        assert client.refused()["C"] == "08P01"


@pytest.mark.protocol(1)
@pytest.mark.parametrize("asked", [(SSL, GSSENC), (GSSENC, SSL), (SSL,), (GSSENC,), ()], ids=len)
def test_a_session_begins_after_encryption_was_refused(start_trusting: StartProxy, asked: tuple[bytes, ...]) -> None:
    proxy = start_trusting()
    with PlainClient(proxy.address) as client:
        for request in asked:
            client.send(request)
            assert client.byte() == b"N"
        client.log_in()
        assert [message.kind for message in client.query("SELECT 1")] == ["T", "D", "C", "Z"]


@pytest.mark.protocol(7)
def test_first_packets_may_come_byte_by_byte(start_trusting: StartProxy) -> None:
    proxy = start_trusting()
    with PlainClient(proxy.address) as client:
        for byte in SSL:
            client.send(bytes([byte]))
        assert client.byte() == b"N"
        for byte in STARTUP:
            client.send(bytes([byte]))
        client.logged_in()
        client.query("SELECT 1")


@pytest.mark.protocol(7)
def test_what_comes_with_the_startup_packet_is_not_lost(start_trusting: StartProxy) -> None:
    proxy = start_trusting()
    with PlainClient(proxy.address, STARTUP + m.query("BEGIN") + m.query("SELECT 1")) as client:
        client.logged_in()
        client.receive_until("Z")
        assert "D" in {message.kind for message in client.receive_until("Z")}


@pytest.mark.protocol(7)
def test_a_startup_packet_that_drips_is_closed_in_time(start_trusting: StartProxy) -> None:
    proxy = start_trusting(startup_timeout="300ms")
    began = now()
    with PlainClient(proxy.address) as client:
        client.socket.settimeout(0.02)
        closed = False
        for byte in STARTUP * 10:
            try:
                client.send(bytes([byte]))
                closed = client.byte() == b""
            except TimeoutError:  # nothing came
                continue
            except ConnectionError:
                closed = True
            if closed:
                break
    assert closed
    assert 0.3 - EARLY <= now() - began < 0.3 + LATE
    assert proxy.recorder.of(ProtocolViolation) == []


def test_a_client_that_says_nothing_is_closed_in_time(start_trusting: StartProxy) -> None:
    proxy = start_trusting(startup_timeout="300ms")
    began = now()
    with PlainClient(proxy.address, SSL) as client:
        assert client.byte() == b"N"
        with contextlib.suppress(ConnectionResetError):
            assert client.byte() == b""
    assert 0.3 - EARLY <= now() - began < 0.3 + LATE


# Cancel requests.


def asleep(client: PlainClient, judge: psycopg.Connection) -> None:
    """Run a statement that takes long, and wait until it does."""
    client.send(m.query("SELECT pg_sleep(30)"))
    waits = "SELECT wait_event FROM pg_stat_activity WHERE pid = %s"
    until(lambda: judge.execute(waits, [client.backend_pid]).fetchone() == ("PgSleep",), what="it does not sleep")


@pytest.mark.protocol(5, "a cancel request for somebody else")
def test_a_cancel_request_stops_the_session_that_is_meant_and_is_never_answered(
    trusting: Postgres, start_trusting: StartProxy
) -> None:
    proxy = start_trusting()
    with connected(proxy.address) as meant, connected(proxy.address) as other, trusting.connect() as judge:
        asleep(meant, judge)
        asleep(other, judge)
        with PlainClient(proxy.address, m.cancel_request(meant.backend_pid, meant.cancel_key)) as canceller:
            assert canceller.byte() == b""
        (error,) = [message for message in meant.receive_until("Z") if message.kind == "E"]
        assert fields(error)["C"] == "57014"
        still = "SELECT state, wait_event FROM pg_stat_activity WHERE pid = %s"
        assert judge.execute(still, [other.backend_pid]).fetchone() == ("active", "PgSleep")
        meant.query("SELECT 1")
    assert proxy.recorder.of(ProtocolViolation) == []


@pytest.mark.protocol(5, "a cancel request for somebody else")
def test_a_cancel_request_with_a_wrong_key_hurts_nobody(trusting: Postgres, start_trusting: StartProxy) -> None:
    proxy = start_trusting()
    with connected(proxy.address) as client, trusting.connect() as judge:
        asleep(client, judge)
        wrong = bytes(byte ^ 1 for byte in client.cancel_key)
        for pid in (client.backend_pid, client.backend_pid + 1):
            with PlainClient(proxy.address, m.cancel_request(pid, wrong)) as canceller:
                assert canceller.byte() == b""
        still = "SELECT state, wait_event FROM pg_stat_activity WHERE pid = %s"
        assert judge.execute(still, [client.backend_pid]).fetchone() == ("active", "PgSleep")


def test_libpq_can_cancel(postgres: Postgres, start_proxy: StartProxy) -> None:
    proxy = start_proxy()
    with (
        psycopg.connect(dsn(proxy, postgres), autocommit=True) as connection,
        postgres.connect() as judge,
        ThreadPoolExecutor() as other,
    ):
        cancelled = other.submit(connection.execute, "SELECT pg_sleep(30)")
        waits = "SELECT wait_event FROM pg_stat_activity WHERE pid = %s"
        pid = connection.info.backend_pid
        until(lambda: judge.execute(waits, [pid]).fetchone() == ("PgSleep",), what="it does not sleep")
        connection.cancel_safe()
        with pytest.raises(psycopg.errors.QueryCanceled, match="canceling statement due to user request"):
            cancelled.result(PATIENCE)
        connection.execute("SELECT 1")


@pytest.mark.protocol(5)
def test_a_cancel_request_of_another_proxys_session_goes_to_the_server_as_it_came(start_proxy: StartProxy) -> None:
    packets: list[bytes] = []

    def keep(connection: socket.socket) -> None:
        packets.append(read_startup(connection))

    with FakeServer(keep) as server:
        proxy = start_proxy(upstream=server.address)
        packet = m.cancel_request(4711, b"\x01\x02\x03\x04")
        with PlainClient(proxy.address, packet) as canceller:
            assert canceller.byte() == b""
        assert packets == [packet[4:]]


@pytest.mark.protocol(5)
def test_a_storm_of_cancel_requests_has_a_quota_of_its_own(start_proxy: StartProxy) -> None:
    packet = m.cancel_request(4711, b"\x01\x02\x03\x04")
    with FakeServer(never_answers) as server, contextlib.ExitStack() as storm:
        proxy = start_proxy(upstream=server.address, max_cancels="5", log__level="debug")
        for _ in range(5):
            storm.enter_context(PlainClient(proxy.address, packet))
        until(lambda: server.accepted == 5)
        for _ in range(20):
            with PlainClient(proxy.address, packet) as one_too_many:
                assert one_too_many.byte() == b""  # at once: the others wait for the server
        dropped = proxy.recorder.wait(CancelDropped)
        assert (dropped.dropped, dropped.limit, server.accepted) == (1, 5, 5)
        assert len(proxy.recorder.of(CancelDropped)) == 1  # a line a second
        with PlainClient(proxy.address) as client:  # sessions go on
            client.log_in()


# Too many clients.


def test_one_session_too_many_is_refused_and_the_next_one_is_not(start_trusting: StartProxy) -> None:
    proxy = start_trusting(max_sessions="2")
    with connected(proxy.address), connected(proxy.address) as second:
        for _ in range(3):
            with PlainClient(proxy.address, STARTUP) as third:
                told = third.refused()
            assert (told["C"], told["M"]) == ("53300", "sorry, too many clients already")
            assert "max_sessions" in told["D"]
        second.send(m.TERMINATE)
        second.close()
        proxy.settle(1)
        connected(proxy.address).close()


@pytest.mark.protocol(5)
def test_a_cancel_request_is_heard_when_there_is_no_room_for_a_session(
    trusting: Postgres, start_trusting: StartProxy
) -> None:
    proxy = start_trusting(max_sessions="1")
    with connected(proxy.address) as client, trusting.connect() as judge:
        asleep(client, judge)
        with PlainClient(proxy.address, m.cancel_request(client.backend_pid, client.cancel_key)) as canceller:
            assert canceller.byte() == b""
        assert fields(client.receive_until("E")[-1])["C"] == "57014"


def knock(address: Address, times: int) -> None:
    """Connect and close at once, one way or the other, then wait until all of it has been dealt with."""
    linger = struct.pack("ii", 1, 0)
    for number in range(times):
        with socket.create_connection(address) as visitor:
            if number % 2:
                visitor.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    with PlainClient(address, SSL) as last:
        assert last.byte() == b"N"


@pytest.mark.protocol(11)
def test_ten_thousand_health_checks_leave_no_line_and_no_memory(trusting: Postgres) -> None:
    with serve(trusting, log__level="info") as program:
        knock(program.address, 1000)
        process = psutil.Process(program.process.pid)
        before, descriptors = process.memory_info().rss, process.num_fds()
        knock(program.address, 10_000)
        assert process.memory_info().rss - before < 5_000_000
        until(lambda: process.num_fds() <= descriptors, what="descriptors are left")
        connected(program.address).close()
        program.tell()
        assert program.ended() == 0
    assert [record["event"] for record in program.records] == ["proxy.started", "proxy.draining", "proxy.stopped"]
    assert program.errors == []


@pytest.mark.protocol("a listener that spins")
def test_more_clients_than_descriptors_do_not_end_the_listener(trusting: Postgres) -> None:
    """Nor make it spin, nor fill the log (pgbouncer 654)."""
    if not hasattr(psutil.Process, "rlimit"):
        pytest.skip("this system does not let us set another process's limits")
    with serve(trusting, max_sessions="10") as program:
        address = program.address
        process = psutil.Process(program.process.pid)
        before, hard = process.num_fds(), process.rlimit(psutil.RLIMIT_NOFILE)[1]
        process.rlimit(psutil.RLIMIT_NOFILE, (before + 10, hard))
        with contextlib.ExitStack() as visitors:
            for _ in range(30):
                visitors.enter_context(PlainClient(address))
            busy = process.cpu_percent(0.5)
        until(lambda: process.num_fds() <= before, what="descriptors are left")
        connected(address).close()
        program.tell()
        assert program.ended() == 0
    assert busy < 50, "the listener spins"
    assert [record["event"] for record in program.records] == ["proxy.started", "proxy.draining", "proxy.stopped"]
    assert len(program.errors) < 5


# What is not judged.


def holds_unflagged(client: RawClient, proxy: Proxy) -> None:
    """A hold of several limits, and the end of it and of the session."""
    client.query("BEGIN")
    client.query("SELECT 1")
    with pytest.raises(AssertionError):
        proxy.recorder.wait(LeakFlagged, timeout=0.2)
    assert client.query("COMMIT")[-1].body == b"I"
    client.close()
    assert proxy.recorder.of(ProtocolViolation) == []
    proxy.settle()


@pytest.mark.protocol(9)
def test_a_replication_session_is_relayed_and_never_flagged(postgres: Postgres, start_proxy: StartProxy) -> None:
    proxy = start_proxy(flag_after="50ms", terminate_after="100ms", flag_transaction_after="50ms")
    with RawClient(dsn(proxy, postgres, replication="database")) as client:
        assert "D" in {message.kind for message in client.query("IDENTIFY_SYSTEM")}
        holds_unflagged(client, proxy)


@pytest.mark.protocol(6, "a second NegotiateProtocolVersion")
def test_a_minor_version_that_the_server_talks_down_to_one_we_know_is_judged(start_trusting: StartProxy) -> None:
    proxy = start_trusting(flag_after="50ms")
    with PlainClient(proxy.address) as client:
        answers = client.log_in(PROTOCOL_3_0 | 9999)
        (negotiated,) = [message for message in answers if message.kind == "v"]
        assert negotiated.body == struct.pack("!ii", 3 << 16 | 2, 0)
        client.query("BEGIN")
        proxy.recorder.wait(LeakFlagged)


@pytest.mark.protocol(6)
@pytest.mark.parametrize("settled", [b"", m.message("v", struct.pack("!ii", 3 << 16 | 9998, 0))])
def test_a_minor_version_that_nobody_knows_yet_is_relayed_and_never_judged(
    start_proxy: StartProxy, settled: bytes
) -> None:
    def of_tomorrow(connection: socket.socket) -> None:
        read_startup(connection)
        connection.sendall(settled + m.STARTED)
        while connection.recv(65_536):
            connection.sendall(m.queried("BEGIN", "T"))

    with FakeServer(of_tomorrow) as server:
        proxy = start_proxy(upstream=server.address, flag_after="50ms", terminate_after="100ms")
        with PlainClient(proxy.address) as client:
            client.log_in(PROTOCOL_3_0 | 9999)
            assert client.query("BEGIN")[-1].body == b"T"
            with pytest.raises(AssertionError):
                proxy.recorder.wait(LeakFlagged, timeout=0.2)
            assert proxy.recorder.of(ProtocolViolation) == []


@pytest.mark.parametrize("major", [2, 4])
def test_another_major_version_is_for_the_server_to_refuse(start_trusting: StartProxy, major: int) -> None:
    proxy = start_trusting()
    with PlainClient(proxy.address, m.startup(major << 16, user="postgres")) as client:
        told = b"".join(iter(lambda: client.socket.recv(4096), b""))  # to a client of 2.0 in the words of 2.0
        assert told.startswith(b"E")
        assert told.count(b"unsupported frontend protocol") == 1
    proxy.settle(timeout=5.0)


@pytest.mark.protocol(23)
def test_garbage_reaches_the_server_whose_answer_reaches_the_client(start_trusting: StartProxy) -> None:
    proxy = start_trusting(flag_after="100ms")
    with connected(proxy.address) as client:
        client.send(b"\x00\x01\x02garbage" * 10)
        (told,) = client.everything()
        assert fields(told)["C"] == "08P01"
        assert fields(told)["M"] == "invalid frontend message type 0"
    event = proxy.recorder.wait(ProtocolViolation)
    assert event.reason == "a message of unknown type 0x00"
    assert event.session
    assert event.session.backend_pid == client.backend_pid
    assert len(proxy.recorder.of(ProtocolViolation)) == 1
    proxy.settle()


@pytest.mark.protocol(23)
def test_a_session_that_is_not_understood_is_relayed_for_ever(start_proxy: StartProxy) -> None:
    garbage = b"\x00" + random.Random(1).randbytes(300_000)  # noqa: S311 - the same every time
    with FakeServer(echo) as server:
        proxy = start_proxy(upstream=server.address, flag_after="50ms", terminate_after="100ms")
        with connected(proxy.address) as client:
            for sent in (garbage, m.query("BEGIN"), m.ready("T"), garbage):
                client.send(sent)
                assert exactly(client.socket, len(sent)) == sent
            with pytest.raises(AssertionError):
                proxy.recorder.wait(LeakFlagged, timeout=0.2)
            client.send(b"still here")
            assert exactly(client.socket, 10) == b"still here"
        proxy.settle(timeout=2.5)
    assert len(proxy.recorder.of(ProtocolViolation)) == 1
    assert proxy.recorder.of(LeakAbandoned) == []


def test_a_server_that_is_none_is_relayed_too(start_proxy: StartProxy) -> None:
    def web_server(connection: socket.socket) -> None:
        read_startup(connection)
        connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    with FakeServer(web_server) as server:
        proxy = start_proxy(upstream=server.address)
        with PlainClient(proxy.address, STARTUP) as client:
            assert exactly(client.socket, 28) == b"HTTP/1.1 400 Bad Request\r\n\r\n"
            assert client.byte() == b""
        proxy.settle(timeout=5.0)


@pytest.mark.protocol(11)
@pytest.mark.parametrize("kind", ["a health check", "half a packet"])
def test_a_client_that_leaves_before_it_asked_for_anything_is_not_logged(start_trusting: StartProxy, kind: str) -> None:
    proxy = start_trusting()
    before = len(proxy.recorder.events)
    for _ in range(20):
        with PlainClient(proxy.address, b"" if kind == "a health check" else STARTUP[:7]):
            pass
        PlainClient(proxy.address).reset()
    connected(proxy.address).close()
    proxy.settle()
    told = [event for _, event in proxy.recorder.events[before:]]
    assert all(isinstance(event, SessionOpened | SessionClosed) for event in told)
    assert len(told) == 2


def test_what_a_server_says_before_it_is_asked_reaches_the_client(start_proxy: StartProxy) -> None:
    """A postmaster that cannot fork says so as soon as somebody connects."""

    def cannot_fork(connection: socket.socket) -> None:
        connection.sendall(m.error("53200", "FATAL"))
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(1000):
            pass

    with FakeServer(cannot_fork) as server:
        proxy = start_proxy(upstream=server.address)
        for _ in range(50):
            with PlainClient(proxy.address, STARTUP) as client:
                assert client.refused()["C"] == "53200"
        proxy.settle()
