"""A client whose host is lost without a word, in the middle of a transaction."""

import json
import os
import shutil
import subprocess
import sys

import psycopg
import pytest

from proxy.demo.postgres import Postgres
from tests.harness import until
from tests.life.support import ROOT

# Root's own files stay root's; anybody else becomes the root of a namespace.
UNSHARE = ["unshare", "--net"] if os.geteuid() == 0 else ["unshare", "--net", "--map-root-user"]
KEEPALIVE = 1.0
WITHIN = 4 * KEEPALIVE + 2.0  # the last answer may be as old as a keepalive; the kernel's timers are coarse


def obstacle() -> str:
    missing = [tool for tool in ("unshare", "nsenter", "ip") if shutil.which(tool) is None]
    if missing:
        return f"needs {', '.join(missing)}"
    tried = subprocess.run(
        [*UNSHARE, "ip", "link", "add", "here", "type", "veth", "peer", "name", "there"],
        capture_output=True,
        text=True,
        check=False,
    )
    return f"no network of its own: {tried.stderr.strip()}" if tried.returncode else ""


@pytest.mark.parametrize("under_way", ["nothing", "data"])
def test_a_host_that_is_lost_is_noticed(postgres: Postgres, under_way: str) -> None:
    if reason := obstacle():
        pytest.skip(reason)
    at = [str(postgres.socket_directory), str(postgres.port), postgres.password]
    island = [*UNSHARE, sys.executable, "-m", "tests.life.island", *at, under_way]
    ran = subprocess.run(island, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 0, ran.stderr
    told = json.loads(ran.stdout)
    assert (told["how"], told["opener"]) == ("timeout", "SELECT ?")
    assert told["after"] < WITHIN
    with psycopg.connect(postgres.dsn(), autocommit=True) as judge:
        left = "SELECT count(*) FROM pg_stat_activity WHERE query ~ 'repeat|SELECT 1' AND pid <> pg_backend_pid()"
        until(lambda: judge.execute(left).fetchone() == (0,), 2.0, "a backend is left")
