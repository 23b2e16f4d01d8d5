"""docs/attribution.md shows what the tests run, to the letter."""

import re

import pytest

from tests.callsite.support import HERE
from tests.life.support import ROOT

DOCUMENT = (ROOT / "docs/attribution.md").read_text()
BLOCKS = dict(
    re.findall(r"^`([\w/]+\.(?:py|mjs|java))`[^\n]*\n\n```\w+\n(.*?)^```$", DOCUMENT, re.DOTALL | re.MULTILINE)
)
SNIPPETS = {
    "callsite/place.py": "python/callsite/place.py",
    "callsite/with_sqlalchemy.py": "python/callsite/with_sqlalchemy.py",
    "callsite/with_django.py": "python/callsite/with_django.py",
    "callsite.mjs": "node/callsite.mjs",
    "CallSites.java": "java/CallSites.java",
}


def test_each_snippet_is_shown() -> None:
    assert list(BLOCKS) == list(SNIPPETS)


@pytest.mark.parametrize(("name", "file"), SNIPPETS.items())
def test_a_block_is_its_file(name: str, file: str) -> None:
    assert BLOCKS[name] == (HERE / file).read_text()
