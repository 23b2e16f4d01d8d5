"""How a client's program is made to run, and why it cannot be had here."""

import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from tests.interop.catalogue import Client
from tests.kits import languages
from tests.kits.machine import Unavailable, require_driver

__all__ = ["Unavailable", "command"]

CLIENTS = Path(__file__).parent / "clients"
PLACE = "interop"

EMBEDDED = ("psql", "pgbench")  # ours have no TLS: with it, the machine's run
MAIN_CLASSES = {"jdbc": "Jdbc", "jdbc_simple": "JdbcSimple", "hikari": "Hikari"}
GO_PACKAGES = {"pq": "github.com/lib/pq", "pgx": "github.com/jackc/pgx"}


def command(client: Client, *, tls: bool) -> list[str]:
    """How to start a client's program; fetches and builds what that takes.

    Raises:
        Unavailable: it cannot be had here.
    """
    if tls and client.name in EMBEDDED:
        require_driver(client.name, [client.name, "--version"])
    return COMMANDS[client.kit](client.name)


def _python(name: str) -> list[str]:
    if name == "odbc":
        require_driver(name, [sys.executable, "-c", "import pyodbc; assert 'PostgreSQL Unicode' in pyodbc.drivers()"])
    return [sys.executable, "-m", f"tests.interop.clients.python.{name}"]


def _node(name: str) -> list[str]:
    return languages.node(CLIENTS / "node", PLACE, name)


def _java(name: str) -> list[str]:
    return languages.java(CLIENTS / "java", PLACE, MAIN_CLASSES[name])


def _go(name: str) -> list[str]:
    return languages.go(tuple(CLIENTS / "go" / f"{source}.go" for source in ("script", name)), PLACE, GO_PACKAGES[name])


def _perl(name: str) -> list[str]:
    require_driver("perl", ["perl", "-MDBD::Pg", "-e1"])
    return ["perl", str(CLIENTS / "perl" / f"{name}.pl")]


def _ruby(name: str) -> list[str]:
    require_driver("ruby", ["ruby", "-rpg", "-e1"])
    return ["ruby", str(CLIENTS / "ruby" / f"{name}.rb")]


def _php(name: str) -> list[str]:
    require_driver("php", ["php", "-r", "extension_loaded('pgsql') || exit(1);"])
    return ["php", str(CLIENTS / "php" / f"{name}.php")]


COMMANDS: Mapping[str, Callable[[str], list[str]]] = {
    "python": _python,
    "node": _node,
    "java": _java,
    "go": _go,
    "perl": _perl,
    "ruby": _ruby,
    "php": _php,
}
