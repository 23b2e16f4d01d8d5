"""Which limits a client gets: those of the first rule that matches it, and from the top level what that does not set.

A client changes while it is connected (SET application_name), and each of its transactions has tags of its own: so it
is asked for when a limit may have passed, with what the client is at that moment. Until then nobody knows which rule it
will be, and `earliest` of all is what a session is armed with.
"""

import fnmatch
import ipaddress
import re
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Final, NamedTuple

from proxy.leash.policy import Limits
from proxy.report.events import Client
from proxy.settings import DEFAULT_RULE, LOCAL, Match, Rule, Settings

NAMES: Final = ("user", "database", "application_name")

Tags = Mapping[str, str]


class Ruling(NamedTuple):
    """What applies to a client.

    Attributes:
        rule: the name of the rule; DEFAULT_RULE if none matches.
        limits: its limits, inherited ones included.
    """

    rule: str
    limits: Limits


class Tried(NamedTuple):
    """A rule that was held against a client.

    Attributes:
        rule: its name.
        mismatches: what does not fit, a sentence for each key; the rule applies if there are none.
    """

    rule: str
    mismatches: tuple[str, ...]


class _Condition(NamedTuple):
    """One key of a match.

    Attributes:
        key: as it is written, a tag as `tags.job`.
        value: what the client has there; None if it has no such tag.
        fits: whether that will do.
        wanted: what is written there.
    """

    key: str
    value: Callable[[Client, Tags], str | None]
    fits: Callable[[str], bool]
    wanted: tuple[str, ...]

    def met(self, client: Client, tags: Tags) -> bool:
        value = self.value(client, tags)
        return value is not None and self.fits(value)

    def mismatch(self, client: Client, tags: Tags) -> str:
        value = self.value(client, tags)
        wanted = " or ".join(one or "empty" for one in self.wanted)
        if value is None:
            return f"{self.key} is not set, it would have to be {wanted}"
        shown = value or (LOCAL if self.key == "address" else "empty")
        return f"{self.key} is {shown}, not {wanted}"


class _Entry(NamedTuple):
    ruling: Ruling
    conditions: tuple[_Condition, ...]

    def applies(self, client: Client, tags: Tags) -> bool:
        return all(condition.met(client, tags) for condition in self.conditions)

    def tried(self, client: Client, tags: Tags) -> Tried:
        unmet = (condition for condition in self.conditions if not condition.met(client, tags))
        return Tried(self.ruling.rule, tuple(condition.mismatch(client, tags) for condition in unmet))


class Rulebook:
    """The rules of a configuration, in their order.

    Args:
        settings: the configuration.

    Attributes:
        earliest: the soonest that anything can be due under any rule, seconds; NEVER if nothing ever is.
        uses_tags: whether a rule asks for tags.
    """

    def __init__(self, settings: Settings) -> None:
        above = Limits.of(settings)
        rules = [
            _Entry(Ruling(rule.name, _limits(rule, above)), tuple(_conditions(rule.match))) for rule in settings.rules
        ]
        self._entries = [*rules, _Entry(Ruling(DEFAULT_RULE, above), ())]
        self.earliest = min(entry.ruling.limits.earliest for entry in self._entries)
        self.uses_tags = any(rule.match.tags for rule in settings.rules)

    def ruling(self, client: Client, tags: Tags) -> Ruling:
        """What applies to this client, in a transaction with these tags."""
        return next(entry.ruling for entry in self._entries if entry.applies(client, tags))

    def explain(self, client: Client, tags: Tags) -> list[Tried]:
        """Every rule that is tried for this client, in order; the last one applies."""
        tried = []
        for entry in self._entries:
            tried.append(entry.tried(client, tags))
            if not tried[-1].mismatches:
                break
        return tried


def _limits(rule: Rule, above: Limits) -> Limits:
    own = {name: getattr(rule, name) for name in Limits._fields}
    return above._replace(**{name: limit for name, limit in own.items() if limit is not None})


def _conditions(match: Match) -> Iterator[_Condition]:
    for key in NAMES:
        globs: tuple[str, ...] | None = getattr(match, key)
        if globs is not None:
            yield _Condition(key, partial(_name_of, key), _any_glob(globs), globs)
    if match.address is not None:
        yield _Condition("address", lambda client, _tags: client.address, _any_network(match.address), match.address)
    for tag, globs in (match.tags or {}).items():
        yield _Condition(f"tags.{tag}", partial(_tag_of, tag), _any_glob(globs), globs)


def _name_of(key: str, client: Client, _tags: Tags) -> str:
    name: str = getattr(client, key)
    return name


def _tag_of(name: str, _client: Client, tags: Tags) -> str | None:
    return tags.get(name)


def _any_glob(globs: tuple[str, ...]) -> Callable[[str], bool]:
    patterns = [re.compile(fnmatch.translate(glob)) for glob in globs]
    return lambda name: any(pattern.match(name) for pattern in patterns)


def _any_network(texts: tuple[str, ...]) -> Callable[[str], bool]:
    networks = [ipaddress.ip_network(text) for text in texts if text != LOCAL]
    local = LOCAL in texts

    def fits(text: str) -> bool:
        if not text:
            return local
        address = _address(text)
        return address is not None and any(address in network for network in networks)

    return fits


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """A client's address; one that IPv6 sockets show as ::ffff:10.1.2.3 is 10.1.2.3."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address
