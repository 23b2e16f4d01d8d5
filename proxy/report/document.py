"""The ledger as a document: what `GET /api/leaks` answers, `run --ledger` writes and `compare` reads.

{"generated_at": ..., "since": ..., "resource": {...}, "open": [{...}], "ledger": [{...}]}, times as in RFC 3339. The
keys of an open leak and of an account are those of the log (`leak.flagged`, `leak.report`); unknown ones are left out.
"""

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from pydantic import ValidationError

from proxy.report.event import flatten
from proxy.report.events import Leak, LeakReport
from proxy.report.restore import restore

WHAT: Final = "no ledger of `pgleash leaks --json` or `pgleash run --ledger`"


class Document(NamedTuple):
    """What a document says.

    Attributes:
        generated_at: when it was made.
        since: when counting began; None if it does not tell.
        resource: where the proxy ran, in OpenTelemetry's words.
        open: the leaks that were open, with the log's keys.
        ledger: the accounts.
    """

    generated_at: datetime
    since: datetime | None
    resource: dict[str, str]
    open: list[dict[str, Any]]
    ledger: list[LeakReport]


def ledger_document(
    reports: Iterable[LeakReport],
    open_leaks: Iterable[Leak],
    resource: Mapping[str, str],
    now: datetime,
    since: datetime,
) -> dict[str, Any]:
    """The ledger in words that JSON has.

    Args:
        reports: the accounts, in the order in which they are to be read.
        open_leaks: the leaks that are open, with what is known of them now.
        resource: where we run (`proxy.report.log.where_we_run`).
        now: the time of the wall.
        since: when counting began.
    """
    return {
        "generated_at": _written(now),
        "since": _written(since),
        "resource": dict(resource),
        "open": [dict(flatten(leak)) for leak in open_leaks],
        "ledger": [dict(flatten(report)) for report in reports],
    }


def _written(time: datetime) -> str:
    return time.astimezone(UTC).isoformat(timespec="milliseconds")


def read_document(text: str) -> Document:
    """Read what `ledger_document` has made; keys that it does not know are for later versions.

    Raises:
        ValueError: it is something else; one line that says where it is wrong.
    """
    try:
        tree = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{WHAT}: it is not JSON ({error})") from error
    if not isinstance(tree, dict) or "ledger" not in tree:
        raise ValueError(f'{WHAT}: it has no "ledger"')
    return Document(
        generated_at=_time(tree, "generated_at"),
        since=_time(tree, "since") if "since" in tree else None,
        resource={str(key): str(value) for key, value in _part(tree, "resource", dict).items()},
        open=[_object(leak, "open", place) for place, leak in enumerate(_part(tree, "open", list))],
        ledger=[
            read_report(_object(account, "ledger", place), f"ledger[{place}]")
            for place, account in enumerate(_part(tree, "ledger", list))
        ],
    )


def read_report(record: Mapping[str, Any], place: str) -> LeakReport:
    """An account from the keys of a `leak.report`.

    Args:
        record: keys and values; others are ignored.
        place: where it stands, for the error.

    Raises:
        ValueError: a key is missing or has a value of another type.
    """
    try:
        return restore(LeakReport, record)
    except ValidationError as error:
        where = ".".join(map(str, error.errors()[0]["loc"]))
        raise ValueError(f"{WHAT}: {place} is no account: {where} is missing or of the wrong type") from error


def _time(tree: Mapping[str, Any], key: str) -> datetime:
    try:
        time = datetime.fromisoformat(tree[key])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{WHAT}: {key} is no time of the form 2026-11-20T08:15:02.113+00:00") from error
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def _part(tree: Mapping[str, Any], key: str, kind: type) -> Any:
    part = tree.get(key, kind())
    if not isinstance(part, kind):
        raise ValueError(f"{WHAT}: {key} is of the wrong type")  # noqa: TRY004 - the file is, not the call
    return part


def _object(value: Any, key: str, place: int) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{WHAT}: {key}[{place}] is of the wrong type")  # noqa: TRY004 - the same
    return value
