"""Other people's sources, fetched by their ordinary clients into .tools/; nothing of them is in this repository."""

import shutil
import subprocess
import sys
import tarfile
import venv
from collections.abc import Sequence
from pathlib import Path

from tests.servers.npm import Unavailable

TOOLS = Path(__file__).parents[2] / ".tools" / "conformance"
DOWNLOAD_DEADLINE = 300.0  # seconds
BUILD_DEADLINE = 1200.0  # seconds, for what takes one minute on two quiet cores

# What apt-get knows about this machine's own sources: where packages come from, there are their sources, too.
INDEXES = [
    "apt-get",
    "indextargets",
    "--format",
    "$(ORIGIN) $(REPO_URI) $(RELEASE) $(COMPONENT)",
    "Created-By: Packages",
]


def need(*programs: str) -> None:
    """Say it if one of these programs is not installed.

    Raises:
        Unavailable: with its name.
    """
    for program in programs:
        if shutil.which(program) is None:
            raise Unavailable(f"{program} is not installed")


def run(command: Sequence[str | Path], directory: Path, deadline: float) -> str:
    """What a program has printed.

    Raises:
        Unavailable: it failed; with the end of what it said.
    """
    try:
        done = subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=deadline, check=False)
    except subprocess.TimeoutExpired:
        raise Unavailable(f"{command[0]} was not done within {deadline:.0f} s") from None
    if done.returncode != 0:
        last = [line for line in done.stderr.splitlines() if line.strip()][-2:]
        raise Unavailable(f"{command[0]} failed: {' | '.join(last) or f'exit {done.returncode}'}")
    return done.stdout


def debian_source(package: str, version: str = "") -> Path:
    """The unpacked source of a Debian package, as Debian builds it.

    Args:
        package: the source package.
        version: exactly this one; the newest that there is.

    Raises:
        Unavailable: this is not Debian, or its archive does not have it.
    """
    place = TOOLS / f"{package}-{version or 'newest'}"
    if not place.exists():
        need("apt-get", "dpkg-source")
        private = _private_apt()
        run(["apt-get", *private, "update"], TOOLS, DOWNLOAD_DEADLINE)
        wanted = f"{package}={version}" if version else package
        fetched = place.with_name(f"{place.name}.fetched")
        shutil.rmtree(fetched, ignore_errors=True)
        fetched.mkdir()
        run(["apt-get", *private, "source", wanted], fetched, DOWNLOAD_DEADLINE)
        (unpacked,) = (path for path in fetched.iterdir() if path.is_dir())
        unpacked.rename(place)
        shutil.rmtree(fetched)
    return place


def _private_apt() -> list[str]:
    """Options that let apt-get know sources without touching the machine's own configuration."""
    indexes = {line for line in run(INDEXES, Path.cwd(), DOWNLOAD_DEADLINE).splitlines() if line.startswith("Debian ")}
    if not indexes:
        raise Unavailable("apt-get knows no archive of Debian's")
    apt = TOOLS / "apt"
    for directory in (apt / "lists" / "partial", apt / "archives" / "partial"):
        directory.mkdir(parents=True, exist_ok=True)
    lines = (f"deb-src {index.removeprefix('Debian ')}\n" for index in sorted(indexes))
    (apt / "sources.list").write_text("".join(lines))
    options = {
        "APT::Sandbox::User": "root",  # what it fetches lies where its own account may not get to
        "Dir::Cache": apt,
        "Dir::Etc::SourceList": apt / "sources.list",
        "Dir::Etc::SourceParts": "/dev/null",
        "Dir::State::Lists": apt / "lists",
    }
    return [f"--option={name}={value}" for name, value in options.items()]


def sdist(requirement: str) -> Path:
    """The unpacked source distribution of a release on PyPI, as in `asyncpg==0.32.0`.

    Raises:
        Unavailable: pip cannot get it.
    """
    name = requirement.replace("==", "-")
    place = TOOLS / name
    if not place.exists():
        TOOLS.mkdir(parents=True, exist_ok=True)
        run(
            [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary=:all:", requirement],
            TOOLS, DOWNLOAD_DEADLINE,
        )  # fmt: skip
        with tarfile.open(next(TOOLS.glob(f"{name}*.tar.gz"))) as archive:
            archive.extractall(TOOLS, filter="data")
    return place


def python_with(name: str, *requirements: str) -> Path:
    """The Python of a virtual environment of this name that has these requirements.

    Raises:
        Unavailable: pip cannot get them.
    """
    place = TOOLS / f"venv-{name}"
    python, stamp = place / "bin" / "python", place / "requirements"
    wanted = "\n".join(requirements)
    if not stamp.exists() or stamp.read_text() != wanted:
        venv.create(place, clear=True, with_pip=True)
        run([python, "-m", "pip", "install", "--quiet", *requirements], TOOLS, DOWNLOAD_DEADLINE)
        stamp.write_text(wanted)
    return python
