"""Where a proxy's admin side is, and how it is asked.

Plain HTTP by hand: no proxy of the environment comes between, and no redirect carries the token to somebody else.
"""

import http.client
import json
import re
import socket
import ssl
from collections.abc import Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

from proxy.errors import OperatorError
from proxy.settings import ADMIN_PORT, Address, load, parse_address, socket_file

TIMEOUT: Final = 10.0  # seconds for connecting, and for each part of the answer
MAX_ANSWER: Final = 256 * 1024 * 1024  # bytes; the largest that a thousand sessions could make is some megabytes

Answer = dict[str, Any]

_url: Final = re.compile(r"https?://[^\s/@?#]+(?:/[^\s?#]*)?", re.IGNORECASE)
_any: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - where a proxy that listens on all of them is


class Target(NamedTuple):
    """An admin side.

    Attributes:
        name: as errors call it.
        host, port: of its listener; the host of a Unix socket is its file.
        tls: whether somebody in front of it speaks TLS.
        prefix: what stands before the API's paths.
        token_file: the file with its token, if one is to be shown.
    """

    name: str
    host: str
    port: int
    tls: bool = False
    prefix: str = ""
    token_file: str | None = None


def read_target(text: str) -> Target:
    """An admin side from a URL, `host:port`, a directory as admin.listen has it, or a Unix socket.

    Raises:
        ValueError: saying what would be right.
    """
    if text.startswith("/") and text.endswith(".sock"):
        return Target(text, text, 0)
    if "://" not in text:
        return _at(parse_address(text, ADMIN_PORT))
    parts = urlsplit(text)
    if not _url.fullmatch(text) or not parts.hostname:
        raise ValueError(f"{parts.scheme}://... is no URL of an admin API; write http://127.0.0.1:{ADMIN_PORT}")
    tls = parts.scheme.lower() == "https"
    port = parts.port or (443 if tls else 80)
    return Target(text.rstrip("/"), parts.hostname, port, tls, parts.path.rstrip("/"))


def _at(address: Address) -> Target:
    if address.is_unix:
        file = socket_file(address)
        return Target(file, file, 0)
    reachable = Address(_any.get(address.host, address.host), address.port)
    return Target(f"http://{reachable}", *reachable)


def configured(environment: Mapping[str, str]) -> Target:
    """The admin side of a proxy that was started with this environment: one in the same container, for example.

    Raises:
        SettingsError: the configuration is wrong.
        OperatorError: such a proxy has none.
    """
    admin = load(None, environment, {}).settings.admin
    if admin.listen is None:
        raise OperatorError("admin.listen is none here, so there is no API to ask; name another one with --admin URL")
    return _at(admin.listen)._replace(token_file=None if admin.listen.is_local else admin.token_file)


def ask(target: Target, path: str) -> Answer:
    """What an admin side answers.

    Raises:
        OperatorError: it cannot be reached, does not take the token, or is something else.
    """
    headers = {"Host": "localhost"} if not target.port else {}
    if target.token_file is not None:
        headers["Authorization"] = f"Bearer {_token(target.token_file)}"
    try:
        status, body = _get(target, path, headers)
    except (OSError, http.client.HTTPException) as error:
        raise OperatorError(
            f"cannot ask the admin API at {target.name}: {_reason(error)}; "
            "is pgleash running there, and is this its admin.listen? Name it with --admin URL"
        ) from error
    return _answer(target, status, body)


def _get(target: Target, path: str, headers: Mapping[str, str]) -> tuple[int, bytes]:
    connection = connection_to(target)
    try:
        connection.request("GET", target.prefix + path, headers=dict(headers))
        response = connection.getresponse()
        body = response.read(MAX_ANSWER + 1)
    finally:
        connection.close()
    if len(body) > MAX_ANSWER:
        raise http.client.HTTPException("its answer does not end")
    return response.status, body


def connection_to(target: Target) -> http.client.HTTPConnection:
    """A connection that is not open yet."""
    if not target.port:
        return _UnixConnection(target.host)
    if target.tls:
        context = ssl.create_default_context()
        return http.client.HTTPSConnection(target.host, target.port, timeout=TIMEOUT, context=context)
    return http.client.HTTPConnection(target.host, target.port, timeout=TIMEOUT)


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, file: str) -> None:
        super().__init__("localhost", timeout=TIMEOUT)
        self._file = file

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(TIMEOUT)
        self.sock.connect(self._file)


def _reason(error: Exception) -> str:
    if isinstance(error, http.client.HTTPException):
        return "what is there does not speak HTTP"
    text = error.strerror if isinstance(error, OSError) else None
    return "no answer in time" if isinstance(error, TimeoutError) else text or str(error) or type(error).__name__


def _token(file: str) -> str:
    try:
        token = Path(file).read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "is not ASCII"
        raise OperatorError(f"the token cannot be read from {file}: {why}") from error
    if not token or not token.isprintable() or " " in token:
        raise OperatorError(f"{file} has no token; it should be the file that admin.token_file names")
    return token


def _answer(target: Target, status: int, body: bytes) -> Answer:
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        answer = None
    told = answer.get("error") if isinstance(answer, dict) else None
    if status == HTTPStatus.UNAUTHORIZED and told:
        raise OperatorError(f"the admin API at {target.name} {_about_token(target.token_file)}")
    if status == HTTPStatus.FORBIDDEN and told:
        raise OperatorError(f"the admin API at {target.name} does not answer to that name: {printable(told)}")
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR and told:
        raise OperatorError(f"the admin API at {target.name} has failed: {printable(told)}")
    if status != HTTPStatus.OK or not isinstance(answer, dict) or "generated_at" not in answer:
        raise OperatorError(f"what answers at {target.name} is not the admin API of pgleash (status {status})")
    return answer


def _about_token(file: str | None) -> str:
    if file is None:
        return "wants a token; name its file with --token-file"
    return f"does not take the token in {file}; its own is in the file that its admin.token_file names"


def printable(value: Any) -> Any:
    """Something of JSON in whose texts nothing can move a cursor or begin a line."""
    if isinstance(value, str):
        return "".join(character if character.isprintable() else "?" for character in value)
    if isinstance(value, list):
        return [printable(one) for one in value]
    if isinstance(value, dict):
        return {printable(name): printable(one) for name, one in value.items()}
    return value
