"""TLS towards clients: every way to begin it, and what a client gets that does not."""

import contextlib
import random
import shutil
import socket
import ssl
import struct
import subprocess
from functools import partial
from pathlib import Path

import psycopg
import pytest

from proxy.demo.postgres import Postgres
from proxy.report import events
from proxy.settings import Address
from proxy.wire.messages import GSSENC_REQUEST_CODE
from tests import messages as m
from tests.conftest import StartProxy
from tests.harness import Proxy, dsn, until
from tests.life.support import PlainClient
from tests.rawclient import fields
from tests.servers.certificates import Certificates
from tests.tls.support import SSL_REQUEST, TlsClient, trusting, until_asleep

STARTUP = m.startup(user="postgres", database="postgres")


@pytest.fixture
def context(certificates: Certificates) -> ssl.SSLContext:
    return trusting(certificates.ca_file)


def connect(proxy: Proxy, postgres: Postgres, **options: str | int) -> psycopg.Connection:
    return psycopg.connect(dsn(proxy, postgres, **options), autocommit=True)


def gone(judge: psycopg.Connection, pid: int) -> bool:
    return judge.execute("SELECT count(*) FROM pg_stat_activity WHERE pid = %s", [pid]).fetchone() == (0,)


def encrypted(connection: psycopg.Connection) -> bool:
    return bool(connection.pgconn.ssl_in_use)


# Ways to begin.


@pytest.mark.parametrize("direct", [False, True], ids=["asked for", "direct"])
@pytest.mark.parametrize("mode", ["allow", "require"])
def test_a_client_that_wants_tls_has_it_and_is_judged_as_any_other(
    start_tls: StartProxy, open_postgres: Postgres, certificates: Certificates, mode: str, direct: bool
) -> None:
    proxy = start_tls(client_tls__mode=mode, flag_after="100ms")
    how = {"sslnegotiation": "direct" if direct else "postgres"}
    options = {"host": "localhost", "sslmode": "verify-full", "sslrootcert": str(certificates.ca_file)} | how
    with connect(proxy, open_postgres, application_name="secured", **options) as connection:
        assert encrypted(connection)
        rows = connection.execute("SELECT repeat('x', 10000) FROM generate_series(1, 500)").fetchall()
        assert rows == [("x" * 10_000,)] * 500
        connection.execute("BEGIN")
        connection.execute("SELECT 1")
        leak = proxy.recorder.wait(events.LeakFlagged).leak
        assert leak.client.application_name == "secured"
        connection.execute("COMMIT")
        proxy.recorder.wait(events.LeakResolved)
    proxy.settle()


def test_copy_goes_both_ways(start_tls: StartProxy, open_postgres: Postgres) -> None:
    with connect(start_tls(), open_postgres, sslmode="require") as connection, connection.cursor() as cursor:
        cursor.execute("CREATE TEMP TABLE t (a text)")
        line = b"y" * 100 + b"\n"
        with cursor.copy("COPY t FROM STDIN") as copy:
            for _ in range(300):
                copy.write(line * 100)
        with cursor.copy("COPY t TO STDOUT") as copy:
            assert sum(len(data) for data in copy) == len(line) * 30_000


def test_a_client_without_tls_is_served_where_it_is_allowed(start_tls: StartProxy, open_postgres: Postgres) -> None:
    with connect(start_tls(), open_postgres, sslmode="disable") as connection:
        assert not encrypted(connection)


def test_a_client_without_tls_is_told_to_use_it_where_it_is_required(start_tls: StartProxy) -> None:
    proxy = start_tls(client_tls__mode="require")
    with PlainClient(proxy.address, STARTUP) as client:
        told = client.refused()
    assert told["C"] == "28000"
    assert "sslmode=require" in told["H"]
    assert proxy.recorder.wait(events.ProtocolViolation).address == "127.0.0.1"


def test_a_client_that_prefers_tls_goes_on_without_it_where_it_is_not_offered(
    start_tls: StartProxy, open_postgres: Postgres
) -> None:
    proxy = start_tls(client_tls__mode="disable")
    with connect(proxy, open_postgres, sslmode="prefer") as connection:
        assert not encrypted(connection)
    with pytest.raises(psycopg.OperationalError, match="server does not support SSL"):
        connect(proxy, open_postgres, sslmode="require")


