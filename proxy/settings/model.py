"""The options: their names, defaults and meaning. Flags, environment, schema and help are made from this model."""

import enum
import json
from typing import Annotated, Any, Final

import yaml
from pydantic import BeforeValidator, Field, PlainSerializer, WithJsonSchema, model_validator

from proxy.settings.rules import Rules
from proxy.settings.values import Address, Duration, Model, parse_address

LISTEN_PORT: Final = 6432
ADMIN_PORT: Final = 9433
POSTGRES_PORT: Final = 5432


def _listen(value: Any) -> tuple[Address, ...]:
    values = value if isinstance(value, list | tuple) and not isinstance(value, Address) else [value]
    if not values:
        raise ValueError("there has to be an address to listen on; the default is 127.0.0.1:6432")
    return tuple(parse_address(one, LISTEN_PORT) for one in values)


Listen = Annotated[
    tuple[Address, ...],
    BeforeValidator(_listen),
    PlainSerializer(lambda addresses: [str(address) for address in addresses], return_type=list[str]),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}, "minItems": 1}]}),
]
Upstream = Annotated[
    Address,
    BeforeValidator(lambda value: parse_address(value, POSTGRES_PORT)),
    PlainSerializer(str, return_type=str),
    WithJsonSchema({"type": "string"}),
]
AdminListen = Annotated[
    Address | None,
    BeforeValidator(lambda value: None if value == "none" else parse_address(value, ADMIN_PORT)),
    PlainSerializer(lambda address: str(address or "none"), return_type=str),
    WithJsonSchema({"type": "string"}),
]
Count = Annotated[int, Field(ge=1)]


class Mode(enum.StrEnum):
    """Whether what is due is done."""

    ENFORCE = "enforce"
    OBSERVE = "observe"


class LogFormat(enum.StrEnum):
    """How log lines look."""

    AUTO = "auto"
    JSON = "json"
    CONSOLE = "console"


class LogLevel(enum.StrEnum):
    """The least that is logged."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class LogStatements(enum.StrEnum):
    """What of a statement's text is logged."""

    SANITIZED = "sanitized"
    FINGERPRINT = "fingerprint"
    OFF = "off"


# YAML reads a bare `off` as false.
Statements = Annotated[LogStatements, BeforeValidator(lambda value: LogStatements.OFF if value is False else value)]


class ClientTlsMode(enum.StrEnum):
    """What clients that ask for TLS get, and those that do not."""

    DISABLE = "disable"
    ALLOW = "allow"
    REQUIRE = "require"


class UpstreamTlsMode(enum.StrEnum):
    """libpq's sslmode words, and one for the default, which depends on where upstream is."""

    AUTO = "auto"
    DISABLE = "disable"
    ALLOW = "allow"
    PREFER = "prefer"
    REQUIRE = "require"
    VERIFY_CA = "verify-ca"
    VERIFY_FULL = "verify-full"


SYSTEM_CA: Final = "system"  # in place of a file: the CAs that this machine trusts, as libpq's sslrootcert=system

# An empty text is what an unset variable of a template leaves.
File = Annotated[
    str | None,
    BeforeValidator(lambda value: None if value in ("none", "") else value),
    PlainSerializer(lambda file: file or "none", return_type=str),
    WithJsonSchema({"type": "string"}),
]


def _default(text: str) -> Any:
    """A default that is written as a user would write it; it is validated like any other value."""
    return text


class ClientTls(Model):
    """TLS towards clients."""

    mode: ClientTlsMode = Field(
        ClientTlsMode.DISABLE, description="disable, allow (for clients that ask for it), require"
    )
    cert_file: File = Field(_default("none"), description="PEM file with the certificate, and the chain behind it")
    key_file: File = Field(_default("none"), description="PEM file with its key; without it, the key is in cert_file")
    ca_file: File = Field(
        _default("none"), description="PEM file with the CAs of clients; each then has to show a certificate"
    )

    @model_validator(mode="after")
    def _complete(self) -> "ClientTls":
        if self.mode is not ClientTlsMode.DISABLE and not self.cert_file:
            raise ValueError(f"mode {self.mode} needs cert_file (and key_file): a server has to show a certificate")
        if self.ca_file and self.mode is not ClientTlsMode.REQUIRE:
            raise ValueError(f"ca_file needs mode require: with {self.mode}, clients could go without a certificate")
        return self


