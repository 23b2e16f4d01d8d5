from tests.life.test_endings import (
    judge,
    test_a_flagged_leak_is_over_exactly_once,
    test_clients_that_leave_take_everything_with_them,
)

__all__ = ["judge", "test_a_flagged_leak_is_over_exactly_once", "test_clients_that_leave_take_everything_with_them"]

GROUP = "clients end"