def test_there_is_no_tls_on_a_unix_socket_nor_is_it_required_there(
    start_tls: StartProxy, open_postgres: Postgres, tmp_path: Path
) -> None:
    proxy = start_tls(client_tls__mode="require", listen=str(tmp_path))
    assert proxy.address == Address(str(tmp_path), 6432)
    with connect(proxy, open_postgres, sslmode="prefer") as connection:
        assert not encrypted(connection)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(proxy.address.path)
        client.sendall(SSL_REQUEST)
        assert client.recv(2) == b"N"


# Packets within TLS.


@pytest.mark.protocol(1)
def test_gss_encryption_is_refused_before_and_within_tls(start_tls: StartProxy, context: ssl.SSLContext) -> None:
    proxy = start_tls()
    with PlainClient(proxy.address, m.ssl_request(GSSENC_REQUEST_CODE)) as client:
        assert client.byte() == b"N"
        client.send(SSL_REQUEST)
        assert client.byte() == b"S"
    with TlsClient(proxy.address, context) as client:
        client.send(m.ssl_request(GSSENC_REQUEST_CODE))
        assert client.byte() == b"N"
        client.log_in()
        assert client.query("SELECT 1")[-1].body == b"I"


@pytest.mark.protocol(4)
def test_tls_within_direct_tls_is_refused_and_the_session_begins(
    start_tls: StartProxy, context: ssl.SSLContext
) -> None:
    with TlsClient(start_tls().address, context, direct=True) as client:
        client.send(SSL_REQUEST)
        assert client.byte() == b"N"
        client.log_in()


@pytest.mark.protocol(1)
def test_tls_cannot_be_asked_for_twice(start_tls: StartProxy, context: ssl.SSLContext) -> None:
    with TlsClient(start_tls().address, context) as client:
        client.send(SSL_REQUEST)
        told = client.refused()
    assert (told["C"], told["M"]) == ("08P01", "encryption was asked for twice")


@pytest.mark.protocol(4)
def test_direct_tls_has_to_name_the_protocol(start_tls: StartProxy, certificates: Certificates) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(certificates.ca_file)
    proxy = start_tls()
    with TlsClient(proxy.address, context, direct=True) as client:
        told = client.refused()
    assert told["C"] == "08P01"
    assert "ALPN" in told["M"]
    with TlsClient(proxy.address, context) as client:  # asked for, it need not
        client.log_in()


@pytest.mark.protocol(2)
def test_what_comes_in_the_clear_together_with_the_request_ends_it(start_tls: StartProxy) -> None:
    with PlainClient(start_tls().address, SSL_REQUEST + STARTUP) as client:
        assert client.refused()["C"] == "08P01"


# Cancel requests.


@pytest.mark.protocol(5)
@pytest.mark.parametrize("how", ["clear", "TLS"])
def test_a_cancel_request_arrives_in_the_clear_and_within_tls(
    start_tls: StartProxy, open_postgres: Postgres, context: ssl.SSLContext, how: str
) -> None:
    proxy = start_tls(client_tls__mode="require")
    with TlsClient(proxy.address, context) as client:
        client.log_in()
        client.send(m.query("SELECT pg_sleep(30)"))
        until_asleep(open_postgres, client.backend_pid)
        packet = m.cancel_request(client.backend_pid, client.cancel_key)
        with TlsClient(proxy.address, context) if how == "TLS" else PlainClient(proxy.address) as canceller:
            canceller.send(packet)
            assert canceller.byte() == b""  # closed when it has been delivered
        (error,) = [answer for answer in client.receive_until("Z") if answer.kind == "E"]
        assert fields(error)["C"] == "57014"


# Handshakes that do not come to an end.


def test_a_version_below_1_2_is_refused(start_tls: StartProxy, certificates: Certificates) -> None:
    proxy = start_tls()
    context = trusting(certificates.ca_file)
    context.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1"):
        context.minimum_version, context.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
    with pytest.raises(ssl.SSLError, match=r"(?i)version"):
        TlsClient(proxy.address, context)
    assert "TLS handshake failed" in proxy.recorder.wait(events.ProtocolViolation).reason
    proxy.settle()


def test_a_client_that_does_not_trust_us_says_so_in_our_log(start_tls: StartProxy, certificates: Certificates) -> None:
    proxy = start_tls()
    with pytest.raises(ssl.SSLCertVerificationError):
        TlsClient(proxy.address, trusting(certificates.stranger_ca_file))
    assert "unknown ca" in proxy.recorder.wait(events.ProtocolViolation).reason


