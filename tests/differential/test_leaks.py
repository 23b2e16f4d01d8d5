"""Ten clients at a time, each with a script of its own: the same as directly, and nothing of them is left."""

import asyncio
import gc
import random
from collections.abc import Iterator
from typing import Final

import psutil
import pytest

from proxy.greeting import Greeting
from proxy.relay import Leg
from proxy.session import Session
from proxy.wire.tracker import Tracker
from tests.differential.author import write
from tests.differential.compare import compare, play_directly
from tests.differential.ground import Ground, faults, grounded
from tests.differential.player import Manner
from tests.differential.test_random import MINUTES
from tests.harness import Proxy, until

CLIENTS: Final = 10
ROUNDS: Final = 1
ROUNDS_A_MINUTE: Final = 3  # in the long form: this is not what its minutes are for
OURS: Final = (Session, Leg, Tracker, Greeting)


@pytest.fixture
def ground() -> Iterator[Ground]:
    with grounded(18, flag_after="10ms") as ground:
        yield ground


def round_of(ground: Ground, number: int) -> None:
    choose = random.Random(number)  # noqa: S311 - scripts are no secret
    scripts = [write(ground, client, choose) for client in range(CLIENTS)]
    manners = [Manner(choose.choice((0, 1, 50)), number, waits=choose.random() < 0.7) for _ in scripts]
    direct = [play_directly(ground, script, client) for client, script in enumerate(scripts)]
    assert compare(ground, scripts, direct, manners, turns=number) is None


def left(proxy: Proxy) -> dict[str, object]:
    """What a proxy has of anybody."""
    gc.collect()
    server = proxy.server
    kept = (server.sessions, server._refused, server._greetings, server._tasks, server._cancels)  # noqa: SLF001 - nothing of these is to be seen from outside
    return {
        "kept": [len(each) for each in kept],
        "tasks": len(asyncio.all_tasks()),
        "objects": sorted({type(thing).__name__ for thing in gc.get_objects() if isinstance(thing, OURS)}),
        "descriptors": psutil.Process().num_fds(),
    }


@pytest.mark.timeout(240 + 60 * MINUTES)
def test_ten_clients_at_a_time_leave_nothing(ground: Ground) -> None:
    proxy = ground.proxy
    before = proxy.ask(lambda: left(proxy))
    round_of(ground, 0)
    proxy.settle()
    before["descriptors"] = psutil.Process().num_fds()  # with those that the tests keep open to the databases
    for number in range(1, 1 + max(ROUNDS, int(MINUTES * ROUNDS_A_MINUTE))):
        round_of(ground, number)
    until(lambda: proxy.ask(lambda: left(proxy)) == before, what=f"{proxy.ask(lambda: left(proxy))}, not {before}")
    assert faults(proxy) == []
