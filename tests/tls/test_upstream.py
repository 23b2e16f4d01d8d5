"""TLS towards the server: libpq's sslmode words, and servers that keep to none of them."""

import contextlib
import socket
import ssl
from collections.abc import Callable

import psycopg
import pytest

from proxy.demo.postgres import Postgres
from proxy.report import events
from tests import messages as m
from tests.conftest import StartProxy
from tests.harness import Proxy, dsn, until
from tests.life.support import FakeServer, PlainClient, exactly, read_startup
from tests.rawclient import Message, fields
from tests.servers.certificates import Certificates
from tests.tls.support import SSL_REQUEST, in_front_of, served_by, until_asleep

STARTUP = m.startup(user="postgres", database="postgres")
HBA = m.error("28000", "FATAL")  # what a server says for which no line of pg_hba.conf fits
VERIFYING = ["verify-ca", "verify-full"]
ENCRYPTING = ["require", *VERIFYING]


def options_for(mode: str, certificates: Certificates, **more: str) -> dict[str, str]:
    options = {"upstream_tls__mode": mode}
    if mode in VERIFYING:
        options["upstream_tls__ca_file"] = str(certificates.ca_file)
    return options | more


def refusal(proxy: Proxy) -> dict[str, str]:
    """What a client is told that cannot have a session."""
    with PlainClient(proxy.address, STARTUP) as client:
        return client.refused()


def log_in(proxy: Proxy) -> list[Message]:
    with PlainClient(proxy.address) as client:
        return client.log_in()


def encrypted(connection: socket.socket) -> socket.socket:
    """Wait for the SSLRequest, and answer it with yes."""
    assert exactly(connection, 8) == SSL_REQUEST
    connection.sendall(b"S")
    return connection


def silent(connection: socket.socket) -> None:
    while connection.recv(1000):
        pass


# Where there is TLS, and where there is none.


@pytest.mark.parametrize(
    ("mode", "leg"),
    [("auto", "TLS"), ("disable", "clear"), ("allow", "clear"), ("prefer", "TLS")]
    + [(mode, "TLS") for mode in ENCRYPTING],
)
def test_a_server_with_tls_is_used_as_the_mode_says(
    open_postgres: Postgres, start_proxy: StartProxy, certificates: Certificates, mode: str, leg: str
) -> None:
    seen: list[str] = []
    with FakeServer(in_front_of(open_postgres, served_by(certificates), seen)) as server:
        proxy = start_proxy(upstream=server.address, log__level="debug", **options_for(mode, certificates))
        with psycopg.connect(dsn(proxy, open_postgres), autocommit=True) as connection:
            rows = connection.execute("SELECT repeat('x', 1000) FROM generate_series(1, 5000)").fetchall()
            assert rows == [("x" * 1000,)] * 5000
        proxy.settle()
        opened = proxy.recorder.wait(events.SessionOpened)
    assert seen == [leg]
    assert (opened.upstream_tls is not None) == (leg == "TLS")


@pytest.mark.parametrize("mode", ["auto", "disable", "allow", "prefer"])
def test_a_server_without_tls_is_used_in_the_clear_where_that_will_do(start_tls: StartProxy, mode: str) -> None:
    assert log_in(start_tls(upstream_tls__mode=mode))[-1].kind == "Z"


@pytest.mark.parametrize("mode", ENCRYPTING)
def test_a_server_without_tls_is_not_used_where_it_will_not(
    start_tls: StartProxy, certificates: Certificates, mode: str
) -> None:
    proxy = start_tls(**options_for(mode, certificates))
    told = refusal(proxy)
    assert told["C"] == "08001"
    assert told["M"].endswith(f"it does not offer TLS, and upstream_tls.mode is {mode}")
    assert "upstream_tls.mode: disable" in told["H"]
    event = proxy.recorder.wait(events.UpstreamUnreachable)
    assert event.reason in told["M"]
    assert event.hint == told["H"]


# Whom to trust.