def test_garbage_in_place_of_a_handshake_is_refused_and_told(start_tls: StartProxy) -> None:
    proxy = start_tls()
    with PlainClient(proxy.address, SSL_REQUEST) as client:
        assert client.byte() == b"S"
        client.send(b"GET / HTTP/1.1\r\n\r\n")
        assert client.socket.recv(1000)[:1] in {b"\x15", b""}  # an alert
        with contextlib.suppress(ConnectionResetError):
            assert client.socket.recv(1000) == b""
    assert "TLS handshake failed" in proxy.recorder.wait(events.ProtocolViolation).reason


def test_a_client_that_leaves_in_the_middle_of_the_handshake_is_no_news(
    start_tls: StartProxy, context: ssl.SSLContext
) -> None:
    proxy = start_tls(startup_timeout="5s")
    hello = client_hello(context)
    for length in (0, 1, 5, len(hello) // 2, len(hello)):
        with PlainClient(proxy.address, SSL_REQUEST) as client:
            assert client.byte() == b"S"
            client.send(hello[:length])
    with TlsClient(proxy.address, context) as client:  # comes behind them
        client.log_in()
    assert proxy.recorder.of(events.ProtocolViolation) == []


def test_a_handshake_has_a_deadline(start_tls: StartProxy) -> None:
    proxy = start_tls(startup_timeout="200ms")
    with PlainClient(proxy.address, SSL_REQUEST) as client:
        assert client.byte() == b"S"
        with contextlib.suppress(ConnectionResetError):
            assert client.byte() == b""


# However the bytes come.


def client_hello(context: ssl.SSLContext) -> bytes:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    engine = context.wrap_bio(incoming, outgoing, server_hostname="localhost")
    with contextlib.suppress(ssl.SSLWantReadError):
        engine.do_handshake()
    return outgoing.read()


class ByHand:
    """TLS whose encrypted bytes the test sends as it likes."""

    def __init__(self, client: PlainClient, context: ssl.SSLContext) -> None:
        self.client = client
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.engine = context.wrap_bio(self.incoming, self.outgoing, server_hostname="localhost")

    def shake_hands(self) -> bytes:
        """The handshake up to its last bytes, which are returned, to be sent."""
        while True:
            try:
                self.engine.do_handshake()
            except ssl.SSLWantReadError:
                self.client.send(self.outgoing.read())
                self.take()
            else:
                return self.outgoing.read()

    def encrypt(self, data: bytes) -> bytes:
        self.engine.write(data)
        return self.outgoing.read()

    def take(self) -> None:
        data = self.client.socket.recv(65_536)
        self.incoming.write(data) if data else self.incoming.write_eof()

    def read_until(self, ending: bytes) -> bytes:
        data = b""
        while not data.endswith(ending):
            try:
                more = self.engine.read(65_536)
                assert more, f"the stream ended after {data!r}"
                data += more
            except ssl.SSLWantReadError:
                self.take()
        return data


@pytest.mark.protocol(3)
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=lambda v: v.name)
def test_the_startup_packet_may_come_with_the_last_of_the_handshake(
    start_tls: StartProxy, context: ssl.SSLContext, version: ssl.TLSVersion
) -> None:
    context.maximum_version = version
    proxy = start_tls()
    with PlainClient(proxy.address, SSL_REQUEST) as client:
        assert client.byte() == b"S"
        tls = ByHand(client, context)
        last = tls.shake_hands()
        client.send(last + tls.encrypt(STARTUP) + tls.encrypt(m.query("SELECT 1")) + tls.encrypt(m.TERMINATE))
        assert tls.read_until(m.ready("I")).count(m.ready("I")) >= 1
    proxy.settle()


@pytest.mark.protocol(3, 22)
def test_the_stream_may_be_cut_anywhere(start_tls: StartProxy, context: ssl.SSLContext) -> None:
    proxy = start_tls()
    dice = random.Random(7)  # noqa: S311 - where to cut
    with PlainClient(proxy.address, SSL_REQUEST) as client:
        assert client.byte() == b"S"
        tls = ByHand(client, context)
        whole = client.send

        def byte_by_byte(data: bytes) -> None:
            for position in range(len(data)):
                whole(data[position : position + 1])

        client.send = byte_by_byte  # type: ignore[method-assign]
        stream = tls.shake_hands() + tls.encrypt(STARTUP)
        stream += b"".join(tls.encrypt(m.query(f"SELECT {number}")) for number in range(20))
        while stream:
            length = dice.randint(1, 40)
            whole(stream[:length])
            stream = stream[length:]
        answers = tls.read_until(m.queried("SELECT 1", "I")[-6:])
        while answers.count(m.ready("I")) < 21:
            answers += tls.read_until(m.ready("I"))
        for number in range(20):
            assert m.row(str(number).encode()) in answers


