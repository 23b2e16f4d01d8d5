"""What has to be the same, and what may differ: two process ids and a key."""

import random
from collections.abc import Sequence
from typing import Final

from tests.differential.ground import Ground
from tests.differential.player import GRACE, WHOLE, Heard, Manner, Player, play, play_together
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
    """What a client got directly and not through the proxy, or the other way round; None if nothing."""
    one, other = masked(_certain(direct)), masked(_certain(through))
    if one == other and direct.short == through.short:
        return None
    at = next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    return (
        f"from message {at} on: directly {_shown(one[at:])}, and {direct.short};"
        f" through the proxy {_shown(other[at:])}, and {through.short}"
    )


def _certain(heard: Heard) -> bytes:
    return heard.stream if heard.whole else heard.stream[: heard.certain]


def _shown(messages: Sequence[bytes]) -> str:
    return " ".join(f"{chr(one[0])}{one[HEADER : HEADER + 60]!r}" for one in messages[:6] if one) or "nothing"


def compare(ground: Ground, scripts: Sequence[Script], manners: Sequence[Manner], turns: int = 0) -> str | None:
    """Play scripts, each in a database of its own: directly, one after the other, and through the proxy, at once.

    Returns:
        what differs, or None.
    """
    direct: list[tuple[Heard, object]] = []
    for number, script in enumerate(scripts):
        ground.reset(number)
        heard = play(script, ground.direct(number))
        direct.append((heard, ground.left(number) if heard.whole else None))
    return compare_with(ground, scripts, direct, manners, turns)


def compare_with(
    ground: Ground,
    scripts: Sequence[Script],
    direct: Sequence[tuple[Heard, object]],
    manners: Sequence[Manner],
    turns: int = 0,
) -> str | None:
    """The same, with what is known of the scripts: what came directly, and what they left in their databases."""
    for _ in range(TRIES):
        players: list[Player] = []
        for number, (script, manner) in enumerate(zip(scripts, manners, strict=True)):
            ground.reset(number)
            players.append(Player(script, ground.through(number), manner, direct[number][0].certain))
        through = play_together(players, random.Random(turns))  # noqa: S311 - nothing is secret here
        if all(heard.after < GRACE for heard in through):
            break  # else statements may have been cancelled because nobody waited for them any more
    for number, (heard, (before, left)) in enumerate(zip(through, direct, strict=True)):
        found = difference(before, heard)
        if found is None and before.whole and (now := ground.left(number)) != left:
            found = f"directly it left {left}, through the proxy {now}"
        if found is not None:
            return f"script {number}, {manners[number]}: {found}"
    return None


def is_its_own_fault(ground: Ground, script: Script, manner: Manner, number: int = 0) -> bool:
    """Whether a script differs from itself without a proxy."""
    ground.reset(number)
    first = play(script, ground.direct(number), WHOLE)
    ground.reset(number)
    return difference(first, play(script, ground.direct(number), manner, first.certain)) is not None


