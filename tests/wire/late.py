"""What a client may say that does not know that its transaction is gone: strategies for conversations."""

from collections.abc import Sequence
from typing import Final

from hypothesis import strategies as st

from tests import messages as m
from tests.behaviour.support import INT4_PLUS, function_call

PORTALS: Final = ("", "p", "q")
LOOSE: Final = (m.SYNC, m.FLUSH, m.copy_data(), m.COPY_DONE, m.copy_fail(), function_call(INT4_PLUS, 1, 2))


def said_late(all_texts: Sequence[str], all_names: Sequence[str]) -> st.SearchStrategy[bytes]:
    """Queries, series that end in a Sync, and other things between them; the last series may have no Sync."""
    texts, names, portals = map(st.sampled_from, (all_texts, all_names, PORTALS))
    kinds = st.sampled_from("SP")
    one_of_a_series = st.one_of(
        st.builds(m.run, texts),
        st.builds(lambda text, name: m.parse(text, name) + m.bind(name) + m.execute(), texts, names),
        st.builds(lambda name, portal: m.bind(name, portal) + m.execute(portal), names, portals),
        st.builds(lambda name, value: m.bind(name, "", value) + m.execute(), names, st.sampled_from((b"1", None))),
        st.builds(m.parse, texts, names),
        st.builds(m.bind, names, portals),
        st.builds(m.execute, portals, st.sampled_from((0, 1))),
        st.builds(m.describe, names | portals, kinds),
        st.builds(m.close, names | portals, kinds),
        st.sampled_from((m.FLUSH, m.copy_data())),
    )
    series = st.lists(one_of_a_series, max_size=5).map(b"".join)
    requests = st.one_of(
        st.builds(m.query, texts),
        series.map(lambda data: data + m.SYNC),
        series.map(lambda data: data + m.SYNC),
        st.sampled_from(LOOSE),
    )
    return st.tuples(st.lists(requests, max_size=8).map(b"".join), series).map(b"".join)