class UpstreamTls(Model):
    """TLS towards the server."""

    mode: UpstreamTlsMode = Field(
        UpstreamTlsMode.AUTO,
        description="libpq's sslmode words; auto: prefer if upstream is on this machine and no ca_file, else require",
    )
    ca_file: File = Field(
        _default("none"), description="PEM file with the CA of the server, or system; without it nothing is verified"
    )
    cert_file: File = Field(_default("none"), description="PEM file with a certificate for the server to know us by")
    key_file: File = Field(_default("none"), description="PEM file with its key; without it, the key is in cert_file")

    @model_validator(mode="after")
    def _complete(self) -> "UpstreamTls":
        verify = (UpstreamTlsMode.VERIFY_CA, UpstreamTlsMode.VERIFY_FULL)
        if self.mode in verify and not self.ca_file:
            raise ValueError(f"mode {self.mode} needs ca_file: a PEM file, or system for the CAs of this machine")
        if self.ca_file == SYSTEM_CA and self.mode is not UpstreamTlsMode.VERIFY_FULL:
            raise ValueError("ca_file system needs mode verify-full: everybody can have a certificate of a public CA")
        if self.key_file and not self.cert_file:
            raise ValueError("key_file needs cert_file: a key alone proves nothing")
        return self


class Log(Model):
    """The log."""

    format: LogFormat = Field(LogFormat.AUTO, description="json, console; auto is console on a terminal")
    level: LogLevel = Field(LogLevel.INFO, description="debug, info, warning, error")
    statements: Statements = Field(
        LogStatements.SANITIZED,
        description="sanitized (literals replaced), fingerprint (the hash alone), off; never raw text",
    )


MASKED: Final = "********"


# What may hold a password is neither shown nor quoted in an error.
def _secret(value: Any) -> Any:
    if value is None or isinstance(value, str):
        return None if value in ("none", "") else value
    raise ValueError("it has to be a text, in quotes where YAML takes it for something else")


def _names(value: Any) -> Any:
    if isinstance(value, str) and not value.startswith("["):
        return (value,) if value else ()
    return value


Secret = Annotated[
    str | None,
    BeforeValidator(_secret),
    PlainSerializer(lambda text: MASKED if text else "none", return_type=str, when_used="json"),
    WithJsonSchema({"type": "string"}),
]


Names = Annotated[
    tuple[str, ...],
    BeforeValidator(_names),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}),
]


class Attribution(Model):
    """How far culprits are named."""

    processes: bool = Field(default=True, description="look up the client's process where the kernel lets us")
    blast_radius_dsn: Secret = Field(
        _default("none"),
        repr=False,
        description="how to connect as a role with pg_monitor, to add locks held and sessions blocked to a leak",
    )
    tags: Names = Field(
        (), description="names of tags that are logged besides the well-known ones, as globs; see docs/attribution.md"
    )


class Admin(Model):
    """The API that tells what goes on."""

    listen: AdminListen = Field(
        _default(f"127.0.0.1:{ADMIN_PORT}"),
        description="host:port, or an absolute directory, of the API; none for no API",
    )
    token_file: File = Field(
        _default("none"), description="file with the bearer token that off loopback everything needs"
    )

    @model_validator(mode="after")
    def _guarded(self) -> "Admin":
        """Who can reach it sees who leaks, and their statements."""
        if self.listen is not None and not self.listen.is_local and not self.token_file:
            raise ValueError(f"listen {self.listen} needs token_file: others could reach it; or listen on 127.0.0.1")
        return self


