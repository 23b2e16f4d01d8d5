from tests.behaviour.test_no_false_alarms import (
    proxy,
    test_a_busy_transaction_and_a_long_statement,
    test_a_copy_that_flows_in_both_directions,
    test_a_pipeline,
    test_a_prepared_statement_that_waits_with_its_sync,
    test_a_replication_client,
    test_a_result_that_is_read_slowly,
    test_a_statement_longer_than_the_limit_and_then_a_short_pause,
    test_listen_and_a_pool_of_idle_connections,
    test_pg_dump,
)

__all__ = [
    "proxy",
    "test_a_busy_transaction_and_a_long_statement",
    "test_a_copy_that_flows_in_both_directions",
    "test_a_pipeline",
    "test_a_prepared_statement_that_waits_with_its_sync",
    "test_a_replication_client",
    "test_a_result_that_is_read_slowly",
    "test_a_statement_longer_than_the_limit_and_then_a_short_pause",
    "test_listen_and_a_pool_of_idle_connections",
    "test_pg_dump",
]

GROUP = "no false alarms"
