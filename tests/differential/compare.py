"""What has to be the same, and what may differ: two process ids and a key."""

import random
from collections.abc import Sequence
from typing import Final, NamedTuple

from tests.differential.ground import Ground
from tests.differential.player import GRACE, Heard, Manner, Player, play, play_together
from tests.differential.script import Script

# Bytes of a message's body that are the backend's own: BackendKeyData is nothing else, and NotificationResponse begins
# with the process id of who notifies.
OWN: Final = {"K": slice(0, None), "A": slice(0, 4)}
HEADER: Final = 5
TRIES: Final = 3


def masked(stream: bytes) -> list[bytes]:
    """The messages, and what is behind the last whole one, without what is the backend's own."""
    messages: list[bytes] = []
    while len(stream) >= HEADER:
        length = 1 + int.from_bytes(stream[1:HEADER], "big")
        message, stream = stream[:length], stream[length:]
        own = OWN.get(chr(message[0]), slice(0, 0))
        body = message[HEADER:]
        messages.append(message[:HEADER] + bytes(len(body[own])) + body[len(body[own]) :])
    return [*messages, stream]


def difference(direct: Heard, through: Heard) -> str | None:
    """What a client got directly and not through the proxy, or the other way round; None if nothing.

    Of a client that closed its socket without reading on, what it has read is compared.
    """
    certain = None if direct.whole else min(direct.certain, len(through.stream))
    one, other = masked(direct.stream[:certain]), masked(through.stream[:certain])
    if one == other and direct.short == through.short:
        return None
    at = next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    return (
        f"from message {at} on: directly {_shown(one[at:])}, and {direct.short};"
        f" through the proxy {_shown(other[at:])}, and {through.short}"
    )


def _shown(messages: Sequence[bytes]) -> str:
    return " ".join(f"{chr(one[0])}{one[HEADER : HEADER + 60]!r}" for one in messages[:6] if one) or "nothing"


class Direct(NamedTuple):
    """What scripts get and leave without a proxy."""

    heard: Heard
    left: object


def play_directly(ground: Ground, script: Script, number: int = 0) -> Direct:
    """Play a script by itself, in the database of this client."""
    ground.reset(number)
    heard = play(script, ground.direct(number))
    return Direct(heard, ground.left(number) if heard.whole else None)


def compare(
    ground: Ground, scripts: Sequence[Script], direct: Sequence[Direct], manners: Sequence[Manner], turns: int = 0
) -> str | None:
    """Play scripts, each in a database of its own, through the proxy at once, and compare with what came directly.

    Returns:
        what differs, or None.
    """
    for _ in range(TRIES):
        players: list[Player] = []
        for number, (script, manner) in enumerate(zip(scripts, manners, strict=True)):
            ground.reset(number)
            players.append(Player(script, ground.through(number), manner, direct[number].heard.certain))
        through = play_together(players, random.Random(turns))  # noqa: S311 - nothing is secret here
        if all(heard.after < GRACE for heard in through):
            break  # else statements may have been cancelled because nobody waited for them any more
    for number, (heard, before) in enumerate(zip(through, direct, strict=True)):
        found = difference(before.heard, heard)
        if found is None and before.heard.whole and (left := ground.left(number)) != before.left:
            found = f"directly it left {before.left}, through the proxy {left}"
        if found is not None:
            return f"script {number}, {manners[number]}: {found}"
    return None


def is_its_own_fault(ground: Ground, script: Script, direct: Direct, manner: Manner, number: int = 0) -> bool:
    """Whether a script differs from itself without a proxy."""
    ground.reset(number)
    again = play(script, ground.direct(number), manner, direct.heard.certain)
    return difference(direct.heard, again) is not None or (again.whole and ground.left(number) != direct.left)
