"""Scripts that stay in the tree: cases that were found, and ones that are worth keeping."""

from pathlib import Path
from typing import Final

import pytest

from tests.differential.compare import compare, play_directly
from tests.differential.ground import Ground, faults
from tests.differential.player import Manner
from tests.differential.script import End, Script

CORPUS: Final = {
    file.stem: Script.read(file.read_text()) for file in Path(__file__).with_name("corpus").glob("*.script")
}
OTHERS: Final = (Manner(), Manner(largest=300, seed=3, waits=False))
MANNERS: Final = (
    *OTHERS,
    Manner(largest=1, seed=1),
    Manner(largest=7, seed=2),
    Manner(waits=False),
)


@pytest.mark.parametrize("name", sorted(CORPUS))
def test_a_script_of_the_corpus(ground: Ground, name: str) -> None:
    script = CORPUS[name]
    if End("eof") in script.steps and not ground.can_half_close:
        pytest.skip("this client cannot half-close TLS")
    direct = play_directly(ground, script)
    assert direct.heard.short is None, "the script waits for what does not come"
    for manner in MANNERS if ground.is_first else OTHERS:
        assert compare(ground, [script], [direct], [manner]) is None
    assert faults(ground.proxy) == []


@pytest.mark.parametrize("name", sorted(CORPUS))
def test_a_script_can_be_written_and_read(name: str) -> None:
    assert Script.read(str(CORPUS[name])) == CORPUS[name]
