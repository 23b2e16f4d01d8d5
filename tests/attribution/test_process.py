"""Whose socket it is: the processes of real clients, and what many asks cost."""

import asyncio
import contextlib
import os
import shutil
import socket
import ssl
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from itertools import pairwise
from pathlib import Path

import pytest
import uvloop

from proxy.attribution import process
from proxy.attribution.holders import UNSEEN, Pair
from proxy.attribution.process import LONGEST_REST, MAX_EXECUTABLE, Process, Processes, container_in, process_of
from proxy.tls.transport import TlsTransport
from tests.attribution.clients import CLOSE, SECRET, client, listener
from tests.harness import PATIENCE

ID = "0123456789abcdef" * 4
OTHER = "fedcba9876543210" * 4
POD = "pod1b2c3d4e_5f60_7182_93a4_b5c6d7e8f901"

CONTAINERS = {
    "docker, version 1": f"12:pids:/docker/{ID}\n1:name=systemd:/docker/{ID}\n0::/system.slice/containerd.service\n",
    "docker, version 2 by systemd": f"0::/system.slice/docker-{ID}.scope\n",
    "docker, version 2": f"0::/docker/{ID}\n",
    "docker in docker": f"0::/docker/{OTHER}/docker/{ID}\n",
    "kind, which runs nodes in docker": f"0::/docker/{OTHER}/kubelet.slice/{POD}.slice/cri-containerd-{ID}.scope\n",
    "containerd, version 1": f"11:memory:/kubepods/burstable/pod1b2c3d4e-5f60-7182-93a4-b5c6d7e8f901/{ID}\n",
    "containerd, version 1 by systemd": (
        f"5:cpu,cpuacct:/kubepods.slice/kubepods-besteffort.slice/kubepods-{POD}.slice/cri-containerd-{ID}.scope\n"
    ),
    "containerd, by its own service": f"3:cpu:/system.slice/containerd.service/{POD}.slice:cri-containerd:{ID}\n",
    "containerd, version 2": f"0::/kubepods.slice/kubepods-{POD}.slice/cri-containerd-{ID}.scope\n",
    "nerdctl": f"0::/system.slice/nerdctl-{ID}.scope\n",
    "seen from a cgroup namespace beside it": f"0::/../cri-containerd-{ID}.scope\n",
    "CRI-O": f"0::/kubepods.slice/kubepods-{POD}.slice/crio-{ID}.scope\n",
    "CRI-O with crun": f"0::/kubepods.slice/kubepods-{POD}.slice/crio-{ID}.scope/container\n",
    "podman": f"0::/machine.slice/libpod-{ID}.scope/container\n",
    "podman without root": f"0::/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{ID}.scope\n",
    "podman, by cgroupfs": f"9:memory:/libpod_parent/libpod-{ID}\n",
    "ECS": f"4:cpuset:/ecs/0123456789abcdef0123456789abcdef/{ID}\n",
}
NO_CONTAINERS = [
    "",
    "0::/\n",
    "0::/init.scope\n",
    "0::/user.slice/user-1000.slice/session-3.scope\n",
    "0::/system.slice/postgresql@18-main.service\n",
    f"0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-{POD}.slice\n",
    f"0::/machine.slice/libpod-conmon-{ID}.scope\n",  # podman's monitor is outside
    f"0::/kubepods.slice/kubepods-{POD}.slice/crio-conmon-{ID}.scope\n",
    f"0::/x/{ID}0\n",
    f"0::/x/{ID[1:]}\n",
]
FARGATE = "0123456789abcdef0123456789abcdef-1234567890"

LOOPS: list[Callable[[], asyncio.AbstractEventLoop]] = [asyncio.new_event_loop, uvloop.new_event_loop]


class FakeSocket:
    """A connected socket; a Unix socket's peer has this process id."""

    def __init__(self, family: socket.AddressFamily, pid: int = 0) -> None:
        self.family = family
        self._pid = pid

    def getsockopt(self, *_: int) -> bytes:
        return struct.pack("3i", self._pid, 0, 0)


class FakeTransport(asyncio.Transport):
    """A client's connection, by default from this machine."""

    def __init__(self, port: int = 5000, host: str = "127.0.0.1", sock: FakeSocket | None = None) -> None:
        ours = {"sockname": ("127.0.0.1", 6432), "socket": sock or FakeSocket(socket.AF_INET)}
        super().__init__(ours | {"peername": (host, port)})
        self.closing = False

    def is_closing(self) -> bool:
        return self.closing