class Settings(Model):
    """The configuration of pgleash."""

    listen: Listen = Field(
        _default("127.0.0.1:6432"),
        description="host:port, or an absolute directory for a Unix socket named as libpq expects, or a list of both",
    )
    upstream: Upstream = Field(
        _default("127.0.0.1:5432"),
        description="host:port, or an absolute directory with a server's Unix socket; resolved for every connection",
    )
    mode: Mode = Field(Mode.ENFORCE, description="enforce; observe carries out no action: it says what would have been")
    flag_after: Duration = Field(_default("10s"), description="hold length at which a leak is reported")
    rollback_after: Duration = Field(
        _default("never"), description="hold length at which an idle transaction is rolled back, the connection kept"
    )
    terminate_after: Duration = Field(_default("never"), description="hold length at which the session is ended")
    flag_transaction_after: Duration = Field(
        _default("never"), description="age of a transaction at which it is reported"
    )
    terminate_transaction_after: Duration = Field(
        _default("never"), description="age of a transaction at which its session ends"
    )
    flag_idle_session_after: Duration = Field(
        _default("never"),
        description="a session idle outside a transaction for so long, while others of its client work, is reported",
    )
    terminate_idle_session_after: Duration = Field(
        _default("never"), description="such a session is ended; some pools rest connections for long"
    )
    actions_per_minute: Count = Field(
        60, description="rollbacks and terminations in any minute, over all sessions; beyond it leaks are only flagged"
    )
    cancel_abandoned: bool = Field(
        default=True, description="when a client goes away while its statement runs, cancel the statement"
    )
    max_sessions: Count = Field(1000, description="one more client is told: sorry, too many clients already")
    max_cancels: Count = Field(100, description="cancel requests on their way to the server; one more is dropped")
    startup_timeout: Duration = Field(_default("15s"), description="from the connect to the whole startup packet")
    authentication_timeout: Duration = Field(_default("60s"), description="from the startup packet to the session")
    connect_timeout: Duration = Field(_default("10s"), description="resolving and connecting to upstream")
    tcp_keepalive: Duration = Field(_default("30s"), description="idle time before keepalive probes, on both sides")
    tcp_user_timeout: Duration = Field(
        _default("never"),
        description="how long sent data may wait for its receiver; cuts off one that is only slow to read, too",
    )
    drain_timeout: Duration = Field(_default("25s"), description="after SIGTERM, how long open transactions may take")
    client_tls: ClientTls = Field(ClientTls(), description="TLS towards clients")
    upstream_tls: UpstreamTls = Field(UpstreamTls(), description="TLS towards the server")
    attribution: Attribution = Field(Attribution(), description="how far culprits are named")
    admin: Admin = Field(Admin(), description="the API behind pgleash leaks, sessions and advise")
    log: Log = Field(Log(), description="the log")
    report_every: Duration = Field(_default("60s"), description="period of leak.report, when something changed")
    rules: Rules = Field((), description="limits for single clients, the first that matches; see docs/rules.md")

    @model_validator(mode="after")
    def _guarded(self) -> "Settings":
        """A client certificate of ours is an identity that whoever reaches us can use."""
        open_to_others = [address for address in self.listen if not address.is_local]
        if self.upstream_tls.cert_file and open_to_others and not self.client_tls.ca_file:
            raise ValueError(
                f"upstream_tls.cert_file: the server would take everybody who reaches {open_to_others[0]} "
                "for the owner of this certificate; set client_tls.mode: require and client_tls.ca_file, "
                "or listen on 127.0.0.1"
            )
        return self

    @property
    def upstream_tls_mode(self) -> UpstreamTlsMode:
        """What auto comes to. A Unix socket has no TLS, as in libpq. Who names a CA wants it to be asked."""
        if self.upstream.is_unix:
            return UpstreamTlsMode.DISABLE
        if self.upstream_tls.mode is not UpstreamTlsMode.AUTO:
            return self.upstream_tls.mode
        trusting = self.upstream.is_local and not self.upstream_tls.ca_file
        return UpstreamTlsMode.PREFER if trusting else UpstreamTlsMode.REQUIRE


def as_yaml(settings: Settings) -> str:
    """The settings as a file that could have made them."""
    return yaml.safe_dump(settings.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def json_schema() -> str:
    """The JSON schema of the configuration file, for editors."""
    schema = Settings.model_json_schema(mode="validation")
    return json.dumps({"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}, indent=2) + "\n"
