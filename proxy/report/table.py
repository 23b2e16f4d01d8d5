"""Tables that a person reads in a terminal."""

from collections.abc import Iterable, Sequence
from typing import Final

from proxy.report.events import LeakReport
from proxy.report.summary import who

MINUTE: Final = 60.0
HOUR: Final = 60 * MINUTE

MAX_ROWS: Final = 50  # a table is to be read
MAX_TEXT: Final = 48  # characters: the table should fit a terminal

HEAD: Final = (
    "client", "leaks", "open", "resolved", "false alarms", "rolled back", "terminated", "abandoned", "held", "longest",
    "opened by",
)  # fmt: skip
NUMBERS: Final = frozenset(HEAD[1:-1])


def ledger_table(reports: Iterable[LeakReport]) -> str:
    """Who leaked how often and how long, as they are ordered."""
    rows = [_row(report) for report in reports]
    return "\n".join([align(HEAD, rows[:MAX_ROWS], NUMBERS), *left_out(len(rows))])


def _row(report: LeakReport) -> tuple[str, ...]:
    numbers = (
        report.leaks, report.open, report.resolved, report.committed, report.rolled_back, report.terminated,
        report.abandoned,
    )  # fmt: skip
    lengths = (length_text(length) if length else "" for length in (report.held_s, report.longest_s))
    return (shortened(who(report.client)), *map(str, numbers), *lengths, shortened(report.opener or report.fingerprint))


def shortened(text: str, length: int = MAX_TEXT) -> str:
    """A text that fits its column."""
    return text if len(text) <= length else text[: length - 1] + "…"


def left_out(rows: int) -> list[str]:
    """What stands below a table that would be longer than anybody reads."""
    return [f"and {rows - MAX_ROWS:,} more; --json has all"] if rows > MAX_ROWS else []


def align(head: Sequence[str], rows: Iterable[Sequence[str]], numbers: frozenset[str]) -> str:
    """Rows below their head; those columns whose names are in `numbers` hold numbers."""
    words = frozenset(number for number, name in enumerate(head) if name not in numbers)
    return "\n".join(columns([head, *rows], words))


def columns(rows: Sequence[Sequence[str]], words: frozenset[int]) -> list[str]:
    """Lines in which columns of words begin below each other, and columns of numbers end so."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if number in words else cell.rjust(width)
            for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def length_text(seconds: float) -> str:
    """A measured length with as many digits as matter: `<1ms`, `84ms`, `1.4s`, `31s`, `2m10s`, `1h05m`."""
    milliseconds = round(seconds * 1000)
    if milliseconds < 1:
        return "<1ms"
    if milliseconds < 1000:  # noqa: PLR2004 - a second
        return f"{milliseconds}ms"
    if milliseconds < 9950:  # noqa: PLR2004 - what rounds to 10 s needs no tenths
        return f"{milliseconds / 1000:.1f}s"
    whole = round(seconds)
    minutes = round(seconds / MINUTE)
    if whole < 2 * MINUTE:
        return f"{whole}s"
    if whole < HOUR:
        return f"{whole // 60}m{whole % 60:02}s"
    return f"{minutes // 60}h{minutes % 60:02}m"
