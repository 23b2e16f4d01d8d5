"""Who holds a client's socket: real processes, and what the kernel keeps to itself."""

import contextlib
import ctypes
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from proxy.attribution import holders
from proxy.attribution.holders import REFUSED, UNSEEN, UNTOLD, Pair, find, local_pair
from tests.attribution.clients import CLOSE, FORK, Client, client

NOBODY = 65534
UNDUMPABLE = "import ctypes; ctypes.CDLL(None).prctl(4, 0, 0, 0, 0)"  # PR_SET_DUMPABLE: what is in /proc is root's

HERE = [
    (("127.0.0.1", 5000), ("127.0.0.1", 6432)),
    (("127.9.9.9", 5000), ("127.0.0.1", 6432)),
    (("10.0.0.1", 5000), ("10.0.0.1", 6432)),
    (("::1", 5000, 0, 0), ("::1", 6432, 0, 0)),
    (("fe80::1%eth0", 5000, 0, 2), ("fe80::1%eth0", 6432, 0, 2)),
    (("::ffff:127.0.0.1", 5000, 0, 0), ("::ffff:127.0.0.1", 6432, 0, 0)),
    (("::ffff:10.0.0.1", 5000, 0, 0), ("::ffff:10.0.0.1", 6432, 0, 0)),
]
ELSEWHERE = [
    (("10.0.0.2", 5000), ("10.0.0.1", 6432)),
    (("::ffff:10.0.0.2", 5000, 0, 0), ("::ffff:10.0.0.1", 6432, 0, 0)),
    (("2001:db8::2", 5000, 0, 0), ("2001:db8::1", 6432, 0, 0)),
    (None, ("10.0.0.1", 6432)),
    ("", "/run/.s.PGSQL.6432"),
]

# Listener's family and address, client's family and address.
SPOKEN = [
    (socket.AF_INET, "127.0.0.1", "AF_INET", "127.0.0.1"),
    (socket.AF_INET, "127.0.0.1", "AF_INET6", "::ffff:127.0.0.1"),
    (socket.AF_INET6, "::1", "AF_INET6", "::1"),
    (socket.AF_INET6, "::", "AF_INET", "127.0.0.1"),
    (socket.AF_INET6, "::", "AF_INET6", "::ffff:127.0.0.1"),
]


@contextlib.contextmanager
def connected(
    then: str = "",
    listener: tuple[socket.AddressFamily, str] = (socket.AF_INET, "127.0.0.1"),
    how: tuple[str, str] = ("AF_INET", "127.0.0.1"),
) -> Iterator[tuple[Client, Pair]]:
    """A client in another process, and its connection; it has said its last word when it is ready."""
    family, host = listener
    with (
        socket.create_server((host, 0), family=family, dualstack_ipv6=host == "::") as server,
        client(how[0], how[1], server.getsockname()[1], then=then) as process,
        server.accept()[0] as ours,
    ):
        pair = local_pair(ours.getpeername(), ours.getsockname())
        assert pair
        yield process, pair


def as_somebody_else(pair: Pair) -> int | str | None:
    """What another user would find; only root has to become one, and only in this thread (setfsuid(2))."""
    libc = ctypes.CDLL(None)
    libc.setfsuid(NOBODY)
    try:
        return find({pair}).get(pair)
    finally:
        libc.setfsuid(os.geteuid())


@pytest.mark.parametrize(("theirs", "ours"), HERE)
def test_a_client_on_this_machine(theirs: object, ours: object) -> None:
    pair = local_pair(theirs, ours)
    assert pair
    assert [port for _, port in pair] == [5000, 6432]


@pytest.mark.parametrize(("theirs", "ours"), ELSEWHERE)
def test_a_client_that_may_be_elsewhere(theirs: object, ours: object) -> None:
    assert local_pair(theirs, ours) is None


@pytest.mark.parametrize(("family", "host", "client_family", "address"), SPOKEN)
def test_the_holder_is_found(family: socket.AddressFamily, host: str, client_family: str, address: str) -> None:
    if family == socket.AF_INET6 and not Path("/proc/net/tcp6").exists():
        pytest.skip("this kernel has no IPv6")
    with connected("", (family, host), (client_family, address)) as (process, pair):
        assert find({pair}) == {pair: process.pid}


