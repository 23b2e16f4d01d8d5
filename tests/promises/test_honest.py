"""Honest transactions, by the million: pauses within the limit, statements beyond it, and nothing is said or done."""

import re
import subprocess
from pathlib import Path

import pytest

from proxy.demo.binaries import program as installed
from proxy.demo.postgres import Postgres
from proxy.settings import Address
from tests.life.support import environment
from tests.promises.conftest import VERSIONS, StartProgram, tell
from tests.promises.drivers import USER
from tests.promises.tally import Tally
from tests.rawclient import RawClient

LIMIT = 0.5  # no honest client pauses for a tenth of it; a machine with too much to do may make it half
SCALE = 2
CLIENTS = 50

# Weight and text; the first is pgbench's own, TPC-B-like.
SCRIPTS = {
    "bank": (
        400,
        r"""
\set account random(1, 100000 * :scale)
\set delta random(-5000, 5000)
BEGIN;
UPDATE pgbench_accounts SET abalance = abalance + :delta WHERE aid = :account;
SELECT abalance FROM pgbench_accounts WHERE aid = :account;
INSERT INTO pgbench_history (tid, bid, aid, delta, mtime) VALUES (1, 1, :account, :delta, CURRENT_TIMESTAMP);
END;
""",
    ),
    "one statement": (
        200,
        "\\set account random(1, 100000)\nSELECT abalance FROM pgbench_accounts WHERE aid = :account;\n",
    ),
    "pauses": (
        100,
        r"""
\set account random(1, 100000 * :scale)
\set pause random(1, 30)
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT abalance FROM pgbench_accounts WHERE aid = :account;
\sleep :pause ms
SAVEPOINT here;
SELECT count(*) FROM pgbench_branches;
\sleep :pause ms
ROLLBACK TO here;
COMMIT;
""",
    ),
    "rolls back": (100, "BEGIN;\nDELETE FROM pgbench_history WHERE tid = 1 AND aid = 0;\n\\sleep 5 ms\nROLLBACK;\n"),
    "longer than the limit": (
        2,
        f"BEGIN;\nSELECT pg_sleep({1.5 * LIMIT});\n\\sleep 20 ms\nSELECT 1;\n\\sleep 20 ms\nCOMMIT;\n",
    ),
}
PIPELINE = (
    200,
    r"""
\set account random(1, 100000 * :scale)
\startpipeline
BEGIN;
UPDATE pgbench_accounts SET abalance = abalance + 1 WHERE aid = :account;
SELECT abalance FROM pgbench_accounts WHERE aid = :account;
COMMIT;
\endpipeline
""",
)
PROTOCOLS = {
    "simple": SCRIPTS,
    "extended": SCRIPTS | {"pipeline": PIPELINE},
    "prepared": SCRIPTS | {"pipeline": PIPELINE},
}


def pgbench(*arguments: str, address: Address) -> str:
    """Run it to its end; what it says. The one that is installed here cannot speak TLS."""
    variables = {"PGHOST": address.host, "PGPORT": str(address.port), "PGUSER": USER, "PGDATABASE": USER}
    command = [str(installed("pgbench")), *arguments]
    found = subprocess.run(command, env=environment(variables), capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
    return found.stdout


def options(directory: Path, protocol: str) -> list[str]:
    """Its options for all scripts of a protocol."""
    weighted = []
    for name, (weight, script) in PROTOCOLS[protocol].items():
        file = directory / f"{protocol} {name}"
        file.write_text(script)
        weighted += ["-f", f"{file}@{weight}"]
    return ["-n", "-M", protocol, "-s", str(SCALE), "-c", str(CLIENTS), "-j", "2", *weighted]


@pytest.mark.timeout(0)
def test_nothing_is_said_of_honest_transactions(
    request: pytest.FixtureRequest, trusting: Postgres, start: StartProgram, tmp_path: Path
) -> None:
    wanted, seed = request.config.getoption("--transactions"), request.config.getoption("--seed")
    each = -(-wanted // (len(VERSIONS) * len(PROTOCOLS) * CLIENTS))
    program = start(flag_after=f"{LIMIT}s", rollback_after=f"{LIMIT}s", terminate_after=f"{2 * LIMIT}s")
    address, tally = program.address, Tally()
    pgbench("-i", "-q", "-s", str(SCALE), address=Address(trusting.host, trusting.port))
    for protocol in PROTOCOLS:
        said = pgbench(
            *options(tmp_path, protocol),
            "-t",
            str(each),
            f"--random-seed={seed}",
            address=address,
        )
        rate = re.search(r"^tps = (\d+)", said, re.MULTILINE)
        tell(f"{protocol}: {each * CLIENTS:,} transactions, {rate[1] if rate else 'no'} a second")
        assert f"number of transactions actually processed: {each * CLIENTS}/{each * CLIENTS}" in said
        tally.drain(program)
    tell("\n".join(tally.table()))
    assert set(tally.counts) == {"proxy.started"}
    assert tally.broken == []
    # It would have been: the same program, and a client that is not honest.
    with RawClient(trusting.dsn(host=address.host, port=address.port, sslmode="disable")) as leaking:
        leaking.query("BEGIN")
        assert program.wait("leak.rolled_back")["leak.held_s"] < 2 * LIMIT
