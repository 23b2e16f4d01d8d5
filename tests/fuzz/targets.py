"""Everything that looks at bytes, and what has to hold of it."""

from collections.abc import Callable
from typing import Final

from tests.fuzz.case import Case
from tests.fuzz.checks import check_first_packets, check_gate, check_guard, check_scanner, check_tracker
from tests.fuzz.rollback import check_answer, check_carried, check_exit, check_owed

CHECKS: Final[dict[str, Callable[[Case], object]]] = {
    "tracker": check_tracker,
    "guard": check_guard,
    "scanner": check_scanner,
    "gate": check_gate,
    "first_packets": check_first_packets,
    "exit": check_exit,
    "answer": check_answer,
    "owed": check_owed,
    "carried": check_carried,
}
