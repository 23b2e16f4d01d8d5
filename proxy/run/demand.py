"""What a command demands of TLS, carried over to the server's leg.

The leg from the command to us stays on this machine and is in the clear. So that nothing is lost, we demand of the
server what the command would have: libpq's "SSL Support", with its parameters, variables and default files.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple

from proxy.settings import SYSTEM_CA, UpstreamTls, UpstreamTlsMode

# From the weakest on.
STRENGTH: Final = (
    UpstreamTlsMode.DISABLE, UpstreamTlsMode.ALLOW, UpstreamTlsMode.PREFER, UpstreamTlsMode.REQUIRE,
    UpstreamTlsMode.VERIFY_CA, UpstreamTlsMode.VERIFY_FULL,
)  # fmt: skip
# What asyncpg and node-postgres write besides libpq's words.
OTHER_WORDS: Final = {
    "true": UpstreamTlsMode.REQUIRE, "1": UpstreamTlsMode.REQUIRE, "no-verify": UpstreamTlsMode.REQUIRE,
    "false": UpstreamTlsMode.DISABLE, "0": UpstreamTlsMode.DISABLE,
}  # fmt: skip
VARIABLES: Final = {
    "PGSSLMODE": "sslmode",
    "PGREQUIRESSL": "requiressl",
    "PGSSLROOTCERT": "sslrootcert",
    "PGSSLCERT": "sslcert",
    "PGSSLKEY": "sslkey",
    "PGCHANNELBINDING": "channel_binding",
}
DEFAULT_FILES: Final = {"sslrootcert": "root.crt", "sslcert": "postgresql.crt", "sslkey": "postgresql.key"}
OPTIONS: Final = {"sslrootcert": "ca_file", "sslcert": "cert_file", "sslkey": "key_file"}


class Demand(NamedTuple):
    """What is demanded.

    Attributes:
        mode: how strongly; None if nothing is said.
        files: libpq's parameters of files, and the files.
        channel_binding: whether SCRAM has to be bound to the channel.
    """

    mode: UpstreamTlsMode | None
    files: Mapping[str, str]
    channel_binding: bool


def of_parameters(parameters: Mapping[str, str]) -> Demand:
    """What a URL's parameters demand.

    Raises:
        ValueError: sslmode has a word that nobody knows.
    """
    word = parameters.get("sslmode") or parameters.get("ssl") or ""
    files = {name: parameters[name] for name in OPTIONS if parameters.get(name)}
    mode = _mode(word) if word else None
    if mode is None and parameters.get("requiressl") == "1":
        mode = UpstreamTlsMode.REQUIRE
    if mode is None and files.get("sslrootcert") == SYSTEM_CA:
        mode = UpstreamTlsMode.VERIFY_FULL
    return Demand(mode, files, parameters.get("channel_binding") == "require")


def of_environment(environment: Mapping[str, str]) -> Demand:
    """What libpq's variables demand.

    Raises:
        ValueError: PGSSLMODE has a word that nobody knows.
    """
    return of_parameters({name: environment[key] for key, name in VARIABLES.items() if environment.get(key)})


def _mode(word: str) -> UpstreamTlsMode:
    if word in OTHER_WORDS:
        return OTHER_WORDS[word]
    if word not in STRENGTH:
        raise ValueError(f"sslmode {word!r} is none of {', '.join(STRENGTH)}")
    return UpstreamTlsMode(word)


def both(first: Demand, second: Demand) -> Demand:
    """What satisfies both: the stronger mode, and the first one's files before the second one's."""
    modes = [mode for mode in (first.mode, second.mode) if mode is not None]
    return Demand(
        max(modes, key=STRENGTH.index, default=None),
        {**second.files, **first.files},
        first.channel_binding or second.channel_binding,
    )


def upstream_options(demand: Demand, configured: UpstreamTls, home: Path) -> dict[str, str]:
    """The options of `upstream_tls` that carry it over, besides what the configuration says.

    Args:
        demand: what the command demands.
        configured: the configuration; the stronger of both applies.
        home: where libpq looks for its default files, in `.postgresql`.
    """
    mode = demand.mode
    if configured.mode is not UpstreamTlsMode.AUTO:
        mode = max(configured.mode, mode or UpstreamTlsMode.DISABLE, key=STRENGTH.index)
    mode = mode or UpstreamTlsMode.PREFER  # libpq's default: what the command would have had
    if mode is UpstreamTlsMode.DISABLE:
        return {"upstream_tls.mode": mode}
    files = {**demand.files, **_default_files(demand.files, home)}
    return {"upstream_tls.mode": mode} | {
        f"upstream_tls.{option}": files[name]
        for name, option in OPTIONS.items()
        if name in files and not getattr(configured, option)
    }


def _default_files(given: Mapping[str, str], home: Path) -> dict[str, str]:
    found = {name: home / ".postgresql" / file for name, file in DEFAULT_FILES.items() if name not in given}
    there = {name: str(file) for name, file in found.items() if file.is_file()}
    if "sslcert" not in {*given, *there}:
        there.pop("sslkey", None)  # a key alone proves nothing
    return there
