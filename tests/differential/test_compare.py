"""The comparison sees every byte, but for the backend's own process id and key."""

import pytest

from tests import messages as m
from tests.differential.compare import difference
from tests.differential.player import Heard

SAID = m.STARTED + m.NOTIFICATION + m.queried("SELECT 1", "I")


def heard(stream: bytes, certain: int = 0, *, whole: bool = True) -> Heard:
    return Heard(stream, certain, whole=whole, after=0.0)


@pytest.mark.parametrize("at", range(len(SAID)))
def test_a_changed_byte_is_seen(at: int) -> None:
    other = SAID[:at] + bytes([SAID[at] ^ 1]) + SAID[at + 1 :]
    key = SAID.index(m.key_data()) + 5
    notifier = SAID.index(m.NOTIFICATION) + 5
    own = key <= at < key + 8 or notifier <= at < notifier + 4
    assert (difference(heard(SAID), heard(other)) is None) is own


@pytest.mark.parametrize("other", [SAID[:-1], SAID[:-6], SAID + m.ready("I"), SAID + b"Z", b""])
def test_a_stream_that_ends_elsewhere_is_seen(other: bytes) -> None:
    assert difference(heard(SAID), heard(other)) is not None
    assert difference(heard(other), heard(SAID)) is not None


def test_what_a_client_has_read_before_it_left_is_compared() -> None:
    certain = len(SAID) - 10
    assert difference(heard(SAID, certain, whole=False), heard(SAID[:certain], certain, whole=False)) is None
    wrong = b"S" + SAID[1:certain]
    assert difference(heard(SAID, certain, whole=False), heard(wrong, certain, whole=False)) is not None


def test_what_was_waited_for_in_vain_is_seen() -> None:
    assert difference(heard(SAID), heard(SAID)._replace(short="nothing more came")) is not None
