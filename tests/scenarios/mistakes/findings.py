"""What a run has found, as the table at its end shows it."""

from dataclasses import dataclass

from tests.life.support import Record
from tests.scenarios.mistakes.catalogue import MISTAKES, Mistake

HEADS = ("mistake", "library", "named as", "after", "opened by", "after the fix")
WIDEST = 46  # characters of a cell: the whole fits a wide terminal


@dataclass
class Finding:
    """What became of one mistake.

    Attributes:
        named_as: the class of its leak, and the events that named it.
        seconds: how long it had lasted by then.
        opener: the statement that was named.
        fixed: what became of it without the mistake.
    """

    named_as: str = ""
    seconds: float | None = None
    opener: str = ""
    fixed: str = ""


findings: dict[Mistake, Finding] = {}


def of(mistake: Mistake) -> Finding:
    return findings.setdefault(mistake, Finding())


def record_leak(mistake: Mistake, line: Record) -> None:
    """It was named by this line."""
    finding = of(mistake)
    finding.named_as = line["leak.class"]
    finding.seconds, finding.opener = line["transaction.age_s"], line["transaction.opener"]


def record_event(mistake: Mistake, line: Record) -> None:
    """It was named by this event, too, or by this one alone."""
    finding = of(mistake)
    finding.named_as = ", ".join(filter(None, [finding.named_as, line["event"]]))
    if not mistake.leak_class:
        finding.seconds, finding.opener = line["session.idle_s"], line["session.last"]


def rows() -> list[tuple[str, ...]]:
    """The table, with its head."""
    return [HEADS, *(_row(mistake, findings[mistake]) for mistake in MISTAKES if mistake in findings)]


def _row(mistake: Mistake, found: Finding) -> tuple[str, ...]:
    seconds = "" if found.seconds is None else f"{found.seconds:.1f} s"
    return mistake.name, mistake.library, found.named_as, seconds, found.opener, found.fixed


def lines() -> list[str]:
    """The table as text."""
    cells = [[cell if len(cell) <= WIDEST else cell[: WIDEST - 1] + "…" for cell in row] for row in rows()]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]
