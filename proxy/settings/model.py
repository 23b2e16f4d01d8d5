"""The options: their names, defaults and meaning. Flags, environment, schema and help are made from this model."""

import enum
import json
from typing import Annotated, Any, Final

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, WithJsonSchema

from proxy.settings.values import Address, Duration, parse_address

LISTEN_PORT: Final = 6432
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
Count = Annotated[int, Field(ge=1)]


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
    OFF = "off"


# YAML reads a bare `off` as false.
Statements = Annotated[LogStatements, BeforeValidator(lambda value: LogStatements.OFF if value is False else value)]


class Model(BaseModel):
    """What all parts of the configuration have in common."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


class Log(Model):
    """The log."""

    format: LogFormat = Field(LogFormat.AUTO, description="json, console; auto is console on a terminal")
    level: LogLevel = Field(LogLevel.INFO, description="debug, info, warning, error")
    statements: Statements = Field(
        LogStatements.SANITIZED, description="sanitized (literals replaced) or off; raw text is never logged"
    )


def _default(text: str) -> Any:
    """A default that is written as a user would write it; it is validated like any other value."""
    return text


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
    flag_after: Duration = Field(_default("10s"), description="hold length at which a leak is reported")
    terminate_after: Duration = Field(_default("never"), description="hold length at which the session is ended")
    flag_transaction_after: Duration = Field(
        _default("never"), description="age of a transaction at which it is reported"
    )
    terminate_transaction_after: Duration = Field(
        _default("never"), description="age of a transaction at which its session ends"
    )
    cancel_abandoned: bool = Field(
        default=True, description="when a client goes away while its statement runs, cancel the statement"
    )
    max_sessions: Count = Field(1000, description="one more client is told: sorry, too many clients already")
    startup_timeout: Duration = Field(_default("15s"), description="from the connect to the whole startup packet")
    authentication_timeout: Duration = Field(_default("60s"), description="from the startup packet to the session")
    connect_timeout: Duration = Field(_default("10s"), description="resolving and connecting to upstream")
    tcp_keepalive: Duration = Field(_default("30s"), description="idle time before keepalive probes, on both sides")
    tcp_user_timeout: Duration = Field(
        _default("never"),
        description="how long sent data may wait for its receiver; cuts off one that is only slow to read, too",
    )
    drain_timeout: Duration = Field(_default("25s"), description="after SIGTERM, how long open transactions may take")
    log: Log = Field(Log(), description="the log")
    report_every: Duration = Field(_default("60s"), description="period of leak.report, when something changed")


def as_yaml(settings: Settings) -> str:
    """The settings as a file that could have made them."""
    return yaml.safe_dump(settings.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def json_schema() -> str:
    """The JSON schema of the configuration file, for editors."""
    schema = Settings.model_json_schema(mode="validation")
    return json.dumps({"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}, indent=2) + "\n"
