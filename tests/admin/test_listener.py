"""Where the admin side listens, who gets an answer there, and that it costs the proxy little."""

import socket
import time
from pathlib import Path

import psycopg
import pytest

from proxy.admin.listener import MAX_CONNECTIONS, Admin
from proxy.demo.postgres import Postgres
from proxy.errors import OperatorError
from proxy.report.events import ConfigRejected, InternalError
from tests.admin.support import Asked, StartAdmin, admin_of
from tests.conftest import StartProxy
from tests.harness import PATIENCE, dsn

PATHS = ["/api/sessions", "/api/leaks", "/api/clients", "/api/advice"]


def off_loopback(start_admin: StartAdmin, token: Path) -> Asked:
    asked = start_admin(admin__listen="0.0.0.0:0", admin__token_file=str(token))
    return Asked(asked.proxy, asked.where.replace("0.0.0.0", "127.0.0.1"))  # noqa: S104 - nobody listens


@pytest.mark.parametrize("path", PATHS)
def test_it_is_answered(start_admin: StartAdmin, path: str) -> None:
    answer = start_admin().ask(path)
    assert answer.status == 200
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["Server"] == "pgleash"
    assert answer.json["resource"] == {"service.name": "billing", "k8s.pod.name": "billing-6f9c-x2"}


@pytest.mark.parametrize("path", ["/", "/api", "/api/", "/api/leaks/", "/api/sessions/s-1/terminate", "/metrics"])
def test_another_path_is_not_found(start_admin: StartAdmin, path: str) -> None:
    answer = start_admin().ask(path)
    assert (answer.status, answer.error) == (404, "not found")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH"])
def test_it_only_reads(start_admin: StartAdmin, method: str) -> None:
    answer = start_admin().ask("/api/leaks", method)
    assert (answer.status, answer.headers["Allow"], answer.error) == (405, "GET", "this path takes GET alone")


def test_a_page_from_elsewhere_is_refused(start_admin: StartAdmin) -> None:
    asked = start_admin()
    for path in [*PATHS, "/nowhere"]:
        assert asked.ask(path, Host="evil.example").status == 403
    assert asked.ask(PATHS[0], Host="localhost:1").status == 200


def test_off_loopback_everything_needs_the_token(start_admin: StartAdmin, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("t0ken\n")
    asked = off_loopback(start_admin, token)
    for path in [*PATHS, "/nowhere"]:
        answer = asked.ask(path)
        assert (answer.status, answer.headers["WWW-Authenticate"]) == (401, "Bearer")
        assert asked.ask(path, Authorization="Bearer wrong").status == 401
        right = asked.ask(path, Authorization="Bearer t0ken", Host="pgleash.shop.svc")
        assert right.status == (404 if path == "/nowhere" else 200)


def test_a_new_token_counts_at_once_and_a_broken_one_does_not(start_admin: StartAdmin, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("first")
    asked = off_loopback(start_admin, token)

    def status(word: str) -> int:
        return asked.ask("/api/leaks", Authorization=f"Bearer {word}").status

    assert (status("first"), status("second-one")) == (200, 401)
    token.write_text("second-one")
    assert (status("first"), status("second-one")) == (401, 200)
    token.write_text("")
    assert (status("second-one"), status("")) == (200, 401)
    assert asked.proxy.recorder.wait(ConfigRejected).reason.startswith(f"admin.token_file: {token} is empty; ")


def test_a_port_in_use_is_said(start_proxy: StartProxy) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        proxy = start_proxy(admin__listen=f"127.0.0.1:{port}")
        admin = Admin(proxy.settings, proxy.server, proxy.reporter, {})
        with pytest.raises(OperatorError, match=rf"^admin\.listen: cannot listen on 127\.0\.0\.1:{port}: .*in use$"):
            proxy.call(admin.start)


def test_it_listens_on_a_unix_socket_for_its_group(start_admin: StartAdmin, tmp_path: Path) -> None:
    asked = start_admin(admin__listen=str(tmp_path))
    file = tmp_path / "pgleash.9433.sock"
    assert asked.where == str(file)
    assert file.stat().st_mode & 0o777 == 0o770
    assert asked.sessions() == []
    admin = Admin(asked.proxy.settings, asked.proxy.server, asked.proxy.reporter, {})
    with pytest.raises(OperatorError, match=rf"^admin\.listen: cannot listen on {file}: it is in use$"):
        asked.proxy.call(admin.start)
    assert asked.sessions() == []


def test_a_stale_unix_socket_is_replaced_and_ours_goes_with_us(start_proxy: StartProxy, tmp_path: Path) -> None:
    proxy = start_proxy(admin__listen=f"{tmp_path}:7")
    file = tmp_path / "pgleash.7.sock"
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(file))
    admin = Admin(proxy.settings, proxy.server, proxy.reporter, {})
    proxy.call(admin.start)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(file))
    proxy.call(admin.stop)
    assert list(tmp_path.iterdir()) == []


