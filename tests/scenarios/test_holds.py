from tests.behaviour.test_holds import (
    test_a_hold_is_flagged_and_terminated_in_time,
    test_a_prepare_without_sync_is_flagged_and_never_terminated,
    test_a_running_statement_too_old_is_cancelled,
    test_a_transaction_too_old_is_ended_however_busy,
    test_psycopg_names_the_timeout,
)

__all__ = [
    "test_a_hold_is_flagged_and_terminated_in_time",
    "test_a_prepare_without_sync_is_flagged_and_never_terminated",
    "test_a_running_statement_too_old_is_cancelled",
    "test_a_transaction_too_old_is_ended_however_busy",
    "test_psycopg_names_the_timeout",
]

GROUP = "holds"