@pytest.mark.parametrize("mode", VERIFYING)
def test_a_certificate_of_another_authority_is_not_trusted(
    open_postgres: Postgres, start_proxy: StartProxy, certificates: Certificates, mode: str
) -> None:
    with FakeServer(in_front_of(open_postgres, served_by(certificates))) as server:
        options = {"upstream_tls__mode": mode, "upstream_tls__ca_file": str(certificates.stranger_ca_file)}
        told = refusal(start_proxy(upstream=server.address, **options))
    assert told["C"] == "08001"
    assert "its certificate cannot be trusted" in told["M"]
    assert "upstream_tls.ca_file" in told["H"]


@pytest.mark.parametrize(("mode", "trusts"), [("require", False), ("prefer", True)])
def test_a_ca_file_makes_require_verify_and_prefer_fall_back(
    open_postgres: Postgres, start_proxy: StartProxy, certificates: Certificates, mode: str, *, trusts: bool
) -> None:
    """As libpq does where there is a root certificate."""
    seen: list[str] = []
    with FakeServer(in_front_of(open_postgres, served_by(certificates), seen)) as server:
        options = {"upstream_tls__mode": mode, "upstream_tls__ca_file": str(certificates.stranger_ca_file)}
        proxy = start_proxy(upstream=server.address, **options)
        if trusts:
            log_in(proxy)
        else:
            assert "its certificate cannot be trusted" in refusal(proxy)["M"]
        proxy.settle()
    assert seen == (["clear"] if trusts else [])


@pytest.mark.parametrize("mode", VERIFYING)
def test_a_certificate_that_has_expired_is_not_trusted(
    open_postgres: Postgres, start_proxy: StartProxy, certificates: Certificates, mode: str
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates.expired_cert_file, certificates.expired_key_file)
    with FakeServer(in_front_of(open_postgres, context)) as server:
        told = refusal(start_proxy(upstream=server.address, **options_for(mode, certificates)))
    assert "expired" in told["M"]


def test_only_verify_full_looks_at_the_name(
    open_postgres: Postgres, start_proxy: StartProxy, certificates: Certificates
) -> None:
    with FakeServer(in_front_of(open_postgres, served_by(certificates)), host="127.0.0.2") as server:
        log_in(start_proxy(upstream=server.address, **options_for("verify-ca", certificates)))
        told = refusal(start_proxy(upstream=server.address, **options_for("verify-full", certificates)))
    assert "127.0.0.2" in told["M"]
    assert "mode verify-ca" in told["H"]


def wants_certificates(certificates: Certificates, version: ssl.TLSVersion) -> ssl.SSLContext:
    context = served_by(certificates)
    context.maximum_version = version
    context.load_verify_locations(certificates.ca_file)
    context.verify_mode = ssl.CERT_REQUIRED
    return context


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=lambda v: v.name)
def test_a_server_that_wants_a_certificate_gets_ours_or_says_why_not(
    open_postgres: Postgres, start_proxy: StartProxy, certificates: Certificates, version: ssl.TLSVersion
) -> None:
    cert_file, key_file = certificates.client("pgleash")
    own = {"upstream_tls__cert_file": str(cert_file), "upstream_tls__key_file": str(key_file)}
    with FakeServer(in_front_of(open_postgres, wants_certificates(certificates, version))) as server:
        log_in(start_proxy(upstream=server.address, **options_for("require", certificates, **own)))
        told = refusal(start_proxy(upstream=server.address, **options_for("require", certificates)))
    assert told["C"] == "08001"
    assert "the TLS handshake failed" in told["M"]
    assert "upstream_tls" in told["H"]


# Second attempts.


def rejecting(what: str, rejected: list[str]) -> Callable[[socket.socket, bytes], bool]:
    """A pg_hba.conf that lets no connection of this kind in."""

    def reject(connection: socket.socket, _startup: bytes) -> bool:
        kind = "TLS" if isinstance(connection, ssl.SSLSocket) else "clear"
        if what not in {kind, "both"}:
            return False
        rejected.append(kind)
        connection.sendall(HBA)
        return True

    return reject


