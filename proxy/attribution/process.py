"""Whose socket it is: the process at the other end of a client's connection.

Only of clients on this machine, and only what the kernel lets us see: its id, which program it runs, in which
container. Never its arguments or its environment: passwords travel there.

A look at the kernel's tables costs tens of milliseconds and is made in a thread. Asks that come before it begins share
it; those that come later wait for the next one, since a table does not know a connection that is younger than itself.
"""

import asyncio
import os
import re
import socket
import struct
import sys
from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple

from proxy.attribution.holders import UNSEEN, Pair, find, local_pair

PATIENCE: Final = 1.0  # seconds that an ask may take
REST: Final = 10  # times as long as the last look took is waited for the next: many leaks cost a tenth of one CPU
LONGEST_REST: Final = 0.25  # seconds
MAX_EXECUTABLE: Final = 256  # characters; the end of a path says more than its beginning
DELETED: Final = " (deleted)"  # what the kernel appends when the file was replaced since (proc(5))

_SOL_LOCAL: Final = 0  # macOS, sys/un.h
_LOCAL_PEERPID: Final = 2

# Docker, containerd, CRI-O and Podman name containers by 64 hexadecimal digits, ECS on Fargate by 32 and a number; what
# is around it differs, also by cgroup version and driver. A container's monitor (conmon) is not inside it.
_CONTAINER: Final = re.compile(r"(?<![0-9a-f])(?<!conmon-)(?:[0-9a-f]{64}|[0-9a-f]{32}-[0-9]+)(?![0-9a-z-])")


class Process(NamedTuple):
    """A process on this machine.

    Attributes:
        pid: its id as we see it.
        executable: the file that it runs, or its name alone where that is not permitted, or "".
        container_id: the innermost container that it is in; "" if none is visible, also if it shares ours.
    """

    pid: int
    executable: str
    container_id: str


_Answer = asyncio.Future[Process | str | None]


class Processes:
    """Looks up who is at the other end of a client's socket.

    Args:
        told: called with the reason when the kernel does not let us look; once for each reason.
        finder: what looks for the holders of TCP connections, in a thread.
    """

    def __init__(
        self, told: Callable[[str], None], finder: Callable[[AbstractSet[Pair]], Mapping[Pair, int | str]] = find
    ) -> None:
        self._told = told
        self._reasons: set[str] = set()
        self._finder = finder
        self._asks: list[tuple[Pair, _Answer]] = []
        self._busy = False  # a look is about to begin, under way, or just over

    def can_see(self, transport: asyncio.Transport) -> bool:
        """Whether the client is on this machine, so that there is something to look for."""
        return _peer(transport) is not None

    async def of(self, transport: asyncio.Transport) -> Process | None:
        """Return the client's process, or None if that is not to be known here, or not within PATIENCE; never raises.

        Of a Unix socket, the process that connected; of TCP, the one that holds the socket now.
        """
        try:
            async with asyncio.timeout(PATIENCE):
                found = await self._look_up(_peer(transport))
        except TimeoutError:
            return None
        except Exception as error:  # noqa: BLE001 - whatever is wrong in here, a leak is to be reported
            found = f"looking for a client's process failed: {type(error).__name__}"
        if isinstance(found, str):
            if not transport.is_closing():  # else it is no wonder
                self._tell(found)
            return None
        return found

    async def _look_up(self, peer: Pair | int | None) -> Process | str | None:
        if peer is None:
            return None
        if isinstance(peer, int):
            return await asyncio.to_thread(process_of, peer) if peer else UNSEEN
        answer: _Answer = asyncio.get_running_loop().create_future()
        self._asks.append((peer, answer))
        if not self._busy:
            self._busy = True
            asyncio.get_running_loop().call_soon(self._begin_look)
        return await answer

    def _begin_look(self) -> None:
        asks = [(pair, answer) for pair, answer in self._asks if not answer.done()]
        self._asks = []
        self._busy = bool(asks)
        if asks:
            pairs = {pair for pair, _ in asks}
            loop = asyncio.get_running_loop()
            work = loop.run_in_executor(None, self._look, pairs)
            work.add_done_callback(partial(self._end_look, asks, loop.time()))

    def _look(self, pairs: AbstractSet[Pair]) -> dict[Pair, Process | str]:
        found = self._finder(pairs)
        known = {holder: process_of(holder) for holder in set(found.values()) if isinstance(holder, int)}
        return {pair: known[holder] if isinstance(holder, int) else holder for pair, holder in found.items()}

    def _end_look(
        self,
        asks: list[tuple[Pair, _Answer]],
        began: float,
        work: asyncio.Future[dict[Pair, Process | str]],
    ) -> None:
        loop = asyncio.get_running_loop()
        loop.call_later(min((loop.time() - began) * REST, LONGEST_REST), self._begin_look)
        error = work.exception()
        for pair, answer in asks:
            if answer.done():  # nobody waits for it any more
                continue
            if error is None:
                answer.set_result(work.result().get(pair))
            else:
                answer.set_exception(error)

    def _tell(self, reason: str) -> None:
        if reason not in self._reasons:
            self._reasons.add(reason)
            self._told(reason)


def _peer(transport: asyncio.Transport) -> Pair | int | None:
    """Both ends of a TCP connection from this machine, or the process behind a Unix socket (0: one we cannot see)."""
    try:
        sock = transport.get_extra_info("socket")
        if sock.family == socket.AF_UNIX:
            return _peer_pid(sock)
        return local_pair(transport.get_extra_info("peername"), transport.get_extra_info("sockname"))
    except (AttributeError, OSError):  # it is closed, as uvloop says it or the system; or there is no such option
        return None


def _peer_pid(sock: Any) -> int:
    """Who has connected a Unix socket: LOCAL_PEERPID of macOS, or SO_PEERCRED (unix(7)): pid, uid, gid."""
    if sys.platform != "linux":
        return int(sock.getsockopt(_SOL_LOCAL, _LOCAL_PEERPID))
    return int(struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")))[0])


def process_of(pid: int) -> Process:
    """What the kernel lets us know of a process; for a thread, since it may have to wait for a lock of the kernel's."""
    executable = _executable(pid) if sys.platform == "linux" else _executable_elsewhere(pid)
    return Process(pid, _printable(executable), container_in(_read(pid, "cgroup")))


def container_in(cgroups: str) -> str:
    """The container's id in the text of /proc/PID/cgroup (cgroups(7), versions 1 and 2), or ""."""
    for line in cgroups.splitlines():
        ids = _CONTAINER.findall(line)
        if ids:
            return str(ids[-1])
    return ""


def _executable(pid: int) -> str:
    try:
        return os.readlink(f"/proc/{pid}/exe").removesuffix(DELETED)  # noqa: PTH115 - a name need not be a valid Path
    except OSError:
        return _read(pid, "comm").removesuffix("\n")


def _executable_elsewhere(pid: int) -> str:
    import psutil  # noqa: PLC0415 - the image, which runs on Linux, does without

    try:
        return psutil.Process(pid).exe()
    except psutil.Error:
        return ""


def _read(pid: int, name: str) -> str:
    try:
        return Path(f"/proc/{pid}/{name}").read_text(errors="replace")
    except OSError:  # it is gone, or not to be seen
        return ""


def _printable(text: str) -> str:
    """Anybody may name a file: no character moves a cursor or turns the text around."""
    return "".join(c if c.isprintable() else "?" for c in text[-MAX_EXECUTABLE:])
