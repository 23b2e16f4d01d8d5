"""Debian's Postgres, since its sources are the ones that its test suites come with."""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from proxy.demo.postgres import Postgres
from proxy.settings import Address
from tests.conformance.sources import run
from tests.life.support import environment
from tests.servers.npm import Unavailable

HOME = Path("/usr/lib/postgresql")
# The suites connect as users of their own making, none of which has a password.
TRUST = "local all all trust\nhost all all 127.0.0.1/32 trust\nhost replication all 127.0.0.1/32 trust\n"


def installed() -> int:
    """The newest major version that is installed.

    Raises:
        Unavailable: there is none.
    """
    found = [int(path.parents[1].name) for path in HOME.glob("*/bin/postgres")]
    if not found:
        raise Unavailable("Debian's postgresql is not installed")
    return max(found)


def programs() -> Path:
    """Where the programs of that version are."""
    return HOME / str(installed()) / "bin"


def debian_version() -> str:
    """The version of that package, as Debian counts them."""
    return run(["dpkg-query", "--show", "--showformat=${Version}", f"postgresql-{installed()}"], Path.cwd(), 10)


class DebianPostgres(Postgres):
    """One throw-away server that trusts everybody on this machine."""

    def __init__(self, settings: Mapping[str, str]) -> None:
        super().__init__(installed(), {"log_min_messages": "fatal", **settings})

    def _find_programs(self, private: Path) -> Path:
        del private
        return programs()

    def _initialize(self) -> None:
        super()._initialize()
        (self.socket_directory / "data" / "pg_hba.conf").write_text(TRUST)

    def lend(self, directory: Path, results: str) -> Path:
        """A copy of a directory in which the server can read and write, with an empty one of this name in it."""
        copy = self.socket_directory / directory.name
        shutil.copytree(directory, copy, symlinks=True, ignore=shutil.ignore_patterns(results))
        (copy / results).mkdir()
        self._account.own(copy)
        return copy


@dataclass(frozen=True)
class Target:
    """A server, and the address at which a suite is to reach it."""

    server: DebianPostgres
    address: Address

    def environment(self, **more: str) -> dict[str, str]:
        """What tells libpq and its like of it."""
        own = {"PGHOST": self.address.host, "PGPORT": str(self.address.port), "PGUSER": "postgres"}
        return environment(own | {"PGDATABASE": "postgres"} | more)
