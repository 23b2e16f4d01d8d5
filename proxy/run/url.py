"""A DATABASE_URL: where it leads, what it demands of TLS, and the same with another address.

libpq's "Connection URIs", and what SQLAlchemy, Django and node-postgres write besides. What is not about the address or
TLS is kept as it was written, byte for byte: users, passwords with their escapes, databases, parameters.
"""

import re
from collections.abc import Mapping
from typing import Final, NamedTuple
from urllib.parse import quote, unquote

# The last two words are from Django and Ecto; a driver stands behind the plus sign, as in postgresql+psycopg.
_postgres: Final = re.compile(r"(?:postgres|postgresql|pgsql|postgis|ecto)(?:\+\w+)?://", re.IGNORECASE)
_userinfo: Final = re.compile(r"[^:/?@]*(?::[^@]*)?@")  # SQLAlchemy allows slashes and question marks in a password
_host: Final = re.compile(r"(?P<host>\[[^\]]*\]|[^:\[\]]*)(?::(?P<port>\d*))?")

ADDRESS: Final = frozenset({"host", "hostaddr", "port"})
# The leg to us is in the clear: we say it to the server instead. `ssl` is asyncpg's and node-postgres's.
TLS: Final = frozenset({
    "ssl", "sslmode", "requiressl", "sslnegotiation", "sslrootcert", "sslcert", "sslkey", "sslpassword",
    "sslcrl", "sslcrldir", "sslsni", "sslcertmode", "ssl_min_protocol_version", "ssl_max_protocol_version",
})  # fmt: skip


class Target(NamedTuple):
    """Where something leads; None where it does not say."""

    host: str | None = None
    port: int | None = None


class Url(NamedTuple):
    """A URL in its parts, as written.

    Attributes:
        scheme: up to and with `://`.
        userinfo: up to and with the `@`, if there is one.
        targets: where it leads, the first one first.
        path: the database, with its slash.
        query: what stands between the `&`.
    """

    scheme: str
    userinfo: str
    targets: tuple[Target, ...]
    path: str
    query: tuple[str, ...]

    @property
    def parameters(self) -> dict[str, str]:
        """The parameters, decoded; the last one of a name."""
        pairs = (part.partition("=") for part in self.query)
        return {unquote(name): unquote(value) for name, _, value in pairs}

    def through(self, host: str, port: int, parameters: Mapping[str, str], without: frozenset[str]) -> str:
        """The same by way of this address.

        Args:
            host: a name, an IP address or the absolute directory of a Unix socket.
            port: its port.
            parameters: to be added.
            without: parameters to be left out, besides those that name an address.
        """
        gone = ADDRESS | without | parameters.keys()
        kept = [part for part in self.query if unquote(part.partition("=")[0]) not in gone]
        query = "&".join([*kept, *(f"{name}={quote(value)}" for name, value in parameters.items())])
        place = f"[{host}]" if ":" in host else quote(host, safe="")
        return f"{self.scheme}{self.userinfo}{place}:{port}{self.path}{'?' if query else ''}{query}"


def read_url(text: str) -> Url | None:
    """Read a URL; None if it is not one of Postgres.

    Raises:
        ValueError: it is one, and cannot be read. The text is not quoted: it may hold a password.
    """
    match = _postgres.match(text)
    if match is None:
        return None
    scheme, rest = match[0], text[match.end() :]
    userinfo, hosts, rest = _authority(rest)
    path, _, query = rest.partition("?")
    parts = tuple(part for part in query.split("&") if part)
    return Url(scheme, userinfo, _targets(hosts, parts), path, parts)


def _authority(rest: str) -> tuple[str, str, str]:
    """User and password, the hosts, and what follows them."""
    authority = re.split(r"[/?]", rest, maxsplit=1)[0]
    user, at, hosts = authority.rpartition("@")
    if _are_hosts(hosts) and (at or "@" not in rest.partition("?")[0]):  # else that is the beginning of a password
        return user + at, hosts, rest[len(authority) :]
    lenient = _userinfo.match(rest)
    if lenient:
        hosts = re.split(r"[/?]", rest[lenient.end() :], maxsplit=1)[0]
        if _are_hosts(hosts):
            return lenient[0], hosts, rest[lenient.end() + len(hosts) :]
    raise ValueError(
        "it has no host:port where one should be; characters like / and @ in a password are written %2F, %40"
    )


def _are_hosts(text: str) -> bool:
    return all(_host.fullmatch(host) for host in text.split(","))


def _targets(hosts: str, query: tuple[str, ...]) -> tuple[Target, ...]:
    """Where it leads: parameters win over what stands before the path, and addresses over names, as in libpq."""
    written = [_target(unquote(host)) for host in hosts.split(",")]
    named = _listed(query, "hostaddr") or _listed(query, "host")
    targets = [_target(host) for host in named] or written
    ports = [_port(port) for port in _listed(query, "port")] or [target.port for target in written]
    if len(ports) == 1:
        ports *= len(targets)
    if len(ports) != len(targets):
        raise ValueError(f"it has {len(ports)} ports for {len(targets)} hosts")
    return tuple(Target(target.host, target.port or port) for target, port in zip(targets, ports, strict=True))


def _listed(query: tuple[str, ...], wanted: str) -> list[str]:
    """The values of a parameter, which may hold several and may be written several times."""
    pairs = (part.partition("=") for part in query)
    values = (unquote(value) for name, _, value in pairs if unquote(name) == wanted and value)
    return [one for value in values for one in value.split(",")]


def _target(text: str) -> Target:
    """A host, which may be written with its port; an IPv6 address in a parameter has no brackets."""
    match = None if text.startswith("/") or (text.count(":") > 1 and "[" not in text) else _host.fullmatch(text)
    if match is None:
        return Target(text)
    return Target(match["host"].strip("[]") or None, _port(match["port"]))


def _port(text: str | None) -> int | None:
    if not text:
        return None
    if not text.isdecimal():
        raise ValueError("it has a port that is no number")
    return int(text)
