"""Scripts that stay in the tree: cases that were found, and ones that are worth keeping."""

from pathlib import Path
from typing import Final

import pytest

from tests.differential.compare import compare
from tests.differential.ground import Ground, faults
from tests.differential.player import Manner
from tests.differential.script import Script

CORPUS: Final = {file.stem: Script.read(file.read_text()) for file in Path(__file__).with_name("corpus").glob("*.script")}
MANNERS: Final = {
    "whole": Manner(),
    "byte by byte": Manner(largest=1, seed=1),
    "in small pieces": Manner(largest=7, seed=2),
    "without waiting": Manner(waits=False),
    "in pieces, without waiting": Manner(largest=300, seed=3, waits=False),
}


@pytest.mark.parametrize("manner", MANNERS)
@pytest.mark.parametrize("name", sorted(CORPUS))
def test_a_script_of_the_corpus(ground: Ground, name: str, manner: str) -> None:
    assert compare(ground, [CORPUS[name]], [MANNERS[manner]]) is None
    assert faults(ground.proxy) == []


@pytest.mark.parametrize("name", sorted(CORPUS))
def test_a_script_can_be_written_and_read(name: str) -> None:
    assert Script.read(str(CORPUS[name])) == CORPUS[name]
