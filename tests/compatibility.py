"""The parts of docs/compatibility.md that test runs write, so that it claims only what has run.

A part is a `Section` between two markers, `<!-- name:begin -->` and `<!-- name:end -->`; the rest of it belongs to
people. A conftest declares the section and its tables and records what became of each test, tests record what they
see, and at the end of a full run `finish` writes the section. Its text depends on nothing but what was recorded.
"""

from collections.abc import Sequence
from pathlib import Path

import pytest

DOCUMENT = Path(__file__).parents[1] / "docs" / "compatibility.md"
OPTION = "--write-compatibility"
NOTHING = "–"  # noqa: RUF001 - a dash in a table
OUTCOMES = (NOTHING, "pass", "known failure", "fail")  # the worst stands last


class Table:
    """Text in rows and columns: in the order given, what is not given in the order in which it comes.

    Args:
        heading: what stands above it; may be empty.
        corner: what the first column is.
        columns, rows: their names.
        only_differences: whether to leave out rows that say the same in every column.
    """

    def __init__(
        self,
        heading: str,
        corner: str,
        columns: Sequence[str] = (),
        rows: Sequence[str] = (),
        *,
        only_differences: bool = False,
    ) -> None:
        self.heading = heading
        self._only_differences = only_differences
        self._corner = corner
        self._columns = list(columns)
        self._cells: dict[str, dict[str, str]] = {row: {} for row in rows}

    def record(self, row: str, column: str, text: str) -> None:
        """Say this; what was said there before is forgotten."""
        if column not in self._columns:
            self._columns.append(column)
        self._cells.setdefault(row, {})[column] = text

    def record_outcome(self, row: str, column: str, outcome: str) -> None:
        """Say how one of several tests has ended, as one of OUTCOMES; the worst stays."""
        before = self._cells.get(row, {}).get(column, NOTHING)
        self.record(row, column, max(before, outcome, key=OUTCOMES.index))

    def render(self) -> str:
        lines = [[self._corner, *self._columns], ["---"] * (1 + len(self._columns))]
        for row, cells in self._cells.items():
            texts = [cells.get(name, NOTHING) for name in self._columns]
            if len(set(texts)) > 1 or not self._only_differences:
                lines.append([row, *texts])
        table = "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)
        return f"### {self.heading}\n\n{table}" if self.heading else table


class Section:
    """One part of the document.

    Args:
        name: what its markers are called.
        directory: where its tests are; a full run is one of this directory and of all of its tests.
        tables: what it is made of.
    """

    def __init__(self, name: str, directory: Path, *tables: Table) -> None:
        self._begin, self._end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
        self._directory = directory
        self._tables = tables

    def put_into(self, document: str) -> str:
        """The document with this section as it was recorded, and every other part as it was."""
        before, begin, rest = document.partition(self._begin)
        _, end, after = rest.partition(self._end)
        if not (begin and end):
            raise ValueError(f"the document has no {self._begin} before {self._end}")
        return "\n\n".join([before + begin, *(table.render() for table in self._tables), end + after])

    def finish(self, session: pytest.Session, *, complete: bool = True) -> None:
        """Write this section at the end of a run, if that was a full one or OPTION says so.

        Args:
            session: the run.
            complete: False if this run has left out something that pytest does not know of.
        """
        if session.config.getoption(OPTION) or (complete and self._ran_whole(session)):
            DOCUMENT.write_text(self.put_into(DOCUMENT.read_text()))

    def _ran_whole(self, session: pytest.Session) -> bool:
        option = session.config.option
        named = [Path(argument).resolve() for argument in session.config.args]
        chosen = option.keyword or option.markexpr or option.collectonly
        return named == [self._directory] and not chosen and not session.shouldfail and not session.shouldstop


def outcome_of(report: pytest.TestReport) -> str | None:
    """How a test has ended, as one of OUTCOMES; None: this report does not tell. A skipped test says nothing."""
    if hasattr(report, "wasxfail"):
        return "known failure"
    if report.failed:
        return "fail"
    if report.skipped:
        return NOTHING
    return "pass" if report.when == "call" else None
