"""What a machine has to have for a kit, and how to get what it has not."""

import functools
import os
import shutil
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

ROOT = Path(__file__).parents[2]

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
    """This machine has no such thing; the text says why."""


def require(kit: str, there: Callable[[], bool], what: str) -> None:
    """See that something is there, or let apt-get install what its kit needs.

    Raises:
        Unavailable: it is not there.
    """
    if not there():
        _install(kit)
    if not there():
        raise Unavailable(f"there is no {what}; Debian: {' '.join(DEBIAN[kit])}")


def require_program(kit: str, name: str) -> str:
    """The same for a program; returns its path."""
    require(kit, lambda: shutil.which(name) is not None, f"{name} on PATH")
    return shutil.which(name) or name


def require_driver(kit: str, check: list[str]) -> None:
    """The same for a driver, which is there if this program ends well."""
    require_program(kit, check[0])
    require(kit, functools.partial(_ends_well, *check), f"driver: `{' '.join(check)}` fails")


def _ends_well(*program: str) -> bool:
    return subprocess.run(program, capture_output=True, check=False).returncode == 0


@functools.cache
def _install(kit: str) -> None:
    may = os.environ.get("PGLEASH_INTEROP_INSTALL") == "yes" and os.geteuid() == 0
    if may and kit not in NEVER and shutil.which("apt-get"):
        quiet = {"DEBIAN_FRONTEND": "noninteractive"}
        fetch(["apt-get", "update", "-qq"])
        fetch(["apt-get", "install", "-qq", "--no-install-recommends", *DEBIAN[kit]], variables=quiet)


def fetch(command: list[str], directory: Path = ROOT, variables: Mapping[str, str] | None = None) -> None:
    """Get something.

    Raises:
        Unavailable: it cannot be got; with what the command said.
    """
    try:
        build(command, directory, variables)
    except ValueError as reason:
        raise Unavailable(str(reason)) from None


def build(command: list[str], directory: Path = ROOT, variables: Mapping[str, str] | None = None) -> None:
    """Run a step to its end.

    Raises:
        ValueError: it failed; with what it said.
    """
    environment = {**os.environ, **(variables or {})}
    done = subprocess.run(command, cwd=directory, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ValueError(f"`{' '.join(command)}` failed: {(done.stderr or done.stdout).strip()[-2000:]}")
