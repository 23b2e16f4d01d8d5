import psycopg

from proxy.demo.postgres import Postgres
from tests.behaviour.support import understanding
from tests.behaviour.test_truth import (
    SCRIPTS,
    judge,
    play,
    test_rare_sessions_too,
    test_what_is_told_of_a_transaction_is_what_psycopg_did,
)
from tests.conftest import StartProxy
from tests.harness import dsn
from tests.rawclient import RawClient

__all__ = ["judge", "test_rare_sessions_too", "test_what_is_told_of_a_transaction_is_what_psycopg_did"]

GROUP = "tracker"
BATCH = 20  # beyond those that the suite plays in every run


def test_what_we_believe_of_random_sessions_is_what_the_server_says(
    postgres: Postgres,
    start_proxy: StartProxy,
    judge: psycopg.Connection,
) -> None:
    with understanding(start_proxy(flag_after="never")) as proxy:
        for seed in range(BATCH * SCRIPTS, (BATCH + 1) * SCRIPTS):
            play(seed, proxy, judge, RawClient(dsn(proxy, postgres)))
