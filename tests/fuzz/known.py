"""Faults that are known: cases of the corpus that fail, each with its reason. A run does not report them again."""

from typing import Final

KNOWN: Final[dict[str, str]] = {
    "tracker-ready_for_query_without_a_status": "IndexError in MessageFlow.ready, reported as ours",
    "tracker-parameter_status_without_a_value": "ValueError in MessageFlow.parameter_status, reported as ours",
}

# Where a proxy says that these are.
PLACES: Final = ("ready (flow.py", "parameter_status (flow.py")
