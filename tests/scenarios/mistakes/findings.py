"""What a run has found, as the table at its end shows it."""

from dataclasses import dataclass

from tests.life.support import Record
from tests.scenarios.mistakes.catalogue import Mistake

HEADS = ("mistake", "library", "named as", "after", "opened by", "after the fix")
WIDEST = 46  # characters of a cell: the whole fits a wide terminal


@dataclass
class Finding:
    """What became of one mistake: the event or class that named it, when, its opener, and whether its fix is clean."""

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


def record_event(mistake: Mistake, event: str) -> None:
    """It was named by this event, too."""
    finding = of(mistake)
    finding.named_as = ", ".join(filter(None, [finding.named_as, event]))


def rows() -> list[tuple[str, ...]]:
    """The table, with its head."""
    return [
        HEADS,
        *(
            (
                mistake.name,
                mistake.library,
                found.named_as,
                "" if found.seconds is None else f"{found.seconds:.1f} s",
                found.opener,
                found.fixed,
            )
            for mistake, found in findings.items()
        ),
    ]


def lines() -> list[str]:
    """The table as text."""
    cells = [[cell if len(cell) <= WIDEST else cell[: WIDEST - 1] + "…" for cell in row] for row in rows()]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]
