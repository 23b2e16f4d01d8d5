"""The house: who may import whom, and how long a file may be."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FILES = sorted(ROOT.glob("proxy/**/*.py"))
MAX_LINES = 350

# From the ground up; a file imports only from its own room and from rooms below.
ROOMS = [
    ["errors", "__init__"],
    ["wire"],
    ["settings"],
    ["sockets"],
    ["attribution"],
    ["report"],
    ["tls"],
    ["upstream"],
    ["leash"],
    ["relay"],
    ["rollback"],
    ["ending"],
    ["authentication"],
    ["session"],
    ["greeting"],
    ["server"],
    ["admin"],
    ["reload"],
    ["run", "compare"],
    ["demo"],
    ["check"],
    ["ask"],
    ["cli"],
    ["__main__"],
]
HEIGHT = {room: height for height, rooms in enumerate(ROOMS) for room in rooms}
NOT_ON_THE_WIRE = {"asyncio", "time", "socket", "logging", "structlog", "uvloop", "ssl", "datetime"}


def room_of(file: Path) -> str:
    first = file.relative_to(ROOT / "proxy").parts[0]
    return first.removesuffix(".py")


def imports(file: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_a_file_imports_only_from_below(file: Path) -> None:
    own = room_of(file)
    for name in imports(file):
        parts = name.split(".")
        if parts[0] == "proxy":
            room = parts[1] if parts[1] in HEIGHT else "__init__"
            assert room == own or HEIGHT[room] < HEIGHT[own], f"{own} must not know {name}"
        if own == "wire":
            assert parts[0] not in NOT_ON_THE_WIRE, f"the wire must not know {name}"


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_a_file_holds_one_thing(file: Path) -> None:
    assert len(file.read_text().splitlines()) <= MAX_LINES


def test_only_the_commands_exit() -> None:
    leavers = [file for file in FILES if {"sys.exit", "os._exit"} & imports(file) or "SystemExit" in file.read_text()]
    assert {room_of(file) for file in leavers} <= {"cli", "__main__"}


def test_every_import_room_is_on_the_map() -> None:
    described = (ROOT / "proxy/__init__.py").read_text()
    assert [room for room in HEIGHT if room != "__init__" and f"{room}" not in described] == []
