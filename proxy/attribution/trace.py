"""The trace and the span that a statement belongs to, as its `traceparent` tag tells.

W3C Trace Context, "Traceparent Header Field Values" and "Versioning of traceparent": version 00 has four fields and
nothing behind them. Of a higher version the same four are read, and what follows them behind a dash is not looked at.
Version ff is forbidden, and so are an id of zeros alone and capitals in an id. The header's name may have any case.
"""

import re
from collections.abc import Mapping
from typing import Final, NamedTuple

_TRACEPARENT: Final = re.compile(
    r"(?!ff|00.{54})[0-9a-f]{2}-(?!0{32})(?P<trace>[0-9a-f]{32})-(?!0{16})(?P<span>[0-9a-f]{16})-[0-9a-f]{2}(?:-|\Z)",
    re.DOTALL,
)


class Trace(NamedTuple):
    """Where in a trace.

    Attributes:
        trace_id: 32 hexadecimal digits.
        span_id: 16 hexadecimal digits; the span that sent the statement.
    """

    trace_id: str
    span_id: str


def trace_of(tags: Mapping[str, str]) -> Trace | None:
    """Return the trace that tags tell of, the last one of several; None if there is none, or it is not valid.

    Args:
        tags: as `merged` returns them.
    """
    told = [value for name, value in tags.items() if name.lower() == "traceparent"]
    match = _TRACEPARENT.match(told[-1]) if told else None
    return Trace(match["trace"], match["span"]) if match else None
