"""Rules: limits for single clients. The first that matches applies; what it does not set comes from the top level.

A glob is `*`, `?` and `[...]` as in a shell, but `*` takes slashes, too. Case counts, and the whole name has to fit.
Where one glob or address can stand, there can be a list: one of them has to fit.
"""

import ipaddress
import json
from collections import Counter
from collections.abc import Callable
from typing import Annotated, Any, Final

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    SerializerFunctionWrapHandler,
    WithJsonSchema,
    model_serializer,
    model_validator,
)

from proxy.settings.values import DURATION_SCHEMA, Model, duration_text, parse_duration

DEFAULT_RULE: Final = "default"  # the name of what applies where no rule does
LOCAL: Final = "local"  # pg_hba.conf's word for Unix sockets, which have no address
MAX_NAME: Final = 64  # characters; it stands in every line about a leak
EXAMPLE: Final = "[{name: etl, match: {user: etl}, flag_after: 30m}]"

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    raise ValueError(f"{value!r} is not a text; write one, in quotes where YAML takes it for something else")


def _each(value: Any, kind: str, read: Callable[[Any], str]) -> tuple[str, ...]:
    """One of a kind, or a list of them."""
    values = value if isinstance(value, list | tuple) else [value]
    if not values:
        raise ValueError(f"no {kind} in the list, so that nobody can match; leave the key out, or write one")
    return tuple(read(one) for one in values)


def _globs(value: Any) -> tuple[str, ...]:
    return _each(value, "glob like etl-*", _text)


def _network(value: Any) -> str:
    text = _text(value).strip()
    if text == LOCAL:
        return LOCAL
    try:
        network = ipaddress.ip_network(text, strict=False)
        exact = int(ipaddress.ip_interface(text)) == int(network.network_address)  # with or without a zone
    except ValueError as error:
        raise ValueError(
            f"{value!r} is not an address; write 10.1.2.3, 10.1.0.0/16, an IPv6 address or network, "
            f"or {LOCAL} for Unix sockets"
        ) from error
    if not exact:
        raise ValueError(f"{value!r} is an address inside of a network; write {network}, or the address alone")
    return _network_text(_unmapped(network))


def _network_text(network: Network) -> str:
    one = network.prefixlen == network.max_prefixlen
    return str(network.network_address if one else network)


def _unmapped(network: Network) -> Network:
    """The IPv4 network that an IPv4-mapped IPv6 one means (RFC 4291, 2.5.5.2), which every client can come from."""
    if isinstance(network, ipaddress.IPv6Network) and network.prefixlen >= 96:  # noqa: PLR2004 - the prefix ::ffff:0:0
        mapped = network.network_address.ipv4_mapped
        if mapped is not None:
            return ipaddress.IPv4Network((mapped, network.prefixlen - 96))
    return network


def _networks(value: Any) -> tuple[str, ...]:
    return _each(value, "address like 10.1.0.0/16", _network)


def _tag_names(value: Any) -> Any:
    if not isinstance(value, dict) or not value:
        raise ValueError(f'{value!r} names no tag; write tags and their globs, like {{job: "nightly-*"}}')
    return {_text(name): glob for name, glob in value.items()}


def _name(value: Any) -> str:
    name = _text(value)
    if not name.strip() or not name.isprintable() or len(name) > MAX_NAME:
        raise ValueError(f"{value!r} is no name for the log; write 1 to {MAX_NAME} printable characters")
    if name == DEFAULT_RULE:
        raise ValueError(f"{name!r} is how the log calls it when no rule matches; choose another name")
    return name


def _one_or_list(texts: tuple[str, ...]) -> str | list[str]:
    return texts[0] if len(texts) == 1 else list(texts)


_ONE_OR_LIST_SCHEMA: Final = {
    "type": ["string", "integer", "array"],
    "items": {"type": ["string", "integer"]},
    "minItems": 1,
}
_AS_WRITTEN: Final = PlainSerializer(_one_or_list, when_used="unless-none")

