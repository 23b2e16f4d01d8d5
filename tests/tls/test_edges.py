"""What peers do at the edges of TLS: resets, ends without a goodbye, second thoughts, silence."""

import contextlib
import gc
import socket
import ssl
import struct
import threading
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives import serialization as form
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

from proxy.errors import SettingsError
from proxy.report import events
from proxy.settings import ClientTls, ClientTlsMode
from proxy.settings.values import parse_address
from proxy.tls import contexts
from tests import messages as m
from tests.conftest import StartProxy
from tests.harness import PATIENCE, until
from tests.life.support import FakeServer, PlainClient, exactly, pgleash, read_startup
from tests.servers.certificates import Certificates
from tests.tls.support import SSL_REQUEST, TlsClient, served_by, trusting

STARTUP = m.startup(user="postgres", database="postgres")


def reset(connection: socket.socket) -> None:
    """Close it with RST."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def over_tls(certificates: Certificates, talk: Callable[[ssl.SSLSocket], object]) -> Callable[[socket.socket], None]:
    """A server that begins TLS and then does as it is told."""

    def serve(connection: socket.socket) -> None:
        exactly(connection, 8)
        connection.sendall(b"S")
        with served_by(certificates).wrap_socket(connection, server_side=True) as tls:
            talk(tls)

    return serve


# Clients.


def test_a_client_that_resets_does_not_get_around_tls(start_proxy: StartProxy, certificates: Certificates) -> None:
    """The kernel does not know the peer's name any more, and its bytes are still to be read."""
    said: list[bytes] = []

    def talk(connection: socket.socket) -> None:
        read_startup(connection)
        connection.sendall(m.STARTED)
        said.append(connection.recv(65_536))

    files = {"client_tls__cert_file": str(certificates.cert_file), "client_tls__key_file": str(certificates.key_file)}
    with FakeServer(talk) as server:
        proxy = start_proxy(upstream=server.address, client_tls__mode="require", **files)
        for _ in range(30):
            client = socket.create_connection(proxy.address)
            client.sendall(STARTUP + m.query("DROP TABLE accounts"))
            reset(client)
        until(lambda: len(proxy.recorder.of(events.ProtocolViolation)) == 30)
    assert said == []


def test_a_client_that_leaves_before_its_startup_packet_is_closed(
    start_tls: StartProxy, certificates: Certificates
) -> None:
    proxy = start_tls(startup_timeout="never")
    with TlsClient(proxy.address, trusting(certificates.ca_file)) as client:
        client.socket.settimeout(2)
        socket.socket.shutdown(client.socket, socket.SHUT_WR)
        while socket.socket.recv(client.socket, 100):  # our own goodbye, and then the end of the stream
            pass


def test_the_end_of_the_stream_without_a_goodbye_lets_the_answer_through(
    start_tls: StartProxy, certificates: Certificates
) -> None:
    with TlsClient(start_tls().address, trusting(certificates.ca_file)) as client:
        client.log_in()
        client.send(m.query("SELECT 'found', pg_sleep(0.2)"))
        socket.socket.shutdown(client.socket, socket.SHUT_WR)
        assert "Z" in [message.kind for message in client.everything()]


def test_no_session_is_remembered(start_tls: StartProxy, certificates: Certificates) -> None:
    """OpenSSL would remember twenty thousand of them."""
    proxy = start_tls()
    context = trusting(certificates.ca_file)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    for _ in range(5):
        with TlsClient(proxy.address, context) as client:
            client.log_in()
            client.send(m.TERMINATE)
            client.everything()
    assert proxy.ask(lambda: proxy.server.tls().session_stats()["number"]) == 0  # type: ignore[union-attr]


# Servers.


def test_a_server_that_resets_behind_the_handshake_is_told(start_proxy: StartProxy, certificates: Certificates) -> None:
    def talk(connection: ssl.SSLSocket) -> None:
        exactly(connection, len(STARTUP))
        reset(socket.socket(fileno=connection.detach()))

    with FakeServer(over_tls(certificates, talk)) as server:
        proxy = start_proxy(upstream=server.address, upstream_tls__mode="require")
        with PlainClient(proxy.address, STARTUP) as client:
            assert "Connection reset by peer" in client.refused()["M"]
        proxy.settle()
    assert proxy.recorder.of(events.InternalError) == []


@pytest.mark.parametrize("mode", ["disable", "allow"])
def test_a_server_that_resets_in_the_clear_ends_the_session(start_proxy: StartProxy, mode: str) -> None:
    def talk(connection: socket.socket) -> None:
        exactly(connection, len(STARTUP))
        reset(socket.socket(fileno=connection.detach()))

    with FakeServer(talk) as server:
        proxy = start_proxy(upstream=server.address, upstream_tls__mode=mode)
        with PlainClient(proxy.address, STARTUP) as client:
            assert client.everything() == []
        proxy.settle()
    assert proxy.recorder.of(events.InternalError) == []


