"""The trace that a statement's tags tell of: W3C Trace Context, and nothing that only looks like it."""

import pytest

from proxy.attribution.tags import merged
from proxy.attribution.trace import Trace, trace_of

TRACE = "5bd66ef5095369c7b0d1f8f4bd33716a"
SPAN = "c532cb4098ac3dd2"

VALID = [
    f"00-{TRACE}-{SPAN}-01",
    f"00-{TRACE}-{SPAN}-00",
    f"00-{TRACE}-{SPAN}-ff",
    f"01-{TRACE}-{SPAN}-01",
    f"fe-{TRACE}-{SPAN}-01-what-will-be",
    f"01-{TRACE}-{SPAN}-01-",
]

INVALID = [
    "",
    "00",
    f"ff-{TRACE}-{SPAN}-01",
    f"0-{TRACE}-{SPAN}-01",
    f"0g-{TRACE}-{SPAN}-01",
    f"00-{TRACE.upper()}-{SPAN}-01",
    f"00-{TRACE}-{SPAN.upper()}-01",
    f"00-{'0' * 32}-{SPAN}-01",
    f"00-{TRACE}-{'0' * 16}-01",
    f"00-{TRACE[1:]}-{SPAN}-01",
    f"00-{TRACE}0-{SPAN}-01",
    f"00-{TRACE}-{SPAN[1:]}-01",
    f"00-{TRACE}-{SPAN}",
    f"00-{TRACE}-{SPAN}-",
    f"00-{TRACE}-{SPAN}-1",
    f"00-{TRACE}-{SPAN}-0g",
    f"00-{TRACE}-{SPAN}-01-more",  # version 00 has nothing behind its flags
    f"00-{TRACE}-{SPAN}-01-",
    f"01-{TRACE}-{SPAN}-01.more",
    f"01-{TRACE}-{SPAN}-011",
    f"00_{TRACE}_{SPAN}_01",
    f" 00-{TRACE}-{SPAN}-01",
    f"00-{TRACE}-{SPAN}-01\n",
    f"00-{TRACE[:-1]}\u0661-{SPAN}-01",  # a digit, but none of these sixteen
]


@pytest.mark.parametrize("traceparent", VALID)
def test_a_valid_traceparent_names_trace_and_span(traceparent: str) -> None:
    assert trace_of({"job": "nightly", "traceparent": traceparent}) == Trace(trace_id=TRACE, span_id=SPAN)


@pytest.mark.parametrize("traceparent", INVALID)
def test_an_invalid_traceparent_is_none(traceparent: str) -> None:
    assert trace_of({"traceparent": traceparent}) is None


def test_no_traceparent_is_no_trace() -> None:
    assert trace_of({}) is None
    assert trace_of({"tracestate": VALID[0], "trace": VALID[0]}) is None


def test_the_name_may_have_any_case() -> None:
    assert trace_of({"TraceParent": VALID[0]}) == Trace(TRACE, SPAN)


def test_a_comment_tells_of_the_trace() -> None:
    tags = merged([f"SELECT 1 /*job='a',traceparent='{VALID[0]}',tracestate='congo%3Dt61'*/".encode()])
    assert trace_of(tags) == Trace(TRACE, SPAN)
