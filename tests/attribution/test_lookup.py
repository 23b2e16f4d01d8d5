"""Names of the side connection's server: every address, and a lookup that hangs holds up nobody else."""

import asyncio
import socket
import threading
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from proxy.attribution.lookup import BUSY, Lookup
from proxy.demo.postgres import Postgres
from proxy.errors import OperatorError

ADDRESSES = {"one": ["10.0.0.1"], "two": ["::1", "127.0.0.1"]}


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    def look_up(host: str, *_: Any, **__: Any) -> list[tuple[Any, ...]]:
        if host not in ADDRESSES:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [(0, 0, 0, "", (address, 0)) for address in ADDRESSES[host]]

    monkeypatch.setattr("proxy.attribution.lookup.socket.getaddrinfo", look_up)


@pytest.mark.usefixtures("known")
@pytest.mark.parametrize(
    ("parts", "resolved"),
    [
        ({"host": "one", "port": "5432"}, {"host": "one", "hostaddr": "10.0.0.1", "port": "5432"}),
        ({"host": "two"}, {"host": "two,two", "hostaddr": "::1,127.0.0.1"}),
        (
            {"host": "two,/run,one,10.0.0.9", "port": "1,2,3,4"},
            {"host": "two,two,/run,one,10.0.0.9", "hostaddr": "::1,127.0.0.1,,10.0.0.1,", "port": "1,1,2,3,4"},
        ),
        ({"host": "nowhere,one", "port": "1,2"}, {"host": "one", "hostaddr": "10.0.0.1", "port": "2"}),
        ({"host": "one,nowhere"}, {"host": "one", "hostaddr": "10.0.0.1"}),
        ({"host": "/run/postgresql"}, {"host": "/run/postgresql"}),
        ({"host": "10.0.0.9"}, {"host": "10.0.0.9"}),
        ({"host": "one", "hostaddr": "10.0.0.7"}, {"host": "one", "hostaddr": "10.0.0.7"}),
        ({}, {}),
    ],
)
async def test_a_name_is_given_its_addresses(parts: dict[str, str], resolved: dict[str, str]) -> None:
    assert await Lookup().resolved(parts) == resolved


@pytest.mark.usefixtures("known")
async def test_a_name_that_there_is_not() -> None:
    lookup = Lookup()
    with pytest.raises(OperatorError, match="there is no address for the name of its server: Name or service not"):
        await lookup.resolved({"host": "nowhere"})
    assert "hostaddr" in await lookup.resolved({"host": "one"})


async def test_a_name_that_is_none() -> None:
    lookup = Lookup()
    for _ in range(2):
        with pytest.raises(OperatorError, match="none that can be looked up"):
            await lookup.resolved({"host": "db..example"})


async def test_a_lookup_that_hangs_holds_up_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    goes_on = threading.Event()

    def hang(_host: str, *_: Any, **__: Any) -> list[tuple[Any, ...]]:
        goes_on.wait()
        return [(0, 0, 0, "", ("10.0.0.1", 0))]

    monkeypatch.setattr("proxy.attribution.lookup.socket.getaddrinfo", hang)
    lookup = Lookup()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await lookup.resolved({"host": "slow"})
    with pytest.raises(OperatorError, match=BUSY):
        await lookup.resolved({"host": "slow"})
    assert [thread.name for thread in threading.enumerate()].count("lookup") == 1
    goes_on.set()
    async with asyncio.timeout(5):
        while True:
            try:
                assert await lookup.resolved({"host": "slow"}) == {"host": "slow", "hostaddr": "10.0.0.1"}
            except OperatorError:
                await asyncio.sleep(0.01)
            else:
                break


async def test_psycopg_takes_what_comes_of_it(postgres: Postgres) -> None:
    parts = await Lookup().resolved({"host": "localhost", "port": str(postgres.port)})
    dsn = make_conninfo(**parts, user=postgres.user, password=postgres.password, dbname="postgres")
    async with await psycopg.AsyncConnection.connect(dsn) as connection:
        assert connection.info.hostaddr == "127.0.0.1"