Glob = Annotated[tuple[str, ...], BeforeValidator(_globs), _AS_WRITTEN, WithJsonSchema(_ONE_OR_LIST_SCHEMA)]
Globs = Annotated[tuple[str, ...] | None, BeforeValidator(_globs), _AS_WRITTEN, WithJsonSchema(_ONE_OR_LIST_SCHEMA)]
Networks = Annotated[
    tuple[str, ...] | None, BeforeValidator(_networks), _AS_WRITTEN, WithJsonSchema(_ONE_OR_LIST_SCHEMA)
]
Tags = Annotated[
    dict[str, Glob] | None,
    BeforeValidator(_tag_names),
    WithJsonSchema({"type": "object", "minProperties": 1, "additionalProperties": _ONE_OR_LIST_SCHEMA}),
]
Limit = Annotated[
    float | None,
    BeforeValidator(parse_duration),
    PlainSerializer(duration_text, when_used="unless-none"),
    WithJsonSchema(DURATION_SCHEMA),
]
Name = Annotated[
    str, BeforeValidator(_name), WithJsonSchema({"type": ["string", "integer"], "minLength": 1, "maxLength": MAX_NAME})
]


def _without_default(schema: dict[str, Any]) -> None:
    schema.pop("default")  # null, which cannot be written


def _unset(description: str) -> Any:
    """A key that may be left out, but not left empty."""
    return Field(
        default=None,
        validate_default=False,
        description=description,
        json_schema_extra=_without_default,
    )


class _Part(Model):
    """What is printed has the keys that are set, and no others."""

    @model_serializer(mode="wrap")
    def _as_written(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {key: value for key, value in handler(self).items() if value is not None}


class Match(_Part):
    """Whom a rule is for: all that is written here has to fit."""

    model_config = ConfigDict(json_schema_extra={"minProperties": 1})

    user: Globs = _unset("the user, a glob or a list of globs")
    database: Globs = _unset("the database, the same")
    application_name: Globs = _unset("application_name as it is now, the same")
    address: Networks = _unset("where the client is: an address, a network, or local for Unix sockets, or a list")
    tags: Tags = _unset("tags in comments of the running transaction's statements, each with its glob")

    @model_validator(mode="after")
    def _for_somebody(self) -> "Match":
        if not self.model_fields_set:
            raise ValueError('is empty; say whom the rule is for, or {user: "*"} for everybody')
        return self


class Rule(_Part):
    """Limits for the clients that match; what is not set comes from the top level."""

    model_config = ConfigDict(json_schema_extra={"minProperties": 3})

    name: Name = Field(description="what the log calls it")
    match: Match = Field(description="whom it is for")
    flag_after: Limit = _unset("hold length at which a leak is reported")
    rollback_after: Limit = _unset("hold length at which an idle transaction is rolled back, the connection kept")
    terminate_after: Limit = _unset("hold length at which the session is ended")
    flag_transaction_after: Limit = _unset("age of a transaction at which it is reported")
    terminate_transaction_after: Limit = _unset("age of a transaction at which its session ends")
    flag_idle_session_after: Limit = _unset("an idle session, while others of its client are used, is reported")
    terminate_idle_session_after: Limit = _unset("such a session is ended")

    @model_validator(mode="after")
    def _of_use(self) -> "Rule":
        if not self.model_fields_set - {"name", "match"}:
            limits = ", ".join(name for name in type(self).model_fields if name not in ("name", "match"))
            raise ValueError(f"sets no limit; write one of {limits}")
        return self


def _list(value: Any) -> Any:
    """An empty text is what an unset variable of a template leaves."""
    if value == "":
        return ()
    if isinstance(value, list | tuple):
        return value
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            json.loads(value)
        except ValueError as error:
            raise ValueError(f"is not JSON: {error}") from error
    raise ValueError(f"{value!r} is no list of rules; write {EXAMPLE}, as JSON in a flag or a variable")


def _told_apart(rules: tuple[Rule, ...]) -> tuple[Rule, ...]:
    (name, times), *_ = Counter(rule.name for rule in rules).most_common(1) or [("", 0)]
    if times > 1:
        raise ValueError(f"{times} rules are called {name!r}; the log could not tell them apart")
    return rules


Rules = Annotated[tuple[Rule, ...], BeforeValidator(_list), AfterValidator(_told_apart)]
