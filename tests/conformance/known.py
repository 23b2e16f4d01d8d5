"""Tests that differ without pgleash being at fault, and why."""

from collections.abc import Mapping

EXPLAINED: Mapping[str, str] = {
    "tests.test_execute.TestExecuteMany.test_executemany_server_failure_during_writes": (
        "chance, directly too: whether the error of the server overtakes 4 MB that are sent at once"
    ),
}