def test_none_listens_nowhere(start_admin: StartAdmin) -> None:
    assert start_admin(admin__listen="none").where == ""


def connected(asked: Asked) -> socket.socket:
    host, _, port = asked.where.rpartition(":")
    return socket.create_connection((host, int(port)), timeout=PATIENCE)


def test_connections_that_nobody_uses_keep_nobody_out(start_admin: StartAdmin) -> None:
    asked = start_admin()
    silent = [connected(asked) for _ in range(MAX_CONNECTIONS)]
    assert asked.sessions() == []
    assert silent[0].recv(1) == b""  # it had to make room
    for connection in silent:
        connection.close()


def test_a_connection_that_is_kept_ends_at_once_with_us(start_proxy: StartProxy) -> None:
    proxy = start_proxy(admin__listen="127.0.0.1:0")
    with admin_of(proxy) as asked:
        kept = connected(asked)
        kept.sendall(b"GET /api/leaks HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert kept.recv(12) == b"HTTP/1.1 200"
        before = time.monotonic()
    assert time.monotonic() - before < 1.0
    with kept:
        while kept.recv(65_536):
            pass


@pytest.mark.parametrize(
    "said",
    [
        b"\x00\x00\x00\x08\x04\xd2\x16\x2f",
        b"GET /api/leaks HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer " + b"s3cr3t" * 2000 + b"\r\n\r\n",
        b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
    ],
    ids=["SSLRequest", "a long header", "a long path"],
)
def test_what_is_no_request_is_refused_and_nothing_is_printed(
    start_admin: StartAdmin, capfd: pytest.CaptureFixture[str], said: bytes
) -> None:
    asked = start_admin()
    with connected(asked) as client:
        client.sendall(said)
        assert client.recv(12).split()[1] == b"400"
    assert asked.sessions() == []
    printed = capfd.readouterr()
    assert (printed.out, printed.err) == ("", "")


def test_a_large_body_is_not_read(start_admin: StartAdmin) -> None:
    with connected(start_admin()) as client:
        client.sendall(b"GET /api/leaks HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000000\r\n\r\n")
        answer = b""
        while data := client.recv(65_536):
            answer += data
    assert answer.startswith(b"HTTP/1.1 200")


def test_a_fault_of_ours_is_an_answer_and_told(
    start_admin: StartAdmin, postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = start_admin()
    monkeypatch.setattr("proxy.admin.api.session_now", lambda *_: 1 / 0)
    with psycopg.connect(dsn(asked.proxy, postgres)) as connection:
        answer = asked.ask("/api/sessions")
        assert (answer.status, answer.error) == (500, "pgleash has failed to answer; its log says where")
        assert asked.proxy.recorder.wait(InternalError).kind == "ZeroDivisionError"
        connection.execute("SELECT 1")
