"""Postgres's own suites: what it regresses against, what isolates transactions, and pipelines in libpq."""

import re
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.conformance.server import Target, debian_version, installed, programs
from tests.conformance.sources import BUILD_DEADLINE, debian_source, need, run
from tests.conformance.suite import FAILED, PASSED, Outcome, Outcomes, Suite, told

# What none of the suites needs; everything else is as Debian builds it, so that the server can load regress.so.
CONFIGURE = ("--without-icu", "--without-readline", "--without-zlib")
PIPELINE_ROWS = "700"  # as Postgres's own script for it has it; traces depend on it

# Up to version 15, and in TAP from 16 on.
REPORTED = re.compile(r"^(?:test |     )(\S+) +\.\.\. (ok|FAILED)", re.MULTILINE)
REPORTED_IN_TAP = re.compile(r"^(ok|not ok) \d+ +[-+] (\S+)", re.MULTILINE)


def built(*directories: str) -> Path:
    """Postgres's source tree, with what is in these directories below src/ built.

    Raises:
        Unavailable: there is no such source, or it cannot be built here.
    """
    source = debian_source(f"postgresql-{installed()}", debian_version())
    need("gcc", "make", "perl")
    if not (source / "config.status").exists():
        run(["./configure", "--quiet", *CONFIGURE], source, BUILD_DEADLINE)
    for directory in directories:
        run(["make", "--silent", "--jobs=2", "-C", f"src/{directory}"], source, BUILD_DEADLINE)
    return source


def _named(title: str) -> str:
    return f"Postgres {debian_version().partition('-')[0]}: {title}"


class PgRegress:
    """Tests that psql or isolationtester run: what comes out of each is compared byte by byte, too.

    Args:
        title: what to call it.
        directory: where it is, below src/.
        program: the runner, from src/test/.
        database: where it makes its tables.
        schedule: which tests there are: a file, or names.
    """

    settings: Mapping[str, str] = {}

    def __init__(self, title: str, directory: str, program: str, database: str, schedule: str | Sequence[str]) -> None:
        self.name = self._title = title
        self._directory = directory
        self._program = program
        self._database = database
        self._schedule = schedule
        self._source = Path()

    def prepare(self) -> None:
        self._source = built("test/regress", "test/isolation", self._directory) / "src"
        self.name = _named(self._title)

    def run(self, target: Target) -> Outcomes:
        work = target.server.lend(self._source / self._directory, "results")
        tests = [f"--schedule={work / self._schedule}"] if isinstance(self._schedule, str) else self._schedule
        command: list[str | Path] = [
                self._source / "test" / self._program, f"--inputdir={work}", f"--outputdir={work}", f"--dlpath={work}",
                f"--bindir={programs()}", f"--dbname={self._database}", "--max-concurrent-tests=20",
                f"--host={target.address.host}", f"--port={target.address.port}", "--user=postgres", *tests,
            ]  # fmt: skip
        _, said = told(command, work, target.environment())
        reported = [*REPORTED.findall(said), *((name, how) for how, name in REPORTED_IN_TAP.findall(said))]
        assert reported, said
        return {
            name: Outcome(PASSED if how == "ok" else FAILED, _output(work / "results" / f"{name}.out", work))
            for name, how in reported
        }


def _output(file: Path, work: Path) -> str:
    """What a file has in it, wherever it was made; nothing if there is none."""
    return file.read_text(errors="backslashreplace").replace(str(work), "") if file.exists() else ""


class Pipelines:
    """libpq_pipeline: the traces of what libpq has sent and received have to be the ones that come with it."""

    name = "libpq_pipeline"
    settings: Mapping[str, str] = {}

    def __init__(self) -> None:
        self._home = Path()

    def prepare(self) -> None:
        self._home = built("test/regress", "test/modules/libpq_pipeline") / "src/test/modules/libpq_pipeline"
        self.name = _named("libpq_pipeline")

    def run(self, target: Target) -> Outcomes:
        program = self._home / "libpq_pipeline"
        _, names = told([program, "tests"], self._home, target.environment())
        return {name: self._run(program, name, target) for name in names.split()}

    def _run(self, program: Path, name: str, target: Target) -> Outcome:
        expected = self._home / "traces" / f"{name}.trace"
        with tempfile.TemporaryDirectory() as directory:
            trace = Path(directory, "trace")
            tracing: list[str | Path] = ["-t", trace] if expected.exists() else []
            connection = f"host={target.address.host} port={target.address.port} dbname=postgres"
            status, _ = told(
                [program, "-r", PIPELINE_ROWS, *tracing, name, connection], Path(directory), target.environment()
            )
            traced = _output(trace, Path(directory))
        is_right = status == 0 and (not tracing or traced == expected.read_text())
        return Outcome(PASSED if is_right else FAILED, traced)


SUITES: list[Suite] = [
    PgRegress("regression", "test/regress", "regress/pg_regress", "regression", "parallel_schedule"),
    PgRegress(
        "isolation", "test/isolation", "isolation/pg_isolation_regress", "isolation_regression", "isolation_schedule"
    ),
    Pipelines(),
]
