"""What options are made of. Durations and addresses: how they are written, and what they mean.

Errors are ValueErrors that say what would be right; pydantic passes their text on.
"""

import ipaddress
import math
import re
from decimal import Decimal
from typing import Annotated, Any, Final, NamedTuple

from pydantic import BaseModel, BeforeValidator, ConfigDict, PlainSerializer, WithJsonSchema

NEVER: Final = math.inf  # a limit that does not pass


class Model(BaseModel):
    """What all parts of the configuration have in common."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


_units: Final = {"ms": Decimal("0.001"), "s": Decimal(1), "m": Decimal(60), "h": Decimal(3600)}
_duration: Final = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h)?")
_longest: Final = 366 * 24 * 3600.0
_duration_help: Final = "write 250ms, 10s, 5m, 1h or never"


def parse_duration(value: Any) -> float:
    """Seconds: from `250ms`, `10s`, `5m`, `1h`, a bare number of seconds, or `never`."""
    if value in ("never", NEVER):
        return NEVER
    match = None if isinstance(value, bool) else _duration.fullmatch(str(value).strip())
    if match is None:
        raise ValueError(f"{value!r} is not a duration; {_duration_help}")
    seconds = float(Decimal(match[1]) * _units[match[2] or "s"])
    if not 0 < seconds <= _longest:
        raise ValueError(f"{value!r} is not more than nothing and at most a year; {_duration_help}")
    return seconds


def duration_text(seconds: float) -> str:
    """The shortest way to write a duration so that it can be read back."""
    if seconds == NEVER:
        return "never"
    for unit in ("h", "m", "s"):
        length = int(_units[unit])
        if seconds % length == 0 and (unit != "m" or seconds > length):  # 60s, as people write it
            return f"{int(seconds // length)}{unit}"
    milliseconds = round(seconds * 1000)
    return f"{milliseconds}ms" if milliseconds / 1000 == seconds else f"{Decimal(repr(seconds)):f}s"


DURATION_SCHEMA: Final = {
    "anyOf": [
        {"type": "string", "pattern": r"^(never|\d+(\.\d+)?\s*(ms|s|m|h)?)$"},
        {"type": "number", "exclusiveMinimum": 0},
    ]
}
Duration = Annotated[
    float,
    BeforeValidator(parse_duration),
    PlainSerializer(duration_text, return_type=str),
    WithJsonSchema(DURATION_SCHEMA),
]


class Address(NamedTuple):
    """Where to listen or to connect.

    Attributes:
        host: a name or an IP address; an absolute directory stands for a Unix socket in it.
        port: the TCP port; for a Unix socket the number in its name, as libpq has it.
    """

    host: str
    port: int

    @property
    def is_unix(self) -> bool:
        """Whether this is a Unix socket."""
        return self.host.startswith("/")

    @property
    def is_local(self) -> bool:
        """Whether only this machine can be at the other end."""
        if self.is_unix or self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:  # a name may lead anywhere
            return False

    @property
    def path(self) -> str:
        """The Unix socket's file, named as libpq expects."""
        return f"{self.host.rstrip('/')}/.s.PGSQL.{self.port}"

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def socket_file(address: Address) -> str:
    """The admin side's Unix socket in the directory that admin.listen names."""
    return f"{address.host.rstrip('/')}/pgleash.{address.port}.sock"


_tcp: Final = re.compile(r"(?:\[(?P<six>[0-9a-fA-F:.%\w]+)\]|(?P<host>[^\s:/\[\]]+)):(?P<port>\d{1,5})")
_unix: Final = re.compile(r"(?P<host>/[^:]*)(?::(?P<port>\d{1,5}))?")
_address_help: Final = "write host:port, [IPv6 address]:port, or an absolute directory for a Unix socket"
_max_port: Final = 65_535


def parse_address(value: Any, socket_port: int) -> Address:
    """An address from `host:port`, `[::1]:port`, `/directory` or `/directory:port`.

    Args:
        value: what was written.
        socket_port: the number in a Unix socket's name where none is written.
    """
    if isinstance(value, Address):
        return value
    text = str(value).strip()
    match = _unix.fullmatch(text) or _tcp.fullmatch(text)
    if match is None and "@" in text:  # not to be quoted
        raise ValueError(f"what looks like a URL with a user and a password is not an address; {_address_help}")
    if match is None:
        raise ValueError(f"{value!r} is not an address; {_address_help}")
    parts = match.groupdict()
    port = int(parts["port"] or socket_port)
    if not 0 <= port <= _max_port:
        raise ValueError(f"{value!r} has a port that does not exist; ports go up to {_max_port}")
    return Address(parts.get("six") or parts["host"], port)
