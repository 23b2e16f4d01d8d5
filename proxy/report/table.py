"""Tables that a person reads in a terminal."""

from collections.abc import Iterable, Sequence
from typing import Final

from proxy.report.events import LeakReport
from proxy.report.summary import seconds, who

MAX_TEXT: Final = 48  # characters: the table should fit a terminal

HEAD: Final = (
    "client", "leaks", "open", "false alarms", "rolled back", "terminated", "abandoned", "held", "longest", "opened by",
)  # fmt: skip
NUMBERS: Final = frozenset(HEAD[1:-1])


def ledger_table(reports: Iterable[LeakReport]) -> str:
    """Who leaked how often and how long, as they are ordered."""
    return align(HEAD, [_row(report) for report in reports], NUMBERS)


def _row(report: LeakReport) -> tuple[str, ...]:
    numbers = (
        report.leaks, report.open, report.committed, report.rolled_back, report.terminated, report.abandoned,
    )  # fmt: skip
    lengths = (seconds(report.held_s), seconds(report.longest_s))
    return (shortened(who(report.client)), *map(str, numbers), *lengths, shortened(report.opener or report.fingerprint))


def shortened(text: str, length: int = MAX_TEXT) -> str:
    """A text that fits its column."""
    return text if len(text) <= length else text[: length - 1] + "…"


def align(head: Sequence[str], rows: Iterable[Sequence[str]], numbers: frozenset[str]) -> str:
    """Rows below their head, each column as wide as it needs; those in `numbers` to the right."""
    table = [head, *rows]
    widths = [max(len(row[column]) for row in table) for column in range(len(head))]
    return "\n".join(
        "  ".join(
            text.rjust(width) if name in numbers else text.ljust(width)
            for text, width, name in zip(row, widths, head, strict=True)
        ).rstrip()
        for row in table
    )
