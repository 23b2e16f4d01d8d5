"""The ledger from a log: its last `leak.report` of each account, and those from before each start of the proxy."""

import dataclasses
import json
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any, Final

from proxy.report.document import Document, read_report
from proxy.report.events import LeakReport, ProxyStarted
from proxy.report.ledger import Who

NO_LOG: Final = "no log of pgleash in JSON: it has no line with a timestamp and an event"
INSTANCE: Final = ("k8s.namespace.name", "k8s.pod.name", "k8s.container.name")
SUMS: Final = (
    "leaks", "open", "committed", "resolved", "abandoned", "rolled_back", "terminated", "spared", "held_s",
)  # fmt: skip
Instance = tuple[object, ...]


def is_log(text: str) -> bool:
    """Whether a text begins like a log, not like a document."""
    return next((True for record in _records(text.splitlines()[:1]) if "event" in record), False)


def read_log(text: str) -> Document:
    """Add up what a log tells; the logs of several proxies may be mixed. Other lines are passed over.

    Raises:
        ValueError: it is none, or a report in it is not what it should be; one line.
    """
    records = [record for record in _records(text.splitlines()) if {"event", "timestamp"} <= record.keys()]
    if not records:
        raise ValueError(NO_LOG)
    times = [_time(record) for record in records]
    return Document(
        generated_at=max(times),
        since=min(times) if _is_whole(records) else None,
        resource={
            key: value for key, value in records[0].items() if key.startswith(("service.", "deployment.", "k8s."))
        },
        open=[],
        ledger=_summed(_last_reports(records)),
    )


def _records(lines: Iterable[str]) -> Iterator[dict[str, Any]]:
    for line in lines:
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(record, dict):
            yield record


def _time(record: dict[str, Any]) -> datetime:
    try:
        return datetime.fromisoformat(record["timestamp"])
    except (TypeError, ValueError) as error:
        raise ValueError(NO_LOG) from error


def _instance(record: dict[str, Any]) -> Instance:
    return tuple(record.get(key) for key in INSTANCE)


def _is_whole(records: list[dict[str, Any]]) -> bool:
    """Whether it has the start of each proxy: else reports tell of leaks from before its first line."""
    first: dict[Instance, object] = {}
    for record in records:
        first.setdefault(_instance(record), record["event"])
    return set(first.values()) == {ProxyStarted.event}


def _last_reports(records: list[dict[str, Any]]) -> Iterator[LeakReport]:
    counting: dict[Instance, dict[Who, LeakReport]] = {}
    for place, record in enumerate(records):
        if record["event"] == ProxyStarted.event:
            yield from counting.pop(_instance(record), {}).values()
        elif record["event"] == LeakReport.event:
            report = read_report(record, f"leak.report number {place}")
            counting.setdefault(_instance(record), {})[Who(report.client, report.fingerprint)] = report
    for accounts in counting.values():
        yield from accounts.values()


def _summed(reports: Iterable[LeakReport]) -> list[LeakReport]:
    accounts: dict[Who, LeakReport] = {}
    for report in reports:
        who = Who(report.client, report.fingerprint)
        before = accounts.get(who)
        accounts[who] = _together(before, report) if before else report
    return list(accounts.values())


def _together(before: LeakReport, report: LeakReport) -> LeakReport:
    sums = {name: getattr(before, name) + getattr(report, name) for name in SUMS}
    return dataclasses.replace(report, **sums, longest_s=max(before.longest_s, report.longest_s))
