"""The story: a test suite with one test that leaks, before and after the fix; TLS is kept on the way."""

import re
import sys
from pathlib import Path

from proxy.demo.postgres import Postgres
from tests.life.support import ROOT, FakeServer
from tests.run.support import knows, run, told
from tests.servers.certificates import Certificates
from tests.tls.support import in_front_of, served_by

SUITE = """
import os
import time
import psycopg
import pytest

@pytest.fixture(scope="session")
def pool():
    url = os.environ["DATABASE_URL"]
    with psycopg.connect(url, application_name="shop-setup") as setup:
        setup.execute("CREATE TABLE invoices AS SELECT 7 AS id, 'open' AS status")
    connections = [psycopg.connect(url, application_name=f"shop-{n}") for n in range(2)]
    yield connections
    for connection in connections:
        connection.close()
    with psycopg.connect(url, application_name="shop-setup") as setup:
        setup.execute("DROP TABLE invoices")

def test_reads(pool):
    with pool[0] as connection:  # which closes it
        connection.execute("SELECT 1")

def test_notes_a_payment(pool):
    pool[1].execute("UPDATE invoices SET status = 'paid' WHERE id = 7")
    pool[1].execute("SELECT count(*) FROM invoices WHERE status = 'paid'")
    FIX
"""


def suite(place: Path, fix: str) -> tuple[str, ...]:
    file = place / "test_shop.py"
    file.write_text(SUITE.replace("FIX", fix))
    quiet = ("-q", "-p", "no:cacheprovider", "--rootdir", str(place), "-c", "/dev/null")
    return "--fail", "--", sys.executable, "-m", "pytest", *quiet, str(file)


def masked(text: str) -> str:
    """Without what is another one each time: lengths of time, ids, processes."""
    varying = r"[\d.]+ ?m?s\b|(?<=leak        )\w{8}|(?<=@postgres, )[^)]*|(?<=process     ).*| +"
    return re.sub(varying, lambda match: " " if match[0].isspace() else "#", text)


def test_a_suite_with_a_leaking_test_fails_and_passes_after_the_fix(postgres: Postgres, tmp_path: Path) -> None:
    environment = knows(
        postgres, DATABASE_URL=f"postgresql://{postgres.host}:{postgres.port}", PYTEST_DISABLE_PLUGIN_AUTOLOAD="1"
    )
    before = run(*suite(tmp_path, "time.sleep(0.01)"), env=environment)  # so that it is held for a moment
    assert (before.returncode, b"2 passed" in before.stdout) == (3, True)
    said = told(before)
    assert "shop-1 (postgres@postgres, " in said
    assert "opened by   UPDATE invoices SET status = ? WHERE id = ?\n" in said
    assert "last        SELECT count(*) FROM invoices WHERE status = ?\n" in said
    assert not {"shop-0", "shop-setup"} & set(said.split())
    page = masked((ROOT / "docs/ci.md").read_text())
    assert [line for line in masked(said).splitlines() if line not in page] == []
    after = run(*suite(tmp_path, "pool[1].rollback()"), env=environment)
    assert (after.returncode, told(after)) == (0, "pgleash: no leak in 4 sessions and 4 transaction blocks\n")


def test_tls_that_the_command_demands_is_kept_on_the_way_to_the_server(
    postgres: Postgres, certificates: Certificates
) -> None:
    seen: list[str] = []
    with FakeServer(in_front_of(postgres, served_by(certificates), seen)) as server:
        port = server.address.rpartition(":")[2]
        url = f"postgresql://postgres:{postgres.password}@localhost:{port}/postgres?sslmode=verify-full&sslrootcert={certificates.ca_file}"
        script = "psql -qAtc 'SELECT 1' \"$DATABASE_URL\" && psql -qAtc 'SELECT 2'"
        variables = {"PGHOST": "localhost", "PGPORT": port, "DATABASE_URL": url}
        ended = run("--", "sh", "-c", script, env=knows(postgres, **variables))
    assert (ended.returncode, ended.stdout, seen) == (0, b"1\n2\n", ["TLS", "TLS"])