class Finder:
    """Finds us behind every connection, in its own time."""

    def __init__(self, seconds: float = 0.0) -> None:
        self._seconds = seconds
        self.looks: list[set[int]] = []  # the clients' ports
        self.times: list[float] = []
        self.began = threading.Event()
        self.may_end = threading.Event()
        self.may_end.set()

    def __call__(self, pairs: AbstractSet[Pair]) -> Mapping[Pair, int | str]:
        self.times.append(time.monotonic())
        self.looks.append({port for (_, port), _ in pairs})
        self.began.set()
        time.sleep(self._seconds)
        self.may_end.wait()
        return dict.fromkeys(pairs, os.getpid())


@contextlib.contextmanager
def running(executable: Path) -> Iterator[int]:
    with subprocess.Popen([executable, "60"]) as sleeping:
        try:
            while Path(f"/proc/{sleeping.pid}/exe").readlink() != executable:
                time.sleep(0.001)
            yield sleeping.pid
        finally:
            sleeping.kill()


def never(reason: str) -> None:
    pytest.fail(f"told {reason}")


def of_ours() -> Process:
    return process_of(os.getpid())


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine under load may be slow; that is not the point."""
    monkeypatch.setattr(process, "PATIENCE", PATIENCE)


# Real clients.


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("family", ["AF_INET", "AF_INET6", "AF_UNIX"])
def test_a_clients_process_is_found(loop: Callable[[], asyncio.AbstractEventLoop], family: str, tmp_path: Path) -> None:
    if family == "AF_INET6" and not Path("/proc/net/tcp6").exists():
        pytest.skip("this kernel has no IPv6")
    hosts: dict[str, str | Path] = {"AF_INET": "127.0.0.1", "AF_INET6": "::1", "AF_UNIX": tmp_path / "socket"}

    async def look() -> None:
        async with listener(hosts[family]) as listening:
            with client(family, *listening.where) as program:
                transport = await listening.accepted()
                found = await Processes(never).of(transport)
                transport.abort()
        assert found
        assert found == (program.pid, found.executable, of_ours().container_id)
        assert found.executable == of_ours().executable  # the same interpreter
        assert SECRET not in repr(found)

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(look())


@pytest.mark.usefixtures("patient")
async def test_a_client_behind_tls_is_found() -> None:
    async with listener() as listening:
        with client("AF_INET", *listening.where) as program:
            raw, context = await listening.accepted(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            encrypted = TlsTransport(raw, asyncio.Protocol(), context, lambda _: None, server_side=True)
            found = await Processes(never).of(encrypted)
            raw.abort()
    assert found
    assert found.pid == program.pid


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("loop", LOOPS)
def test_a_client_that_is_gone_is_nobody(loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    async def look() -> list[Process | None]:
        processes = Processes(never)
        async with listener() as listening:
            with client("AF_INET", *listening.where, then=CLOSE) as program:
                transport = await listening.accepted()
                assert program.line() == "ready"
                found = [await processes.of(transport)]
            transport.abort()
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            return [*found, await processes.of(transport)]

    with asyncio.Runner(loop_factory=loop) as runner:
        assert runner.run(look()) == [None, None]


# What is told of a process.


@pytest.mark.parametrize("text", CONTAINERS.values(), ids=CONTAINERS)
def test_a_containers_id_is_read_from_its_cgroup(text: str) -> None:
    assert container_in(text) == ID


def test_a_container_of_fargates_has_a_name_of_its_own() -> None:
    assert container_in(f"2:cpu:/ecs/{FARGATE.partition('-')[0]}/{FARGATE}\n") == FARGATE


@pytest.mark.parametrize("text", NO_CONTAINERS)
def test_no_container_is_seen(text: str) -> None:
    assert container_in(text) == ""


def test_a_programs_name_cannot_move_a_cursor(tmp_path: Path) -> None:
    program = tmp_path / ("x" * 250) / "sl\x1b[2Jee\u202ep\n\udcff"
    program.parent.mkdir()
    shutil.copy("/bin/sleep", program)
    with running(program) as pid:
        executable = process_of(pid).executable
        assert executable.endswith("x/sl?[2Jee?p??")
        assert len(executable) == MAX_EXECUTABLE


def test_a_program_that_was_replaced_keeps_its_name(tmp_path: Path) -> None:
    program = tmp_path / "sleep"
    shutil.copy("/bin/sleep", program)
    with running(program) as pid:
        program.unlink()
        assert process_of(pid).executable == str(program)


def test_a_name_is_told_where_the_file_is_not(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program = tmp_path / "sl\x1bep"
    shutil.copy("/bin/sleep", program)

    def refuse(path: str) -> str:
        raise PermissionError(path)

    with running(program) as pid:
        monkeypatch.setattr(os, "readlink", refuse)
        assert process_of(pid).executable == "sl?ep"


def test_a_process_that_is_gone_keeps_its_id() -> None:
    with subprocess.Popen(["/bin/true"]) as gone:
        gone.wait()
    assert process_of(gone.pid) == Process(gone.pid, "", "")


# What many asks cost.


async def test_asks_at_the_same_time_share_one_look() -> None:
    finder = Finder()
    processes = Processes(never, finder)
    found = await asyncio.gather(*(processes.of(FakeTransport(port)) for port in range(1, 31)))
    assert found == [of_ours()] * 30
    assert finder.looks == [set(range(1, 31))]


async def test_later_asks_share_a_look_that_begins_after_them() -> None:
    finder = Finder(0.05)
    processes = Processes(never, finder)
    first = asyncio.create_task(processes.of(FakeTransport(1)))
    await asyncio.to_thread(finder.began.wait, PATIENCE)
    assert await asyncio.gather(*(processes.of(FakeTransport(port)) for port in (2, 3))) == [of_ours()] * 2
    assert await first == of_ours()
    assert await processes.of(FakeTransport(4)) == of_ours()
    assert finder.looks == [{1}, {2, 3}, {4}]
    assert min(b - a for a, b in pairwise(finder.times)) >= LONGEST_REST


async def test_a_slow_look_does_not_hold_up_the_loop() -> None:
    asked = asyncio.create_task(Processes(never, Finder(0.5)).of(FakeTransport()))
    turns = [time.monotonic()]
    while not asked.done():
        await asyncio.sleep(0.005)
        turns.append(time.monotonic())
    assert asked.result() == of_ours()
    assert turns[-1] - turns[0] > 0.5
    assert max(b - a for a, b in pairwise(turns)) < 0.4


async def test_nobody_waits_for_a_look_for_long_and_there_is_never_a_second_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    faults: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: faults.append(context))
    monkeypatch.setattr(process, "PATIENCE", 0.05)
    finder = Finder()
    finder.may_end.clear()
    processes = Processes(never, finder)
    assert [await processes.of(FakeTransport(port)) for port in (1, 2)] == [None, None]
    monkeypatch.setattr(process, "PATIENCE", PATIENCE)
    third = asyncio.create_task(processes.of(FakeTransport(3)))
    await asyncio.sleep(0)
    assert finder.looks == [{1}]
    finder.may_end.set()
    assert await third == of_ours()
    assert finder.looks == [{1}, {3}]  # nobody waits for 2 any more
    assert faults == []


# What is said, and what is not.


async def test_why_nothing_is_seen_is_told_once() -> None:
    reasons: list[str] = []
    processes = Processes(reasons.append, lambda pairs: dict.fromkeys(pairs, "sealed"))
    for _ in range(2):
        assert await asyncio.gather(*(processes.of(FakeTransport(port)) for port in (1, 2))) == [None, None]
    unseen = FakeTransport(sock=FakeSocket(socket.AF_UNIX, pid=0))
    assert [await processes.of(unseen), await processes.of(unseen)] == [None, None]
    assert reasons == ["sealed", UNSEEN]


async def test_of_a_client_elsewhere_nothing_is_asked_or_told() -> None:
    finder = Finder()
    assert await Processes(never, finder).of(FakeTransport(host="10.0.0.2")) is None
    assert finder.looks == []


async def test_of_a_connection_that_has_ended_nothing_is_told() -> None:
    transport = FakeTransport()
    transport.closing = True
    assert await Processes(never, lambda pairs: dict.fromkeys(pairs, "sealed")).of(transport) is None


@pytest.mark.parametrize("error", [AttributeError, OSError])
async def test_a_connection_that_was_reset_has_no_peer(error: type[Exception]) -> None:
    class Reset(FakeTransport):
        def get_extra_info(self, name: str, default: object = None) -> object:
            raise error(name, default)

    assert await Processes(never).of(Reset()) is None


async def test_a_fault_of_ours_is_told_and_nothing_else_comes_of_it() -> None:
    def fail(pairs: AbstractSet[Pair]) -> Mapping[Pair, int | str]:
        raise ZeroDivisionError(pairs)

    reasons: list[str] = []
    processes = Processes(reasons.append, fail)
    assert await asyncio.gather(*(processes.of(FakeTransport(port)) for port in (1, 2))) == [None, None]
    assert reasons == ["looking for a client's process failed: ZeroDivisionError"]
