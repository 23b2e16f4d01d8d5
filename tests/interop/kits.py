"""How a client's program is made to run: its language, its libraries, and why it cannot be had here."""

import functools
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from tests.interop.catalogue import Client
from tests.life.support import ROOT

CLIENTS = Path(__file__).parent / "clients"
TOOLS = ROOT / ".tools" / "interop"
JARS = Path("/usr/share/java")
GOPATH = Path("/usr/share/gocode")

EMBEDDED = ("psql", "pgbench")  # ours have no TLS: with it, the machine's run
MAIN_CLASSES = {"jdbc": "Jdbc", "jdbc_simple": "JdbcSimple", "hikari": "Hikari"}
GO_PACKAGES = {"pq": "github.com/lib/pq", "pgx": "github.com/jackc/pgx"}

# What each kit needs of Debian; PGLEASH_INTEROP_INSTALL=yes lets apt-get install what is missing, as root.
DEBIAN = {
    "node": ["nodejs", "npm"],
    "java": [
        "default-jdk-headless",
        "libpostgresql-jdbc-java",
        "libscram-java",
        "libhikaricp-java",
        "libslf4j-java",
    ],
    "go": ["golang-go", "golang-github-lib-pq-dev", "golang-github-jackc-pgx-v4-dev"],
    "perl": ["perl", "libdbd-pg-perl"],
    "ruby": ["ruby", "ruby-pg"],
    "php": ["php-cli", "php-pgsql"],
    "odbc": ["odbc-postgresql"],
    "psql": ["postgresql-client"],
    "pgbench": ["postgresql"],
}
NEVER = {"pgbench"}  # whose package would start a server


class Unavailable(Exception):  # noqa: N818 — a reason to skip, not an error
    """This machine has no such client; the text says why."""


def command(client: Client, *, tls: bool) -> list[str]:
    """How to start a client's program; fetches and builds what that takes.

    Raises:
        Unavailable: it cannot be had here.
    """
    if tls and client.name in EMBEDDED:
        _require_driver(client.name, [client.name, "--version"])
    return COMMANDS[client.kit](client.name)


# What the machine has to have.


def _require(kit: str, there: Callable[[], bool], what: str) -> None:
    """See that something is there, or let apt-get install what its kit needs."""
    if not there():
        _install(kit)
    if not there():
        raise Unavailable(f"there is no {what}; Debian: {' '.join(DEBIAN[kit])}")


def _require_program(kit: str, name: str) -> str:
    _require(kit, lambda: shutil.which(name) is not None, f"{name} on PATH")
    return shutil.which(name) or name


def _require_driver(kit: str, check: list[str]) -> None:
    """The same for a driver, which is there if this program ends well."""
    _require_program(kit, check[0])
    _require(kit, functools.partial(_ends_well, *check), f"driver: `{' '.join(check)}` fails")


def _ends_well(*program: str) -> bool:
    return subprocess.run(program, capture_output=True, check=False).returncode == 0


@functools.cache
def _install(kit: str) -> None:
    may = os.environ.get("PGLEASH_INTEROP_INSTALL") == "yes" and os.geteuid() == 0
    if may and kit not in NEVER and shutil.which("apt-get"):
        quiet = {"DEBIAN_FRONTEND": "noninteractive"}
        _fetch(["apt-get", "update", "-qq"])
        _fetch(["apt-get", "install", "-qq", "--no-install-recommends", *DEBIAN[kit]], variables=quiet)


def _fetch(command: list[str], directory: Path = ROOT, variables: Mapping[str, str] | None = None) -> None:
    """Get something; what this said when it fails is the reason why there is no client."""
    try:
        _build(command, directory, variables)
    except ValueError as reason:
        raise Unavailable(str(reason)) from None


def _build(command: list[str], directory: Path = ROOT, variables: Mapping[str, str] | None = None) -> None:
    """Run a step to its end.

    Raises:
        ValueError: it failed; with what it said.
    """
    environment = {**os.environ, **(variables or {})}
    done = subprocess.run(command, cwd=directory, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ValueError(f"`{' '.join(command)}` failed: {(done.stderr or done.stdout).strip()[-2000:]}")


# The kits.


def _python(name: str) -> list[str]:
    if name == "odbc":
        _require_driver(name, [sys.executable, "-c", "import pyodbc; assert 'PostgreSQL Unicode' in pyodbc.drivers()"])
    return [sys.executable, "-m", f"tests.interop.clients.python.{name}"]


def _node(name: str) -> list[str]:
    return [_require_program("node", "node"), str(_node_directory() / f"{name}.mjs")]


@functools.cache
def _node_directory() -> Path:
    """A copy of the programs beside their packages, which is where node looks for these."""
    npm = _require_program("node", "npm")
    directory = TOOLS / "node"
    directory.mkdir(parents=True, exist_ok=True)
    lock = directory / "package-lock.json"
    before = lock.read_bytes() if (directory / "node_modules").is_dir() else b""
    for file in (CLIENTS / "node").iterdir():
        shutil.copy(file, directory)
    if lock.read_bytes() != before:
        _fetch([npm, "ci", "--no-audit", "--no-fund", "--loglevel=error"], directory)
    return directory


def _java(name: str) -> list[str]:
    return [_require_program("java", "java"), "-cp", _java_classpath(), MAIN_CLASSES[name]]


@functools.cache
def _java_classpath() -> str:
    javac = _require_program("java", "javac")
    for needed in ("postgresql", "HikariCP", "slf4j-api"):
        _require("java", (JARS / f"{needed}.jar").exists, f"{needed}.jar in {JARS}")
    # What these need in turn differs from release to release: all that is there of it.
    names = (
        "postgresql",
        "HikariCP",
        "slf4j-api",
        "slf4j-nop",
        "scram-client",
        "scram-common",
        "stringprep",
        "saslprep",
    )
    classes = TOOLS / "java"
    classes.mkdir(parents=True, exist_ok=True)
    path = ":".join([*(str(JARS / f"{name}.jar") for name in names if (JARS / f"{name}.jar").exists()), str(classes)])
    _build([javac, "-d", str(classes), "-cp", path, *map(str, sorted((CLIENTS / "java").glob("*.java")))])
    return path


@functools.cache
def _go(name: str) -> list[str]:
    go = _require_program("go", "go")
    package = GO_PACKAGES[name]
    _require("go", (GOPATH / "src" / package).is_dir, f"{package} in {GOPATH}")
    TOOLS.mkdir(parents=True, exist_ok=True)
    program = TOOLS / f"go-{name}"
    sources = [str(CLIENTS / "go" / f"{source}.go") for source in ("script", name)]
    modules_off = {"GO111MODULE": "off", "GOPATH": str(GOPATH), "GOFLAGS": ""}
    _build([go, "build", "-o", str(program), *sources], variables=modules_off)
    return [str(program)]


def _perl(name: str) -> list[str]:
    _require_driver("perl", ["perl", "-MDBD::Pg", "-e1"])
    return ["perl", str(CLIENTS / "perl" / f"{name}.pl")]


def _ruby(name: str) -> list[str]:
    _require_driver("ruby", ["ruby", "-rpg", "-e1"])
    return ["ruby", str(CLIENTS / "ruby" / f"{name}.rb")]


def _php(name: str) -> list[str]:
    _require_driver("php", ["php", "-r", "extension_loaded('pgsql') || exit(1);"])
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
