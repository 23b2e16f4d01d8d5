from pathlib import Path

import pytest

from tests.compatibility import NOTHING, Section, Table

HERE = Path(__file__).parent
DOCUMENT = """Text.
<!-- one:begin -->
old
<!-- one:end -->
More.
<!-- two:begin -->
kept
<!-- two:end -->
"""


def test_only_the_own_section_is_written_and_every_time_the_same() -> None:
    table = Table("Heading", "version", columns=["a", "b"])
    table.record("13", "b", "1 | 2")
    section = Section("one", HERE, table)
    written = section.put_into(DOCUMENT)
    expected = f"### Heading\n\n| version | a | b |\n| --- | --- | --- |\n| 13 | {NOTHING} | 1 \\| 2 |"
    assert written == DOCUMENT.replace("\nold\n", f"\n\n{expected}\n\n")
    assert section.put_into(written) == written


def test_a_missing_marker_is_told() -> None:
    with pytest.raises(ValueError, match="three:begin"):
        Section("three", HERE).put_into(DOCUMENT)


def test_the_worst_outcome_stays() -> None:
    table = Table("", "version")
    for column, outcomes in {"a": ["pass", "fail", "pass"], "b": [NOTHING, "pass"], "c": [NOTHING]}.items():
        for outcome in outcomes:
            table.record_outcome("13", column, outcome)
    assert table.render().splitlines()[-1] == f"| 13 | fail | pass | {NOTHING} |"


def test_the_order_is_the_given_one() -> None:
    table = Table("", "version", columns=["b", "a"], rows=["14", "13"])
    for row in ("13", "14", "15"):
        for column in "abc":
            table.record(row, column, row + column)
    assert table.render().splitlines()[0] == "| version | b | a | c |"
    assert [line.split()[1] for line in table.render().splitlines()[2:]] == ["14", "13", "15"]


def test_what_is_the_same_in_every_column_may_be_left_out() -> None:
    table = Table("", "version", only_differences=True)
    for row, texts in {"same": ("1", "1"), "other": ("1", "2"), "missing": ("1",)}.items():
        for column, text in zip("ab", texts, strict=False):
            table.record(row, column, text)
    assert table.render().splitlines()[2:] == ["| other | 1 | 2 |", f"| missing | 1 | {NOTHING} |"]