def test_a_server_that_resets_has_its_last_word_though_the_client_has_said_more(start_proxy: StartProxy) -> None:
    """In allow, the server's answer is waited for, and what the client sends behind its startup packet is kept."""
    begun = m.error("57P03", "FATAL")[:-1]

    def talk(connection: socket.socket) -> None:
        exactly(connection, len(STARTUP))
        connection.sendall(begun)
        time.sleep(0.1)  # so that it is read before the end
        reset(socket.socket(fileno=connection.detach()))

    with FakeServer(talk) as server:
        proxy = start_proxy(upstream=server.address, upstream_tls__mode="allow")
        with PlainClient(proxy.address, STARTUP + m.query("SELECT 1")) as client:
            assert exactly(client.socket, len(begun)) == begun
            assert client.byte() == b""
        proxy.settle()
    assert proxy.recorder.of(events.InternalError) == []


def test_a_server_that_ends_without_a_word_ends_the_session(
    start_proxy: StartProxy, certificates: Certificates
) -> None:
    with FakeServer(over_tls(certificates, lambda connection: exactly(connection, len(STARTUP)))) as server:
        proxy = start_proxy(upstream=server.address, upstream_tls__mode="require")
        with PlainClient(proxy.address, STARTUP) as client:
            assert client.everything() == []
        proxy.settle()
    assert proxy.recorder.of(events.InternalError) == []


def test_an_attempt_that_was_rejected_is_closed_whatever_becomes_of_the_second(start_proxy: StartProxy) -> None:
    over = threading.Event()

    def talk(connection: socket.socket) -> None:
        if connection.recv(8, socket.MSG_PEEK) == SSL_REQUEST:
            over.wait(PATIENCE)
        else:
            read_startup(connection)
            connection.sendall(m.error("28000", "FATAL"))

    def half_closed(port: int) -> int:
        ours = [one for one in psutil.Process().net_connections("tcp") if one.raddr[1:] == (port,)]
        return sum(one.status == psutil.CONN_CLOSE_WAIT for one in ours)

    with FakeServer(talk) as server, contextlib.ExitStack() as cleaning:
        cleaning.callback(gc.enable)
        gc.disable()  # it would find what is left, and close it
        proxy = start_proxy(upstream=server.address, upstream_tls__mode="allow", connect_timeout="300ms")
        try:
            with PlainClient(proxy.address, STARTUP) as client:
                assert client.refused()["C"] == "08001"
            until(lambda: half_closed(server.port) == 0, 2, "a socket is left")
        finally:
            over.set()
            with warnings.catch_warnings(action="ignore"):  # uvloop's, about what is found
                proxy.call(gc.collect)


@pytest.mark.parametrize("answer", [b"Sinjected", b"X", b""])
def test_prefer_does_not_go_on_in_the_clear_after_nonsense(start_proxy: StartProxy, answer: bytes) -> None:
    def talk(connection: socket.socket) -> None:
        if exactly(connection, 8) == SSL_REQUEST:
            connection.sendall(answer)
        else:
            connection.sendall(m.STARTED)
            connection.recv(100)

    with FakeServer(talk) as server:
        proxy = start_proxy(upstream=server.address, upstream_tls__mode="prefer")
        with PlainClient(proxy.address, STARTUP) as client:
            assert client.refused()["C"] == "08001"


def test_a_session_that_has_to_go_without_tls_is_told_of(start_proxy: StartProxy, certificates: Certificates) -> None:
    def talk(connection: socket.socket) -> None:
        if connection.recv(8, socket.MSG_PEEK) == SSL_REQUEST:
            with contextlib.suppress(ssl.SSLError):
                over_tls(certificates, lambda _: None)(connection)
        else:
            read_startup(connection)
            connection.sendall(m.STARTED)
            connection.recv(100)

    with FakeServer(talk) as server:
        ca_file = str(certificates.stranger_ca_file)
        proxy = start_proxy(upstream=server.address, upstream_tls__mode="prefer", upstream_tls__ca_file=ca_file)
        with PlainClient(proxy.address) as client:
            client.log_in()
        failed = proxy.recorder.wait(events.UpstreamTlsFailed)
    assert "its certificate cannot be trusted" in failed.reason
    assert "upstream_tls.ca_file" in failed.hint


def test_connect_timeout_ends_with_the_connection(start_proxy: StartProxy, certificates: Certificates) -> None:
    def talk(connection: ssl.SSLSocket) -> None:
        exactly(connection, len(STARTUP))
        time.sleep(0.6)  # a server that looks somebody up before it answers
        connection.sendall(m.STARTED)
        connection.recv(100)

    with FakeServer(over_tls(certificates, talk)) as server:
        proxy = start_proxy(upstream=server.address, upstream_tls__mode="require", connect_timeout="300ms")
        with PlainClient(proxy.address, STARTUP) as client:
            client.logged_in()


