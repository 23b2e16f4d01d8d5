"""Where a command would connect to, and the environment in which it connects through us instead.

Whoever names the server last wins, as people expect it: `--upstream`, then DATABASE_URL, then the configuration
(PGLEASH_UPSTREAM or a file), then PGHOST and PGPORT, then 127.0.0.1:5432. A command is never led to another server than
the one that it names, unless `--upstream` or the configuration says so in so many words, and then it is told.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final, NamedTuple

from proxy.errors import OperatorError
from proxy.run.demand import Demand, both, of_environment, of_parameters, upstream_options
from proxy.run.url import TLS, Target, Url, read_url
from proxy.settings import Address, UpstreamTls, UpstreamTlsMode

URL: Final = "DATABASE_URL"
DEFAULT: Final = Target("127.0.0.1", 5432)
LOOPBACK: Final = ("localhost", "::1")  # other words for 127.0.0.1
EVERYWHERE: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - where to connect if we listen there
# Of TLS: they would forbid the leg to us, which is in the clear.
TLS_VARIABLES: Final = frozenset({
    "PGSSLMODE", "PGREQUIRESSL", "PGSSLNEGOTIATION", "PGSSLROOTCERT", "PGSSLCERT", "PGSSLKEY", "PGSSLCRL",
    "PGSSLCRLDIR", "PGSSLCERTMODE", "PGSSLMINPROTOCOLVERSION", "PGSSLMAXPROTOCOLVERSION",
})  # fmt: skip


class Given(NamedTuple):
    """What the command line and the configuration say of the server.

    Attributes:
        flag: `--upstream`, if given.
        configured: PGLEASH_UPSTREAM, or the file's `upstream`.
        tls: `upstream_tls` of both.
        tls_by_flag: whether `--upstream-tls.mode` is given: then nothing is added to it.
    """

    flag: Address | None
    configured: Address | None
    tls: UpstreamTls
    tls_by_flag: bool = False


class Aim(NamedTuple):
    """What comes of it.

    Attributes:
        options: `upstream` and what belongs to it, as flags.
        notes: what the user should know, one line each.
        url: DATABASE_URL, if it leads through us.
        url_tls: what it has to say of TLS besides, since PGSSLMODE stays as it is.
        libpq: whether PGHOST and PGPORT lead through us.
    """

    options: dict[str, str]
    notes: list[str]
    url: Url | None
    url_tls: dict[str, str]
    libpq: bool


def take_aim(environment: Mapping[str, str], given: Given, home: Path) -> Aim:
    """Decide where upstream is, and what leads through us.

    Args:
        environment: the command's.
        given: what else is said.
        home: the user's directory, for libpq's default files.

    Raises:
        OperatorError: the environment names no server that one could connect to.
    """
    try:
        url = read_url(environment.get(URL, ""))
        by_url = of_parameters(url.parameters) if url else Demand(None, {}, channel_binding=False)
    except ValueError as error:
        raise OperatorError(f"{URL} cannot be used: {error}") from error
    try:
        libpq = _libpq(environment)
        demand = both(by_url, of_environment(environment))
    except ValueError as error:
        raise OperatorError(f"PGHOST, PGPORT or PGSSLMODE cannot be used: {error}") from error
    from_url = _completed(url, environment) if url and url.targets[0].host else None
    source, upstream = _chosen(given, from_url, libpq)
    elsewhere = source == URL and libpq is not None and not _same(libpq, upstream)
    options = {"upstream": str(upstream)}
    if not given.tls_by_flag and not upstream.is_unix:
        options |= upstream_options(demand, given.tls, home)
    address = environment.get("PGHOSTADDR")
    if source == "PGHOST" and address and options.get("upstream_tls.mode") != UpstreamTlsMode.VERIFY_FULL:
        options["upstream"] = str(Address(address.split(",")[0], upstream.port))
    url_tls = {"sslmode": "disable"} if elsewhere and demand.mode else _url_tls(url)
    notes = [*_notes(environment, url), *_differences(source, upstream, from_url, libpq)]
    return Aim(options, notes, url, url_tls, not elsewhere)


def _libpq(environment: Mapping[str, str]) -> Address | None:
    """Where PGHOST, PGHOSTADDR and PGPORT lead; None if none of them is set."""
    host = environment.get("PGHOST") or environment.get("PGHOSTADDR") or ""
    port = environment.get("PGPORT", "")
    if not host and not port:
        return None
    first = port.split(",")[0] or str(DEFAULT.port)
    if not first.isdecimal():
        raise ValueError(f"{first!r} is no port")
    return Address(host.split(",")[0] or str(DEFAULT.host), int(first))


def _completed(url: Url, environment: Mapping[str, str]) -> Address:
    target = url.targets[0]
    port = target.port or (_libpq({"PGPORT": environment.get("PGPORT", "")}) or Address("", 5432)).port
    return Address(str(target.host), port)


def _chosen(given: Given, from_url: Address | None, libpq: Address | None) -> tuple[str, Address]:
    sources = {"--upstream": given.flag, URL: from_url, "upstream": given.configured, "PGHOST": libpq}
    for source, address in sources.items():
        if address is not None:
            return source, address
    return "the default", Address(str(DEFAULT.host), int(DEFAULT.port or 0))


def _same(one: Address, other: Address) -> bool:
    hosts = {DEFAULT.host if host.lower() in LOOPBACK else host.lower().rstrip("/") for host in (one.host, other.host)}
    return len(hosts) == 1 and one.port == other.port


def _url_tls(url: Url | None) -> dict[str, str]:
    """A driver that was told a sslmode is told another one; one that was not may not know the word."""
    return {"sslmode": "disable"} if url and "sslmode" in url.parameters else {}


# What to say.


def _notes(environment: Mapping[str, str], url: Url | None) -> Iterator[str]:
    if environment.get(URL) and url is None:
        yield f"{URL} is no URL of Postgres (postgresql://...) and stays as it is: what uses it is not watched"
    if url and len(url.targets) > 1:
        yield f"{URL} has {len(url.targets)} hosts; only the first one is used"
    if "," in environment.get("PGHOST", ""):
        yield "PGHOST has several hosts; only the first one is used"
    if environment.get("PGSERVICE"):
        yield "PGSERVICE is set: if that service names a host, what uses it is not watched"
    bound = [URL] if url and url.parameters.get("channel_binding") == "require" else []
    bound += ["PGCHANNELBINDING"] if environment.get("PGCHANNELBINDING") == "require" else []
    if bound:
        yield f"channel binding, which {' and '.join(bound)} require, cannot pass a proxy: the command goes without it"


def _differences(source: str, upstream: Address, from_url: Address | None, libpq: Address | None) -> Iterator[str]:
    if from_url and not _same(from_url, upstream):
        yield f"{URL} names {from_url}, but {source} is {upstream}: that is where the command is led"
    if libpq and not _same(libpq, upstream):
        if source == URL:
            yield f"PGHOST and PGPORT name {libpq}, {URL} {upstream}: only what uses {URL} is watched"
        else:
            yield f"PGHOST and PGPORT name {libpq}, but {source} is {upstream}: that is where the command is led"


# The command's environment.


def led_through(environment: Mapping[str, str], aim: Aim, listening: Address) -> dict[str, str]:
    """The environment in which the command connects through us.

    Args:
        environment: the one that it would have had.
        aim: what leads through us.
        listening: where we listen.
    """
    host, port = EVERYWHERE.get(listening.host, listening.host), listening.port
    led = dict(environment)
    if aim.libpq:
        if led.get("PGSSLMODE") or led.get("PGREQUIRESSL"):
            led["PGSSLMODE"] = "disable"
        for name in TLS_VARIABLES - {"PGSSLMODE"} | {"PGHOSTADDR"}:
            led.pop(name, None)
        if led.get("PGCHANNELBINDING") == "require":
            del led["PGCHANNELBINDING"]
        led |= {"PGHOST": host, "PGPORT": str(port)}
    if aim.url:
        bound = aim.url.parameters.get("channel_binding") == "require"
        without = TLS | {"channel_binding"} if bound else TLS
        led[URL] = aim.url.through(host, port, aim.url_tls, without)
    return led