def choosy(
    postgres: Postgres, certificates: Certificates, what: str, rejected: list[str]
) -> Callable[[socket.socket], None]:
    """A server with TLS that rejects TLS, or its absence, or both."""
    serve, context, reject = (
        in_front_of(postgres, served_by(certificates)),
        served_by(certificates),
        rejecting(what, rejected),
    )

    def talk(connection: socket.socket) -> None:
        first = connection.recv(8, socket.MSG_PEEK)
        if what in {"both", "TLS"} and first == SSL_REQUEST:
            with context.wrap_socket(encrypted(connection), server_side=True) as tls:
                reject(tls, read_startup(tls))
                with contextlib.suppress(OSError):
                    tls.unwrap()
        elif what in {"both", "clear"} and first != SSL_REQUEST:
            reject(connection, read_startup(connection))
        else:
            serve(connection)

    return talk


@pytest.mark.parametrize(
    ("mode", "what", "attempts"),
    [
        ("prefer", "TLS", ["TLS"]),
        ("allow", "clear", ["clear"]),
    ],
)
def test_the_second_attempt_is_made_where_the_server_rejects_the_first(
    open_postgres: Postgres,
    start_proxy: StartProxy,
    certificates: Certificates,
    mode: str,
    what: str,
    attempts: list[str],
) -> None:
    rejected: list[str] = []
    with FakeServer(choosy(open_postgres, certificates, what, rejected)) as server:
        proxy = start_proxy(upstream=server.address, **options_for(mode, certificates))
        kinds = [message.kind for message in log_in(proxy)]
        assert "E" not in kinds
        assert kinds[-1] == "Z"
    assert rejected == attempts


@pytest.mark.parametrize(
    ("mode", "attempts"),
    [("prefer", ["TLS", "clear"]), ("allow", ["clear", "TLS"]), ("require", ["TLS"]), ("disable", ["clear"])],
)
def test_a_server_that_rejects_every_attempt_is_passed_on(
    open_postgres: Postgres, start_proxy: StartProxy, certificates: Certificates, mode: str, attempts: list[str]
) -> None:
    rejected: list[str] = []
    with FakeServer(choosy(open_postgres, certificates, "both", rejected)) as server:
        proxy = start_proxy(upstream=server.address, **options_for(mode, certificates))
        assert refusal(proxy)["C"] == "28000"
        proxy.settle()
    assert rejected == attempts


def test_a_server_that_rejects_the_clear_and_has_no_tls_is_passed_on(start_proxy: StartProxy) -> None:
    def without_tls(connection: socket.socket) -> None:
        read_startup(connection)
        connection.sendall(HBA)

    with FakeServer(without_tls) as server:
        assert refusal(start_proxy(upstream=server.address, upstream_tls__mode="allow"))["C"] == "28000"


# Servers that keep to none of it.


@pytest.mark.protocol(2)
@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (b"S" + m.error("08006", "FATAL"), "sent unencrypted data behind its answer"),
        (b"N" + m.error("08006", "FATAL"), "sent something else"),
        (m.error("53300", "FATAL"), "sent something else"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "sent something else"),
        (b"", "it closed the connection"),
    ],
    ids=["S and more", "N and more", "an error", "HTTP", "nothing"],
)
def test_what_nobody_has_vouched_for_is_not_shown_to_the_client(
    start_proxy: StartProxy, answer: bytes, told: str
) -> None:
    def talk(connection: socket.socket) -> None:
        exactly(connection, 8)
        connection.sendall(answer)

    with FakeServer(talk) as server:
        proxy = start_proxy(upstream=server.address, upstream_tls__mode="require")
        refused = refusal(proxy)
    assert (refused["C"], told in refused["M"]) == ("08001", True)
    proxy.settle()


def test_a_handshake_that_fails_is_told(start_proxy: StartProxy) -> None:
    def talk(connection: socket.socket) -> None:
        encrypted(connection).recv(1000)
        connection.sendall(b"not TLS at all, and long enough to be sure")
        connection.recv(1000)

    with FakeServer(talk) as server:
        told = refusal(start_proxy(upstream=server.address, upstream_tls__mode="require"))
    assert "the TLS handshake failed: " in told["M"]
    assert "_ssl.c" not in told["M"]


