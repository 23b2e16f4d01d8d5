"""`check-config --as`: which rule a client gets, with which limits, and why."""

import ipaddress
import re
from collections.abc import Iterable
from typing import Final, NamedTuple

from proxy.leash.policy import Limits
from proxy.leash.rules import Rulebook, Ruling
from proxy.report.events import Client
from proxy.settings import DEFAULT_RULE, LOCAL, Settings, did_you_mean, duration_text

KEYS: Final = ("user", "database", "application_name", "address")
TAG: Final = "tags."
EXAMPLE: Final = "user=etl,application_name=load,tags.job=nightly-7"


class Who(NamedTuple):
    """Somebody of whom one wants to know."""

    client: Client
    tags: dict[str, str]


def read_who(text: str) -> Who:
    r"""Read `key=value,key=value`; `\,` is a comma in a value.

    Raises:
        ValueError: saying what would be right.
    """
    given: dict[str, str] = {}
    for pair in re.split(r"(?<!\\),", text):
        key, equals, value = pair.partition("=")
        key = key.strip()
        if not equals:
            raise ValueError(f"{pair!r} is no key=value; write for example {EXAMPLE}")
        if key not in KEYS and not (key.startswith(TAG) and key != TAG):
            raise ValueError(f"{key!r} is none of {', '.join(KEYS)}, {TAG}NAME{did_you_mean(key, [*KEYS])}")
        if key in given:
            raise ValueError(f"{key} is given twice")
        given[key] = value.replace(r"\,", ",")
    tags = {key.removeprefix(TAG): value for key, value in given.items() if key.startswith(TAG)}
    names = {key: given.get(key, "") for key in KEYS}
    names["database"] = names["database"] or names["user"]  # as in Postgres
    return Who(Client(**names | {"address": _address(names["address"])}), tags)


def _address(text: str) -> str:
    """An address as a session has it: a client of a Unix socket has none."""
    if text in ("", LOCAL):
        return ""
    try:
        return str(ipaddress.ip_address(text))
    except ValueError as error:
        raise ValueError(f"address {text!r} is no IP address; write 10.1.2.3, ::1, or {LOCAL}") from error


def explanation(settings: Settings, who: Who) -> str:
    """Say which rule applies, why, and what its limits are."""
    client, tags = who
    rulebook = Rulebook(settings)
    facts = [(key, getattr(client, key)) for key in KEYS[:-1]] + [("address", client.address or LOCAL)]
    facts += [(TAG + name, value) for name, value in tags.items()]
    tried = [(one.rule, "; ".join(one.mismatches) or "applies") for one in rulebook.explain(client, tags)]
    if tried[-1][0] == DEFAULT_RULE:
        tried[-1] = (DEFAULT_RULE, "applies: no rule matches")
    ruling = rulebook.ruling(client, tags)
    return f"Client\n{_table(facts)}\nRules, in order\n{_table(tried)}\nLimits\n{_table(_limits(settings, ruling))}"


def _limits(settings: Settings, ruling: Ruling) -> Iterable[tuple[str, str, str]]:
    own = next((rule.model_fields_set for rule in settings.rules if rule.name == ruling.rule), frozenset[str]())
    for name, limit in zip(Limits._fields, ruling.limits, strict=True):
        yield name, duration_text(limit), f"rule {ruling.rule}" if name in own else "top level"


def _table(rows: Iterable[tuple[str, ...]]) -> str:
    lines = list(rows)
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    padded = ("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in lines)
    return "".join(f"  {line.rstrip()}\n" for line in padded)
