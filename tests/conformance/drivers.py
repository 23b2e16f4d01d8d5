"""Drivers' own suites: in Python by pytest, in Go by its own runner."""

import json
import shutil
import tempfile
import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.conformance.server import Target
from tests.conformance.sources import TOOLS, python_with, run, sdist
from tests.conformance.suite import FAILED, PASSED, SKIPPED, Outcome, Outcomes, Suite, told
from tests.servers.npm import Unavailable

SETTINGS = {"wal_level": "logical", "max_prepared_transactions": "10"}
PYTEST = "pytest>=8"
GO_LIBRARIES = Path("/usr/share/gocode")  # where Debian puts their sources, tests and all
GO_STATUS = {"pass": PASSED, "fail": FAILED, "skip": SKIPPED}
SQLALCHEMY = ["test/dialect/postgresql", "test/engine"]  # what speaks to Postgres, and how it connects and commits


class Pytest:
    """Tests that pytest runs, of a driver as PyPI has it.

    Args:
        release: the driver's, or the library's, source distribution, as in `asyncpg==0.32.0`.
        requirements: what to install besides pytest.
        parts: what of the source to run it in: without the rest, what is tested is what was installed.
        arguments: for pytest; {host} and {port} are those of the target.
        variables: for its environment.
        schema: statements that make what the tests want to find.
    """

    settings: Mapping[str, str] = SETTINGS

    def __init__(
        self,
        release: str,
        requirements: Sequence[str],
        parts: Sequence[str] = ("tests",),
        arguments: Sequence[str] = ("tests",),
        variables: Mapping[str, str] | None = None,
        schema: Sequence[str] = (),
    ) -> None:
        self.name = release.replace("==", " ")
        self._release = release
        self._requirements = requirements
        self._parts = parts
        self._arguments = arguments
        self._variables = variables or {}
        self._schema = schema
        self._source = Path()
        self._python = Path()

    def prepare(self) -> None:
        self._source = self._fetch()
        self._python = python_with(self._release.partition("==")[0], PYTEST, *self._requirements)

    def _fetch(self) -> Path:
        return sdist(self._release)

    def run(self, target: Target) -> Outcomes:
        with target.server.connect() as connection:
            for statement in self._schema:
                connection.execute(statement.encode())
        with tempfile.TemporaryDirectory() as name:
            work = Path(name)
            if "pyproject.toml" not in self._parts:
                (work / "pytest.ini").write_text("[pytest]\n")
            for part in self._parts:
                _copy(self._source / part, work / part)
            report = work / "report.xml"
            arguments = [argument.format(**target.address._asdict()) for argument in self._arguments]
            _, said = told(
                [self._python, "-m", "pytest", "--quiet", f"--junitxml={report}", *arguments],
                work,
                target.environment(**self._variables),
            )
            assert report.exists(), said
            return dict(_outcome(case) for case in ET.parse(report).iter("testcase"))  # noqa: S314 - pytest's own file


def _copy(source: Path, destination: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, destination)
    else:
        shutil.copy(source, destination)


def _outcome(case: ET.Element) -> tuple[str, Outcome]:
    name = f"{case.get('classname')}.{case.get('name')}"
    kinds = {child.tag for child in case}
    if kinds & {"failure", "error"}:
        return name, Outcome(FAILED)
    return name, Outcome(SKIPPED if "skipped" in kinds else PASSED)


class Go:
    """Tests of a Go library, as Debian packages it.

    Args:
        package: Debian's name for it.
        library: its import path.
        variables: for its environment; {host} and {port} are those of the target.
        schema: statements that make what the tests want to find.
    """

    settings: Mapping[str, str] = SETTINGS

    def __init__(self, package: str, library: str, variables: Mapping[str, str], schema: Sequence[str] = ()) -> None:
        self.name = library.removeprefix("github.com/")
        self._package = package
        self._library = library
        self._variables = variables
        self._schema = schema
        self._go = ""

    def prepare(self) -> None:
        self._go = shutil.which("go") or max(map(str, Path("/usr/lib").glob("go-*/bin/go")), default="")
        if not self._go:
            raise Unavailable("Go is not installed")
        if not (GO_LIBRARIES / "src" / self._library).exists():
            raise Unavailable(f"Debian's {self._package} is not installed")
        version = run(["dpkg-query", "--show", "--showformat=${Version}", self._package], Path.cwd(), 10)
        self.name = f"{self._library.removeprefix('github.com/')} {version.rpartition('-')[0]}"

    def run(self, target: Target) -> Outcomes:
        with target.server.connect() as connection:
            for statement in self._schema:
                connection.execute(statement.encode())
        variables = {name: value.format(**target.address._asdict()) for name, value in self._variables.items()}
        ours = {"GO111MODULE": "off", "GOPATH": str(GO_LIBRARIES), "GOCACHE": str(TOOLS / "go"), "GOFLAGS": ""}
        _, said = told(
            [self._go, "test", "-json", "-count=1", self._library],
            GO_LIBRARIES / "src" / self._library,
            target.environment(**ours, **variables),
        )
        events = [json.loads(line) for line in said.splitlines() if line.startswith("{")]
        outcomes = {
            event["Test"]: Outcome(GO_STATUS[event["Action"]])
            for event in events
            if "Test" in event and event["Action"] in GO_STATUS
        }
        assert outcomes, said
        return outcomes


SUITES: list[Suite] = [
    Pytest("asyncpg==0.32.0", ["asyncpg==0.32.0", "uvloop", "distro"]),
    Pytest(
        "psycopg2==2.9.13",
        ["psycopg2-binary==2.9.13"],
        variables={"PSYCOPG2_TESTDB": "postgres", "PSYCOPG2_TEST_REPL_DSN": ""},
    ),
    Pytest(
        "sqlalchemy==2.1.9",
        ["sqlalchemy==2.1.9", "psycopg[binary]==3.3.9"],
        parts=["lib", "test", "setup.cfg", "pyproject.toml"],
        arguments=[*SQLALCHEMY, "--dburi", "postgresql+psycopg://postgres@{host}:{port}/postgres"],
        schema=[
            *(f"CREATE SCHEMA {schema}" for schema in ("test_schema", "test_schema_2")),
            *(f"CREATE EXTENSION {extension}" for extension in ("citext", "hstore")),
            "ALTER DATABASE postgres SET default_text_search_config = 'pg_catalog.english'",
        ],
    ),
    Go("golang-github-lib-pq-dev", "github.com/lib/pq", {"PGSSLMODE": "disable"}),
    Go(
        "golang-github-jackc-pgx-v4-dev",
        "github.com/jackc/pgx/v4",
        {"PGX_TEST_DATABASE": "host={host} port={port} user=postgres database=postgres"},
        schema=["CREATE EXTENSION hstore", "CREATE DOMAIN uint64 AS numeric(20,0)"],
    ),
]