def test_a_server_that_goes_in_the_middle_of_the_handshake_is_told(start_proxy: StartProxy) -> None:
    def talk(connection: socket.socket) -> None:
        encrypted(connection).recv(1000)

    with FakeServer(talk) as server:
        told = refusal(start_proxy(upstream=server.address, upstream_tls__mode="require"))
    assert "closed during the TLS handshake" in told["M"]


@pytest.mark.parametrize("says", [b"", b"S"], ids=["no answer", "no handshake"])
def test_a_server_that_is_silent_is_given_up_at_connect_timeout(start_proxy: StartProxy, says: bytes) -> None:
    def talk(connection: socket.socket) -> None:
        connection.sendall(says)
        silent(connection)

    with FakeServer(talk) as server:
        proxy = start_proxy(upstream=server.address, upstream_tls__mode="require", connect_timeout="200ms")
        assert "no answer within 200ms" in refusal(proxy)["M"]
        proxy.settle()


def test_prefer_goes_on_in_the_clear_where_the_handshake_fails(
    open_postgres: Postgres, start_proxy: StartProxy, certificates: Certificates
) -> None:
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    old.load_cert_chain(certificates.cert_file, certificates.key_file)
    old.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1"):
        old.minimum_version, old.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
    seen: list[str] = []
    with FakeServer(in_front_of(open_postgres, old, seen)) as server:
        log_in(start_proxy(upstream=server.address, upstream_tls__mode="prefer"))
        told = refusal(start_proxy(upstream=server.address, upstream_tls__mode="require"))
    assert seen == ["clear"]
    assert "the TLS handshake failed" in told["M"]


# Cancel requests, and the end.


@pytest.mark.protocol(5)
def test_a_cancel_request_is_encrypted_as_its_session_is(
    open_postgres: Postgres, start_proxy: StartProxy, certificates: Certificates
) -> None:
    seen: list[str] = []
    with FakeServer(in_front_of(open_postgres, served_by(certificates), seen)) as server:
        proxy = start_proxy(upstream=server.address, **options_for("verify-full", certificates))
        with PlainClient(proxy.address) as client:
            client.log_in()
            client.send(m.query("SELECT pg_sleep(30)"))
            until_asleep(open_postgres, client.backend_pid)
            with PlainClient(proxy.address, m.cancel_request(client.backend_pid, client.cancel_key)) as canceller:
                assert canceller.byte() == b""
            (error,) = [answer for answer in client.receive_until("Z") if answer.kind == "E"]
            assert fields(error)["C"] == "57014"
    assert seen == ["TLS", "TLS"]


def test_a_client_that_goes_while_tls_is_agreed_on_leaves_nothing(start_proxy: StartProxy) -> None:
    with FakeServer(silent) as server:
        proxy = start_proxy(upstream=server.address, upstream_tls__mode="require", connect_timeout="300ms")
        with PlainClient(proxy.address, STARTUP) as client:
            until(lambda: server.accepted == 1)
            client.reset()
        proxy.settle(timeout=2.0)


def test_a_terminated_session_is_ended_on_an_encrypted_leg_too(
    open_postgres: Postgres, start_proxy: StartProxy, certificates: Certificates
) -> None:
    with FakeServer(in_front_of(open_postgres, served_by(certificates))) as server:
        options = options_for("require", certificates, terminate_after="100ms")
        proxy = start_proxy(upstream=server.address, **options)
        with PlainClient(proxy.address) as client, open_postgres.connect() as judge:
            client.log_in()
            client.query("BEGIN")
            assert client.refused()["C"] == "25P03"
            alive = "SELECT count(*) FROM pg_stat_activity WHERE pid = %s"
            until(lambda: judge.execute(alive, [client.backend_pid]).fetchone() == (0,), 2.0, "the backend is left")
        proxy.settle()
