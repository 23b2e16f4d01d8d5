"""A client whose host is lost without a word, in the middle of a transaction."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator

import psycopg
import pytest

from proxy.demo.postgres import Postgres
from tests.harness import until
from tests.life.support import ROOT

# Root's own files stay root's; anybody else becomes the root of a namespace.
UNSHARE = ["unshare", "--net"] if os.geteuid() == 0 else ["unshare", "--net", "--map-root-user"]
UNDER_WAY = ["nothing", "data"]
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


@pytest.fixture(scope="module")
def islands(postgres: Postgres) -> Iterator[dict[str, subprocess.Popen[str]]]:
    """One for each thing that may be under way, all at once: nearly all that they do is wait."""
    if reason := obstacle():
        pytest.skip(reason)
    at = [*UNSHARE, sys.executable, "-m", "tests.life.island", str(postgres.socket_directory), str(postgres.port)]
    with contextlib.ExitStack() as stack:
        islands = {
            under_way: stack.enter_context(
                subprocess.Popen(
                    [*at, postgres.password, under_way],
                    cwd=ROOT,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                )
            )
            for under_way in UNDER_WAY
        }
        yield islands
        for island in islands.values():
            island.kill()


@pytest.mark.parametrize("under_way", UNDER_WAY)
def test_a_host_that_is_lost_is_noticed(
    postgres: Postgres, islands: dict[str, subprocess.Popen[str]], under_way: str
) -> None:
    said, errors = islands[under_way].communicate(timeout=60)
    assert islands[under_way].returncode == 0, errors
    told = json.loads(said)
    assert (told["how"], told["opener"]) == ("timeout", "SELECT ?")
    assert told["after"] < WITHIN
    with psycopg.connect(postgres.dsn(), autocommit=True) as judge:
        left = "SELECT count(*) FROM pg_stat_activity WHERE application_name = %s"
        until(lambda: judge.execute(left, [f"lost {under_way}"]).fetchone() == (0,), 2.0, "a backend is left")
