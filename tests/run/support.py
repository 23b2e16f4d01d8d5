"""`pgleash run` as a process, and an environment that knows one database."""

import subprocess
from collections.abc import Mapping

from proxy.demo.postgres import Postgres
from tests.harness import PATIENCE
from tests.life.support import ROOT, command, environment


def knows(postgres: Postgres, **variables: str) -> dict[str, str]:
    """An environment in which libpq finds the server."""
    own = {
        "PGHOST": postgres.host,
        "PGPORT": str(postgres.port),
        "PGUSER": postgres.user,
        "PGPASSWORD": postgres.password,
        "PGDATABASE": postgres.database,
    }
    return environment(own | variables)


def run(*words: str, env: Mapping[str, str], stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """Run `pgleash run` to its end."""
    return subprocess.run(
        command("run", *words), input=stdin, capture_output=True, env=env, cwd=ROOT, timeout=PATIENCE * 3, check=False
    )


def told(ended: subprocess.CompletedProcess[bytes]) -> str:
    """What it wrote to standard error."""
    return ended.stderr.decode()
