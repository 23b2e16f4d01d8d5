"""Where the commands look for the admin side, and what they say if it is not there."""

import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from proxy.ask.reach import Target, ask, configured, read_target
from proxy.errors import OperatorError
from tests.life.support import FakeServer, exactly


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("http://127.0.0.1:9433", Target("http://127.0.0.1:9433", "127.0.0.1", 9433)),
        ("http://[::1]:9433/", Target("http://[::1]:9433", "::1", 9433)),
        ("http://pgleash", Target("http://pgleash", "pgleash", 80)),
        (
            "HTTPS://ops.example/pgleash/",
            Target("HTTPS://ops.example/pgleash", "ops.example", 443, tls=True, prefix="/pgleash"),
        ),
        ("127.0.0.1:7", Target("http://127.0.0.1:7", "127.0.0.1", 7)),
        ("0.0.0.0:7", Target("http://127.0.0.1:7", "127.0.0.1", 7)),
        ("[::]:7", Target("http://[::1]:7", "::1", 7)),
        ("/run/pgleash", Target("/run/pgleash/pgleash.9433.sock", "/run/pgleash/pgleash.9433.sock", 0)),
        ("/run/pgleash:7", Target("/run/pgleash/pgleash.7.sock", "/run/pgleash/pgleash.7.sock", 0)),
        ("/run/a.sock", Target("/run/a.sock", "/run/a.sock", 0)),
    ],
)
def test_an_admin_side_is_named_in_many_ways(text: str, target: Target) -> None:
    assert read_target(text) == target


@pytest.mark.parametrize(
    "text",
    ["", "pgleash", "ftp://a:1", "http://", "http:///a", "http://u:p@a:1", "http://a:x", "http://a:1?b", "http://a b"],
)
def test_what_names_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"^(?!.*u:p).+"):
        read_target(text)


def test_the_environment_of_the_proxy_names_its_admin_side(tmp_path: Path) -> None:
    assert configured({}) == Target("http://127.0.0.1:9433", "127.0.0.1", 9433)
    assert configured({"PGLEASH_ADMIN__LISTEN": "127.0.0.2:7"}).host == "127.0.0.2"
    file = tmp_path / "pgleash.yaml"
    file.write_text("admin: {listen: 0.0.0.0:9999, token_file: /run/token}")
    found = configured({"PGLEASH_CONFIG": str(file)})
    assert (found.host, found.port, found.token_file) == ("127.0.0.1", 9999, "/run/token")
    with pytest.raises(OperatorError, match=r"^admin\.listen is none here"):
        configured({"PGLEASH_ADMIN__LISTEN": "none"})


@contextmanager
def answering(answer: bytes) -> Iterator[Target]:
    """A server that says this to every request."""

    def talk(connection: socket.socket) -> None:
        exactly(connection, len(b"GET /api/leaks HTTP/1.1"))
        connection.sendall(answer)
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(65_536):
            pass

    with FakeServer(talk) as server:
        yield read_target(server.address)


def http(status: str, body: str) -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (b"", "what is there does not speak HTTP; is pgleash running there"),
        (b"E\x00\x00\x00\x08no http\n", "what is there does not speak HTTP; is pgleash running there"),
        (http("200 OK", "<html>"), "is not the admin API of pgleash (status 200)"),
        (http("200 OK", "[]"), "is not the admin API of pgleash (status 200)"),
        (http("200 OK", "{}"), "is not the admin API of pgleash (status 200)"),
        (http("200 OK", "[" * 100_000), "is not the admin API of pgleash (status 200)"),
        (http("404 Not Found", "{}"), "is not the admin API of pgleash (status 404)"),
        (http("302 Found", ""), "is not the admin API of pgleash (status 302)"),
        (http("401 Unauthorized", "no"), "is not the admin API of pgleash (status 401)"),
        (http("401 Unauthorized", '{"error": "x"}'), "wants a token; name its file with --token-file"),
        (http("403 Forbidden", '{"error": "a\\u001b[2J"}'), "does not answer to that name: a?[2J"),
        (http("500 Oh", '{"error": "see the log"}'), "has failed: see the log"),
    ],
)
def test_what_is_no_answer_is_said(answer: bytes, told: str) -> None:
    with answering(answer) as target, pytest.raises(OperatorError) as raised:
        ask(target, "/api/leaks")
    assert target.name in str(raised.value)
    assert told in str(raised.value)


def test_who_is_not_there_is_said() -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as gone:
        port = gone.getsockname()[1]
    with pytest.raises(
        OperatorError, match=rf"^cannot ask the admin API at http://127.0.0.1:{port}: Connection refused; "
    ):
        ask(read_target(f"127.0.0.1:{port}"), "/api/leaks")
    with pytest.raises(
        OperatorError, match=r"^cannot ask the admin API at /nowhere/a.sock: No such file or directory; "
    ):
        ask(read_target("/nowhere/a.sock"), "/api/leaks")


def test_who_does_not_answer_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.ask.reach.TIMEOUT", 0.1)
    with closing(socket.create_server(("127.0.0.1", 0))) as silent:
        target = read_target(f"127.0.0.1:{silent.getsockname()[1]}")
        with pytest.raises(OperatorError, match=r": no answer in time; "):
            ask(target, "/api/leaks")


@pytest.mark.parametrize(
    ("content", "told"), [(None, "No such file"), (b"", "has no token"), (b"a b", "has no token"), (b"\xff", "ASCII")]
)
def test_a_token_that_cannot_be_read_is_said(tmp_path: Path, content: bytes | None, told: str) -> None:
    file = tmp_path / "token"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(OperatorError, match=told):
        ask(read_target("127.0.0.1:1")._replace(token_file=str(file)), "/api/leaks")


def test_no_proxy_of_the_environment_comes_between(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    with answering(http("200 OK", '{"generated_at": ""}')) as target:
        assert ask(target, "/api/leaks") == {"generated_at": ""}
