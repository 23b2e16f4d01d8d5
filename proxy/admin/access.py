"""Who may ask the admin side.

On loopback everybody on this machine may, but no page from elsewhere: a name of its own that leads to 127.0.0.1 would
make a browser believe that our answers are that page's (DNS rebinding). So the Host header has to name this machine.
Off loopback a bearer token is needed for everything. Whoever has it may call us what they like: a Service's name, or
localhost behind `kubectl port-forward`. No browser reaches a Unix socket; its file's permissions say who may.
"""

import hmac
import re
from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path
from typing import Final, NamedTuple

from proxy.errors import SettingsError
from proxy.settings import Address, Admin

LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "[::1]"})
MAX_TOKEN: Final = 4096  # characters: a header has to hold it

_host: Final = re.compile(r"(\[[^\]]*\]|[^:\[\]]*)(?::\d*)?")
_bearer: Final = re.compile(r"bearer +(\S+) *", re.IGNORECASE)  # RFC 6750, 2.1; RFC 9110, 11.1
_token: Final = re.compile(r"[\x21-\x7e]+")


class Refusal(NamedTuple):
    """Why somebody gets no answer."""

    status: HTTPStatus
    reason: str


class Access:
    """Decides who may ask.

    Args:
        listen: where is listened.
        token: the token of the moment; None if none is needed.
    """

    def __init__(self, listen: Address, token: Callable[[], str] | None) -> None:
        self._hosts = None if listen.is_unix or token else LOOPBACK | {str(listen).rpartition(":")[0].lower()}
        self._token = token

    def refusal(self, host: str, authorization: str) -> Refusal | None:
        """Why a request with these headers is refused, if it is."""
        if self._token is not None:
            return _without(self._token(), authorization)
        match = _host.fullmatch(host.lower())
        if self._hosts is None or (match and match[1] in self._hosts):
            return None
        return Refusal(HTTPStatus.FORBIDDEN, "the Host header has to name this machine: localhost, 127.0.0.1 or [::1]")


def _without(token: str, authorization: str) -> Refusal | None:
    match = _bearer.fullmatch(authorization)
    if match is None:
        return Refusal(
            HTTPStatus.UNAUTHORIZED, "a token is needed: Authorization: Bearer, with what admin.token_file has"
        )
    # Compared as bytes: text may hold what compare_digest does not take.
    if not hmac.compare_digest(match[1].encode(errors="surrogateescape"), token.encode()):
        return Refusal(HTTPStatus.UNAUTHORIZED, "this is not the token that admin.token_file has")
    return None


def needs_token(admin: Admin) -> bool:
    """Whether others than this machine could ask."""
    return admin.listen is not None and not admin.listen.is_local


def check(admin: Admin) -> None:
    """See that a token that is needed can be read.

    Raises:
        SettingsError: it cannot.
    """
    if needs_token(admin):
        read_token(admin.token_file or "")


def read_token(file: str) -> str:
    """The token in a file, without the white space around it.

    Raises:
        SettingsError: there is none, saying what would be right.
    """
    try:
        text = Path(file).read_text(encoding="ascii").strip()
    except OSError as error:
        raise SettingsError([f"admin.token_file: {file} cannot be read: {error.strerror}; {_right}"]) from error
    except UnicodeDecodeError as error:
        raise SettingsError([f"admin.token_file: {file} is not ASCII; {_right}"]) from error
    if not text:
        raise SettingsError([f"admin.token_file: {file} is empty; {_right}"])
    if not _token.fullmatch(text) or len(text) > MAX_TOKEN:
        raise SettingsError([f"admin.token_file: {file} has more than one word, or a very long one; {_right}"])
    return text


_right: Final = "write one line into it that nobody can guess, such as what `openssl rand -hex 32` prints"
