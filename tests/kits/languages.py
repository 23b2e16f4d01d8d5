"""How to start a program in another language, beside the libraries that it needs.

Each function fetches and builds what that takes, and raises Unavailable where it cannot be had.
"""

import functools
import shutil
from pathlib import Path

from tests.kits.machine import ROOT, Unavailable, build, fetch, require, require_program

TOOLS = ROOT / ".tools" / "kits"
PACKAGES = Path(__file__).parent / "node"
JARS = Path("/usr/share/java")
GOPATH = Path("/usr/share/gocode")

# What these need in turn differs from release to release: all that is there of it.
NEEDED_JARS = ("postgresql", "HikariCP", "slf4j-api")
USEFUL_JARS = ("slf4j-nop", "scram-client", "scram-common", "stringprep", "saslprep")

__all__ = ["Unavailable", "go", "java", "node"]


def node(programs: Path, place: str, name: str) -> list[str]:
    """A program of node's.

    Args:
        programs: the directory of the program and of what it imports.
        place: what the copy of that directory is called.
        name: the program, without `.mjs`.
    """
    return [require_program("node", "node"), str(_node_directory(programs, place) / f"{name}.mjs")]


@functools.cache
def _node_directory(programs: Path, place: str) -> Path:
    """A copy of the programs below their packages, which is where node looks for these."""
    directory = _node_packages() / place
    directory.mkdir(exist_ok=True)
    for file in programs.iterdir():
        shutil.copy(file, directory)
    return directory


@functools.cache
def _node_packages() -> Path:
    npm = require_program("node", "npm")
    directory = TOOLS / "node"
    directory.mkdir(parents=True, exist_ok=True)
    lock = directory / "package-lock.json"
    before = lock.read_bytes() if (directory / "node_modules").is_dir() and lock.exists() else b""
    for file in PACKAGES.iterdir():
        shutil.copy(file, directory)
    if lock.read_bytes() != before:
        fetch([npm, "ci", "--no-audit", "--no-fund", "--loglevel=error"], directory)
    return directory


def java(programs: Path, place: str, main: str) -> list[str]:
    """A class with a main method, with pgjdbc and HikariCP.

    Args:
        programs: the directory of the sources; all of them are compiled.
        place: what the directory of its classes is called.
        main: the class.
    """
    return [require_program("java", "java"), "-cp", _java_classpath(programs, place), main]


@functools.cache
def _java_classpath(programs: Path, place: str) -> str:
    javac = require_program("java", "javac")
    for needed in NEEDED_JARS:
        require("java", (JARS / f"{needed}.jar").exists, f"{needed}.jar in {JARS}")
    classes = TOOLS / "java" / place
    classes.mkdir(parents=True, exist_ok=True)
    jars = (JARS / f"{name}.jar" for name in (*NEEDED_JARS, *USEFUL_JARS))
    path = ":".join([*(str(jar) for jar in jars if jar.exists()), str(classes)])
    build([javac, "-d", str(classes), "-cp", path, *map(str, sorted(programs.glob("*.java")))])
    return path


@functools.cache
def go(sources: tuple[Path, ...], place: str, package: str) -> list[str]:
    """A program of Go's.

    Args:
        sources: what it is made of; the last one gives it its name.
        place: the directory for what is built.
        package: what it needs of Debian's, as it is imported.
    """
    compiler = require_program("go", "go")
    require("go", (GOPATH / "src" / package).is_dir, f"{package} in {GOPATH}")
    program = TOOLS / "go" / place / sources[-1].stem
    program.parent.mkdir(parents=True, exist_ok=True)
    modules_off = {"GO111MODULE": "off", "GOPATH": str(GOPATH), "GOFLAGS": ""}
    build([compiler, "build", "-o", str(program), *map(str, sources)], variables=modules_off)
    return [str(program)]