def test_many_are_found_at_once_our_own_among_them() -> None:
    with (
        connected() as (one, first),
        connected() as (other, second),
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname()) as own,
    ):
        third = local_pair(own.getsockname(), own.getpeername())
        assert third
        assert find({first, second, third}) == {first: one.pid, second: other.pid, third: os.getpid()}


def test_our_own_descriptors_are_not_read_for_somebody_elses_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    open_files = holders._open_files  # noqa: SLF001 - which ones are read shows in their cost alone

    def reading(pid: str) -> Iterator[str]:
        read.append(pid)
        return open_files(pid)

    monkeypatch.setattr(holders, "_open_files", reading)
    with connected() as (process, pair):
        assert find({pair}) == {pair: process.pid}
    assert str(process.pid) in read
    assert str(os.getpid()) not in read


def test_of_those_that_share_a_socket_the_oldest_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with connected(FORK) as (process, pair):
        child = int(process.line())
        assert find({pair}) == {pair: process.pid}
        monkeypatch.setattr(holders, "_started", lambda pid: -int(pid))  # process ids begin anew some day
        assert find({pair}) == {pair: max(child, process.pid)}


def test_who_has_closed_a_shared_socket_does_not_hold_it() -> None:
    with connected(FORK + CLOSE) as (process, pair):
        child = int(process.line())
        assert process.line() == "ready"
        assert find({pair}) == {pair: child}


def test_what_its_process_has_closed_is_not_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(holders, "_holders", lambda links: pytest.fail(f"looked for {links}"))
    with connected(CLOSE) as (process, pair):
        assert process.line() == "ready"
        assert find({pair}) == {}


def test_what_is_closed_during_the_look_is_nobodys(monkeypatch: pytest.MonkeyPatch) -> None:
    with connected() as (process, pair):
        open_files = holders._open_files  # noqa: SLF001 - the moment between two looks is inside

        def too_late(pid: str) -> Iterator[str]:
            if int(pid) == process.pid:
                process.end()
            yield from open_files(pid)

        monkeypatch.setattr(holders, "_open_files", too_late)
        assert find({pair}) == {}


def test_another_users_process_is_refused() -> None:
    with connected(UNDUMPABLE) as (process, pair):
        assert process.line() == "ready"
        assert as_somebody_else(pair) == REFUSED


def test_a_process_with_more_capabilities_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: str, *, dir_fd: int) -> str:  # the kernel lists its descriptors, and says no more
        raise PermissionError(path, dir_fd)

    monkeypatch.setattr(os, "readlink", refuse)
    with connected() as (_, pair):
        assert find({pair}) == {pair: REFUSED}


def test_a_process_of_another_namespace_is_not_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    listed = os.listdir
    monkeypatch.setattr(os, "listdir", lambda path: [str(os.getpid())] if path == "/proc" else listed(path))
    with connected() as (_, pair):
        assert find({pair}) == {pair: UNSEEN}


def test_a_table_that_cannot_be_read_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> Iterator[tuple[bytes, bytes, bytes]]:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(holders, "_table", refuse)
    with connected() as (_, pair):
        assert find({pair}) == {pair: f"{UNTOLD}: Too many open files"}


class Denied(psutil.Process):
    def net_connections(self, kind: str = "inet") -> list[psutil._ntp.pconn]:
        raise psutil.AccessDenied(self.pid, kind)


def test_each_process_is_asked_where_there_is_no_proc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "darwin")
    with connected(FORK) as (process, pair):
        pids = [process.pid, int(process.line()), os.getpid()]
        seen = [psutil.Process(pid) for pid in pids]
        monkeypatch.setattr(psutil, "process_iter", lambda: iter([Denied(1), *seen]))
        assert find({pair}) == {pair: process.pid}
        monkeypatch.setattr(psutil, "process_iter", lambda: iter([Denied(process.pid), seen[-1]]))
        assert find({pair}) == {pair: REFUSED}
