"""What becomes of names that a comment could not hold, and which frames are the application's."""

import functools
from pathlib import Path

import pytest

from proxy.attribution.tags import merged
from tests.callsite import support
from tests.callsite.python.callsite import place as snippet
from tests.callsite.python.callsite.place import commented, place


@pytest.mark.parametrize(
    "value",
    ["/hooks/<int:id>", "*/ DROP TABLE a; --", "/* /*", "it's", "\\'", "100%", "%s %%", "a=b,c:d", "naïve €", ""],
)
def test_whatever_a_value_is_it_arrives(value: str) -> None:
    text = commented("SELECT 1", {"route": value, "job": "a"})
    assert text.endswith("*/ SELECT 1")
    assert merged([text.encode()]) == {"route": value, "job": "a"}


def test_no_parameter_begins_in_a_comment() -> None:
    assert (commented("SELECT %s", {"route": "%s <"}) % 1).endswith("SELECT 1")


def test_without_tags_a_statement_stays_as_it_is() -> None:
    assert commented("SELECT '%'", {}) == "SELECT '%'"


def test_only_the_application_is_a_place(monkeypatch: pytest.MonkeyPatch) -> None:
    assert place() == {}, "these tests are not in the application's directory"
    monkeypatch.setattr(snippet, "APPLICATION", support.HERE)
    monkeypatch.setattr(snippet, "_own", functools.cache(snippet._own.__wrapped__))  # noqa: SLF001 - its cache
    assert place()["source_location"] == support.place_of("test_place.py", "here")  # here
    assert place()["function"] == "test_only_the_application_is_a_place"
    assert snippet._own(str(Path(support.HERE, "lib/site-packages/sqlalchemy/engine/base.py"))) is None  # noqa: SLF001
