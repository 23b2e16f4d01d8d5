"""`pgleash compare`: which clients and statements leak in one of two environments or releases only, or more."""

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

from proxy.errors import OperatorError
from proxy.report.document import Document, read_document
from proxy.report.events import LeakReport
from proxy.report.history import is_log, read_log
from proxy.report.summary import seconds
from proxy.report.table import align, shortened

MORE: Final = 1.5  # times as many: less is chance
HOUR: Final = 3600.0
SHORTEST: Final = 600.0  # seconds of counting from which there is a rate: test suites are compared by their counts
ENVIRONMENT: Final = ("deployment.environment.name", "service.name", "service.version", "k8s.namespace.name")

A_ONLY: Final = "A only"
B_ONLY: Final = "B only"
MORE_IN_A: Final = "more in A"
MORE_IN_B: Final = "more in B"
ALIKE: Final = "both"
ORDER: Final = (A_ONLY, B_ONLY, MORE_IN_A, MORE_IN_B, ALIKE)

HEAD: Final = ("where", "client", "class", "A", "B", "A an hour", "B an hour", "longest", "opened by")
NUMBERS: Final = frozenset(HEAD[3:8])


class Culprit(NamedTuple):
    """What two environments have in common: not the address, and perhaps neither the database nor the user."""

    application_name: str
    user: str
    database: str
    fingerprint: str

    def __str__(self) -> str:
        account = "@".join(name for name in (self.user, self.database) if name)
        return f"{self.application_name} ({account})".strip() if account else self.application_name or "-"


class Side(NamedTuple):
    """One of the two.

    Attributes:
        name: its file.
        document: what stands in it.
    """

    name: str
    document: Document

    @property
    def hours(self) -> float | None:
        """For how long it has counted, if it tells."""
        since, until = self.document.since, self.document.generated_at
        length = (until - since).total_seconds() if since else 0.0
        return length / HOUR if length >= SHORTEST else None

    def rate(self, leaks: int) -> float | None:
        """So many leaks as leaks an hour."""
        return leaks / self.hours if self.hours else None

    def __str__(self) -> str:
        leaks = sum(report.leaks for report in self.document.ledger)
        place = ", ".join(self.document.resource[key] for key in ENVIRONMENT if key in self.document.resource)
        counted = f" in {_length(self.hours)}" if self.hours else ""
        return f"{self.name}{f' ({place})' if place else ''}: {leaks} leak{'' if leaks == 1 else 's'}{counted}"


@dataclasses.dataclass
class Row:
    """One culprit in both."""

    culprit: Culprit
    leaks: list[int]
    longest_s: float = 0.0
    leak_class: str = ""
    opener: str = ""
    where: str = ALIKE
    rates: tuple[float | None, float | None] = (None, None)


def compare(a: str, b: str, *, as_json: bool = False) -> tuple[str, bool]:
    """Compare two files; what is to be printed, and whether B leaks what A does not, or more.

    Raises:
        OperatorError: a file cannot be read, or holds something else.
    """
    sides = _read(a), _read(b)
    ignored = [name for name in ("database", "user") if _apart(sides, name)]
    rows = sorted(_rows(sides, ignored), key=lambda row: (ORDER.index(row.where), -sum(row.leaks)))
    text = _as_json(sides, rows, ignored) if as_json else _as_text(sides, rows, ignored)
    return text, any(row.where in {B_ONLY, MORE_IN_B} for row in rows)