def test_a_change_of_keys_is_answered(start_tls: StartProxy) -> None:
    """In TLS 1.3 either side may change its keys at any time, and ask the other one to. Python cannot; openssl can."""
    if (openssl := shutil.which("openssl")) is None:
        pytest.skip("openssl is not installed, and Python cannot change keys")
    address = start_tls().address
    command = [openssl, "s_client", "-connect", str(address), "-starttls", "postgres", "-tls1_3"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0
    ) as client:
        assert client.stdin
        assert client.stdout
        assert client.stderr
        client.stdin.write(STARTUP)
        said = b""
        for answered in range(4):
            while said.count(m.ready("I")) <= answered:
                more = client.stdout.read(65_536)
                assert more, said
                said += more
            client.stdin.write(b"K\n")  # a command: KeyUpdate, with a request for one
            while b"KEYUPDATE" not in client.stderr.readline():
                pass
            client.stdin.write(m.run(f"SELECT {answered}") + m.SYNC)
        client.kill()
    assert m.row(b"2") in said


# The end.


@pytest.mark.protocol("a TLS connection that closes late")
def test_a_close_does_not_wait_for_a_client_that_neither_reads_nor_closes(
    start_tls: StartProxy, context: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("proxy.ending.LINGER", 0.3)
    proxy = start_tls(terminate_after="100ms")
    with TlsClient(proxy.address, context) as client:
        client.log_in()
        client.query("BEGIN")
        proxy.recorder.wait(events.LeakTerminated)
        proxy.settle(timeout=2.0)


@pytest.mark.protocol(24, "a TLS connection that closes late")
def test_the_end_of_a_clients_stream_ends_its_backend(
    start_tls: StartProxy, context: ssl.SSLContext, open_postgres: Postgres
) -> None:
    proxy = start_tls()
    for goodbye in (True, False):  # close_notify, as it should be, or a bare FIN
        with TlsClient(proxy.address, context) as client, open_postgres.connect() as judge:
            client.log_in()
            client.query("BEGIN")
            if goodbye and isinstance(client.socket, ssl.SSLSocket):
                client.socket.setblocking(False)  # noqa: FBT003 - the standard library's
                with contextlib.suppress(ssl.SSLError, OSError):
                    client.socket.unwrap()
            else:
                client.socket.shutdown(socket.SHUT_WR)
            until(partial(gone, judge, client.backend_pid), 2.0, "the backend is left")
        assert proxy.recorder.wait(events.LeakAbandoned).how == "eof"
        proxy.recorder.events.clear()
    proxy.settle()


def test_the_last_words_reach_the_client_and_then_the_end_of_the_stream(
    start_tls: StartProxy, context: ssl.SSLContext
) -> None:
    proxy = start_tls(terminate_after="100ms")
    with TlsClient(proxy.address, context) as client:
        client.log_in()
        client.query("BEGIN")
        told = client.refused()  # to the clean end of the stream: a torn one would raise
    assert told["C"] == "25P03"
    proxy.settle()


def test_a_broken_record_ends_the_session(start_tls: StartProxy, context: ssl.SSLContext) -> None:
    proxy = start_tls()
    with PlainClient(proxy.address, SSL_REQUEST) as client:
        assert client.byte() == b"S"
        tls = ByHand(client, context)
        client.send(tls.shake_hands() + tls.encrypt(STARTUP))
        tls.read_until(m.ready("I"))
        record = tls.encrypt(m.query("SELECT 1"))
        client.send(record[:-1] + bytes((record[-1] ^ 1,)))
        with contextlib.suppress(ConnectionResetError):
            while client.socket.recv(65_536):
                pass
    proxy.settle()


@pytest.mark.protocol(17, "a notification that an idle client does not get")
def test_an_idle_client_is_given_its_notification_at_once(start_tls: StartProxy, open_postgres: Postgres) -> None:
    with connect(start_tls(), open_postgres, sslmode="require") as connection, open_postgres.connect() as other:
        connection.execute("LISTEN news")
        other.execute("NOTIFY news, 'now'")
        assert [notify.payload for notify in connection.notifies(timeout=5, stop_after=1)] == ["now"]


@pytest.mark.protocol(5, 6)
def test_a_cancel_key_of_protocol_3_2_passes(start_tls: StartProxy, context: ssl.SSLContext) -> None:
    with TlsClient(start_tls().address, context) as client:
        client.log_in(3 << 16 | 2)
        assert len(client.cancel_key) > struct.calcsize("!i")
