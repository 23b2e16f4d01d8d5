"""The server ends, in every way: what its clients see through the proxy is what they see without it.

Clients in every state, each once directly, once through a proxy and once through one that speaks TLS with the server;
then that is ended. Of what they get, types and fields of all messages and the end of the stream are compared.
"""

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack

import psycopg
import pytest

from proxy.demo.postgres import Postgres
from proxy.report.events import InternalError, ProtocolViolation
from tests import messages as m
from tests.conftest import StartProxy
from tests.harness import until
from tests.life.support import PlainClient, connected
from tests.life.test_endings import (
    copy_in,
    idle,
    in_failed_transaction,
    in_transaction,
    running,
    running_in_transaction,
    stalled,
    waits_for,
)
from tests.rawclient import Message
from tests.scenarios import conftest
from tests.scenarios.conftest import Differs
from tests.scenarios.support import address_of, both, legs, told
from tests.servers.server import RealPostgres

GROUP = "server ends"

State = Callable[[PlainClient], str]
STATES: list[State] = [idle, in_transaction, in_failed_transaction, running, running_in_transaction, copy_in, stalled]
Alike = list[PlainClient]  # the direct one stands first


def fast_shutdown(server: Postgres) -> None:
    os.kill(server.pid, signal.SIGINT)


def immediate_shutdown(server: Postgres) -> None:
    os.kill(server.pid, signal.SIGQUIT)


def kill(server: Postgres) -> None:
    server.kill()


SERVER_ENDS = [fast_shutdown, immediate_shutdown, kill]


@pytest.fixture
def doomed(major: int) -> Iterator[RealPostgres]:
    """A server that one test alone may end."""
    with conftest.running(major, conftest.TRUST) as server:
        yield server
        server.kill()  # one that recovers would take its time to stop


@pytest.fixture
def clients(doomed: RealPostgres, start_proxy: StartProxy) -> Iterator[dict[State, Alike]]:
    """In each state a direct client, and one of each proxy's."""
    upstream = f"{doomed.host}:{doomed.port}"
    proxies = [start_proxy(upstream=upstream, flag_after="never", **legs(kind, doomed)) for kind in ("clear", "TLS")]
    addresses = [address_of(doomed), *(proxy.address for proxy in proxies)]
    with ExitStack() as stack, doomed.connect() as judge:
        alike = {state: [stack.enter_context(connected(address)) for address in addresses] for state in STATES}
        for state, each in alike.items():
            for client in each:
                waits_for(judge, client.backend_pid, state(client))
        yield alike
    for proxy in proxies:
        proxy.settle()
        assert proxy.recorder.of(ProtocolViolation) == []
        assert proxy.recorder.of(InternalError) == []


def rest(client: PlainClient) -> tuple[list[Message], str]:
    """What still comes, and how it ends: a reset by the server arrives as the end of the stream."""
    messages: list[Message] = []
    try:
        while (message := client.receive()) is not None:
            messages.append(message)
    except ConnectionResetError:
        return messages, "reset"
    return messages, "end"


def same(alike: Sequence[PlainClient], *, crash: bool = False) -> list[str]:
    """What all were told, in short; in a crash a server now and then fails to tell, and then says nothing."""
    (direct, _), *others = (rest(client) for client in alike)
    words = direct
    for through, how in others:
        assert how == "end"
        assert through == direct or (crash and [] in (direct, through))
        words = words or through
    assert sum(line.startswith("FATAL") for line in told(words)) <= 1
    return told(words)


@pytest.mark.parametrize("end", SERVER_ENDS, ids=lambda end: end.__name__)
def test_the_end_of_a_server_looks_the_same(
    doomed: RealPostgres, clients: dict[State, Alike], differs: Differs, end: Callable[[Postgres], None]
) -> None:
    end(doomed)
    seen = {state: same(each, crash=end is immediate_shutdown) for state, each in clients.items()}
    if end is fast_shutdown:
        assert {tuple(lines[-1:]) for lines in seen.values()} == {("FATAL 57P01",)}
    for state in (idle, running):
        what = f"{end.__name__.replace('_', ' ')}, client {state.__name__.replace('_', ' ')}"
        differs(what, ", ".join(seen[state]) or "nothing")


def test_a_terminated_backend_looks_the_same(doomed: RealPostgres, clients: dict[State, Alike]) -> None:
    with doomed.connect() as judge:
        for each in clients.values():
            for client in each:
                judge.execute("SELECT pg_terminate_backend(%s)", [client.backend_pid])
    assert {tuple(same(each)) for each in clients.values()} == {("FATAL 57P01",)}


def accepts(server: Postgres) -> bool:
    try:
        server.connect().close()
    except psycopg.OperationalError:
        return False
    return True


@pytest.mark.parametrize("state", [idle, in_transaction, running], ids=lambda state: state.__name__)
def test_a_killed_backend_and_those_that_fall_with_it_look_the_same(
    doomed: RealPostgres, start_proxy: StartProxy, differs: Differs, state: State
) -> None:
    """The server ends every other session too, recovers, and takes new ones through the same proxy."""
    proxy = start_proxy(upstream=f"{doomed.host}:{doomed.port}", flag_after="never")
    for address in (address_of(doomed), proxy.address):
        until(lambda: accepts(doomed), what="it does not recover")
        with connected(address) as victim, both(doomed, proxy) as others, doomed.connect() as judge:
            for other in others:
                other.log_in()
            waits_for(judge, victim.backend_pid, state(victim))
            os.kill(victim.backend_pid, signal.SIGKILL)
            assert rest(victim) == ([], "end")
            if words := same(others, crash=True):
                differs("another backend was killed, client idle", ", ".join(words))
    proxy.settle()


def test_a_server_that_is_gone_is_told(doomed: RealPostgres, start_proxy: StartProxy) -> None:
    proxy = start_proxy(upstream=f"{doomed.host}:{doomed.port}")
    doomed.kill()
    with PlainClient(proxy.address, m.startup(user="postgres")) as late:
        assert late.refused()["C"] == "08001"