def _read(name: str) -> Side:
    try:
        text = Path(name).read_text(encoding="utf-8")
        return Side(name, read_log(text) if is_log(text) else read_document(text))
    except OSError as error:
        raise OperatorError(f"{name}: cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise OperatorError(f"{name}: {error}") from error


def _apart(sides: tuple[Side, Side], name: str) -> bool:
    """Whether all names differ: then they are the environments' own and tell nothing about who leaks."""
    a, b = ({getattr(report.client, name) for report in side.document.ledger} for side in sides)
    return bool(a) and bool(b) and not a & b


def _rows(sides: tuple[Side, Side], ignored: list[str]) -> list[Row]:
    rows: dict[Culprit, Row] = {}
    for place, side in enumerate(sides):
        for report in side.document.ledger:
            culprit = _culprit(report, ignored)
            row = rows.setdefault(culprit, Row(culprit, [0, 0]))
            row.leaks[place] += report.leaks
            row.longest_s = max(row.longest_s, report.longest_s)
            row.leak_class = report.leak_class or row.leak_class
            row.opener = report.opener or row.opener
    for row in rows.values():
        row.rates = sides[0].rate(row.leaks[0]), sides[1].rate(row.leaks[1])
        row.where = _where(row)
    return [row for row in rows.values() if any(row.leaks)]


def _culprit(report: LeakReport, ignored: list[str]) -> Culprit:
    client = report.client
    database = "" if "database" in ignored else client.database
    user = "" if "user" in ignored else client.user
    return Culprit(client.application_name, user, database, report.fingerprint)


def _where(row: Row) -> str:
    """Rates count where both are known: one environment may have been watched for longer."""
    if not row.leaks[1]:
        return A_ONLY
    if not row.leaks[0]:
        return B_ONLY
    a, b = row.rates
    a, b = (row.leaks[0], row.leaks[1]) if a is None or b is None else (a, b)
    return MORE_IN_A if a >= b * MORE else MORE_IN_B if b >= a * MORE else ALIKE


# For a person.


def _as_text(sides: tuple[Side, Side], rows: list[Row], ignored: list[str]) -> str:
    parts = [f"{_sentence(rows)}\n", f"  A  {sides[0]}\n  B  {sides[1]}\n"]
    if rows:
        parts.append(align(HEAD, [_cells(row) for row in rows], NUMBERS) + "\n")
    if ignored:
        names = " and ".join(f"{name}s" for name in ignored)
        parts.append(f"The {names} of A and B have nothing in common, so they were not compared.\n")
    return "\n".join(parts)


def _sentence(rows: list[Row]) -> str:
    if not rows:
        return "Nothing leaks in either."
    numbers = {where: sum(row.where == where for row in rows) for where in ORDER}
    said = [_clause(numbers[where], where) for where in ORDER if numbers[where]]
    return "; ".join(said) + "."


_clauses: Final = {
    A_ONLY: "in A only",
    B_ONLY: "in B only",
    MORE_IN_A: "in both, but more in A",
    MORE_IN_B: "in both, but more in B",
    ALIKE: "in both alike",
}


def _clause(number: int, where: str) -> str:
    return f"{number} statement{' leaks' if number == 1 else 's leak'} {_clauses[where]}"


def _cells(row: Row) -> tuple[str, ...]:
    rates = ("-" if rate is None else f"{rate:,.1f}" for rate in row.rates)
    opener = shortened(row.opener or row.culprit.fingerprint)
    longest = seconds(row.longest_s) if row.longest_s else "-"
    return (row.where, str(row.culprit), row.leak_class, *map(str, row.leaks), *rates, longest, opener)


def _length(hours: float) -> str:
    length = hours * HOUR
    return seconds(length) if length < 2 * 60 else f"{length / 60:.0f} min" if hours < 2 else f"{hours:.1f} h"  # noqa: PLR2004


# For a program.


def _as_json(sides: tuple[Side, Side], rows: list[Row], ignored: list[str]) -> str:
    told = {
        "summary": _sentence(rows),
        "a": _side(sides[0]),
        "b": _side(sides[1]),
        "not_compared": ignored,
        "statements": [dict(_fields(row)) for row in rows],
    }
    return json.dumps(told, indent=2) + "\n"


def _side(side: Side) -> dict[str, Any]:
    document = side.document
    return {
        "file": side.name,
        "since": document.since.isoformat() if document.since else None,
        "generated_at": document.generated_at.isoformat(),
        "resource": document.resource,
        "leaks": sum(report.leaks for report in document.ledger),
    }


def _fields(row: Row) -> Iterator[tuple[str, Any]]:
    """The words of the log, as far as it has them."""
    yield "where", row.where.lower().replace(" ", "_")
    yield "client.application_name", row.culprit.application_name
    yield "db.user", row.culprit.user
    yield "db.namespace", row.culprit.database
    yield "transaction.fingerprint", row.culprit.fingerprint
    yield "transaction.opener", row.opener
    yield "leak.class", row.leak_class
    yield "longest_s", row.longest_s
    for side, leaks, rate in zip("ab", row.leaks, row.rates, strict=True):
        yield side, {"leaks": leaks, "per_hour": None if rate is None else round(rate, 3)}