@pytest.mark.parametrize("mode", ["require", "prefer", "allow"])
def test_a_server_that_says_nothing_behind_the_startup_packet_is_given_up(
    start_proxy: StartProxy, certificates: Certificates, mode: str
) -> None:
    def silent(connection: socket.socket) -> None:
        while connection.recv(1000):
            pass

    talk = silent if mode == "allow" else over_tls(certificates, silent)
    with FakeServer(talk) as server:
        proxy = start_proxy(upstream=server.address, upstream_tls__mode=mode, authentication_timeout="200ms")
        with PlainClient(proxy.address, STARTUP) as client:
            assert "no answer within 200ms" in client.refused()["M"]
        proxy.settle()


@pytest.mark.parametrize("ends", ["FIN", "RST"])
def test_a_client_that_goes_while_tls_is_asked_for_is_noticed(start_proxy: StartProxy, ends: str) -> None:
    over = threading.Event()
    with FakeServer(lambda _: over.wait(PATIENCE)) as server:
        proxy = start_proxy(upstream=server.address, upstream_tls__mode="require", connect_timeout="never")
        try:
            client = PlainClient(proxy.address, STARTUP)
            until(lambda: server.accepted == 1)
            reset(client.socket) if ends == "RST" else client.close()
            proxy.settle(timeout=3)
        finally:
            over.set()
    assert proxy.recorder.of(events.InternalError) == []


def test_the_first_message_is_not_kept_whole_whatever_its_length(
    start_proxy: StartProxy, certificates: Certificates
) -> None:
    def talk(connection: ssl.SSLSocket) -> None:
        exactly(connection, len(STARTUP))
        connection.sendall(b"E\x7f\xff\xff\xff" + bytes(1_000_000))
        connection.recv(100)

    with FakeServer(over_tls(certificates, talk)) as server:
        proxy = start_proxy(upstream=server.address, upstream_tls__mode="require")
        with PlainClient(proxy.address, STARTUP) as client:
            client.socket.settimeout(3)
            assert client.byte() == b"E"


def test_the_hint_for_an_expired_certificate_is_not_another_authority(
    start_proxy: StartProxy, certificates: Certificates
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates.expired_cert_file, certificates.expired_key_file)

    def talk(connection: socket.socket) -> None:
        exactly(connection, 8)
        connection.sendall(b"S")
        with contextlib.suppress(ssl.SSLError), context.wrap_socket(connection, server_side=True):
            pass

    with FakeServer(talk) as server:
        verify = {"upstream_tls__mode": "verify-ca", "upstream_tls__ca_file": str(certificates.ca_file)}
        proxy = start_proxy(upstream=server.address, **verify)
        with PlainClient(proxy.address, STARTUP) as client:
            told = client.refused()
    assert "expired" in told["M"]
    assert "valid now" in told["H"]


# Settings.


@pytest.mark.parametrize("name", [r"a\0b", r"\uD800"])
def test_a_name_that_no_file_can_have_is_told(name: str, tmp_path: Path) -> None:
    file = tmp_path / "pgleash.yaml"
    file.write_text(f'listen: 127.0.0.1:0\nclient_tls: {{mode: allow, cert_file: "{name}"}}\n')
    done = pgleash("serve", "--config", str(file))
    assert done.returncode == 78
    assert "Traceback" not in done.stderr


def test_a_key_that_is_too_short_is_not_said_to_be_missing(tmp_path: Path, certificates: Certificates) -> None:
    key = rsa.generate_private_key(65_537, 1024)  # noqa: S505 - that is the point
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    of = x509.load_pem_x509_certificate(certificates.ca_file.read_bytes())
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), 1, of.not_valid_before_utc, of.not_valid_after_utc)
    ).sign(key, hashes.SHA256())
    file = tmp_path / "weak.pem"
    private = key.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, form.NoEncryption())
    file.write_bytes(private + certificate.public_bytes(form.Encoding.PEM))
    with pytest.raises(SettingsError) as told:
        contexts.for_clients(ClientTls(mode=ClientTlsMode.ALLOW, cert_file=str(file)))
    assert "too small" in str(told.value)


@pytest.mark.parametrize(
    ("address", "local"),
    [
        ("127.0.0.1:1", True),
        ("127.8.8.8:1", True),
        ("localhost:1", True),
        ("[::1]:1", True),
        ("/run/postgresql", True),
        ("127.db.example.com:1", False),
        ("localhost.example.com:1", False),
        ("10.0.0.1:1", False),
        ("[::]:1", False),
        ("0.0.0.0:1", False),
    ],
)
def test_which_addresses_are_this_machine(address: str, *, local: bool) -> None:
    assert parse_address(address, 5432).is_local == local
