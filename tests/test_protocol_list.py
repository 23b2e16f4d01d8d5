"""Each line of docs/protocol.md has a test that is marked with it, and no test is marked with what is not there."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
LINES = range(1, 29)
HEADS = {"line", "what went wrong"}


def marked() -> set[int | str]:
    """The arguments of all the marks in the tests."""
    found: set[int | str] = set()
    for file in ROOT.glob("tests/**/test_*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "pytest.mark.protocol":
                found.update(ast.literal_eval(argument) for argument in node.args)
    return found


def documented() -> list[int | str]:
    """The first cells of the tables."""
    cells = re.findall(r"^\| ([^|]+?) \|", (ROOT / "docs/protocol.md").read_text(), re.MULTILINE)
    return [int(cell) if cell.isdigit() else cell for cell in cells if cell not in HEADS]


def test_every_line_has_a_test_and_every_mark_a_line() -> None:
    listed = documented()
    assert len(listed) == len(set(listed)), "a line is there twice"
    assert [line for line in listed if isinstance(line, int)] == [*LINES]
    assert set(listed) == marked()
