"""Which process holds the client's end of a TCP connection on this machine, as the kernel tells.

Linux: /proc/net/tcp and tcp6 give the inode of the client's socket, /proc/PID/fd who has it open. This is
psutil.net_connections, too, but it also reads our own descriptors and makes an object of every connection: with
thousands of sessions it takes several times as long, and the loop waits meanwhile. Elsewhere psutil asks each process.

A process that forks shares its sockets with its children. The oldest of those that hold one now is named: a child
cannot have opened what its parent holds, and if the parent is gone, or has closed it, it is the child's.
"""

import contextlib
import ipaddress
import os
import struct
import sys
from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Final

from proxy.sockets import reason_of

IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
Endpoint = tuple[IpAddress, int]
Pair = tuple[Endpoint, Endpoint]  # the client's end first, then ours

UNSEEN: Final = (
    "a client's process is not visible from here: share the process namespace (in a pod: shareProcessNamespace: true)"
)
REFUSED: Final = (
    "a client's process is another user's, and the kernel keeps its sockets to itself:"
    " run pgleash with the same uid, or with CAP_SYS_PTRACE"
)
UNTOLD: Final = "this system does not tell which process a client's socket belongs to"

_MAPPED: Final = ipaddress.IPv6Network("::ffff:0:0/96")
_STARTED: Final = 19  # the start time among the fields of /proc/PID/stat that follow the name (proc(5): field 22)


def local_pair(client: object, ours: object) -> Pair | None:
    """Both ends of a connection from this machine, or None if the client is elsewhere, or may be.

    A client that has chosen an address of this machine other than the one it calls is taken for one from elsewhere.

    Args:
        client: its socket's address as Python gives it (host, port, ...).
        ours: the same of our end.
    """
    if not (isinstance(client, tuple) and isinstance(ours, tuple)):
        return None
    pair = _endpoint(*client[:2]), _endpoint(*ours[:2])
    return pair if pair[0][0].is_loopback or pair[0][0] == pair[1][0] else None


def find(pairs: AbstractSet[Pair]) -> Mapping[Pair, int | str]:
    """Look for the processes that hold the first end of these; takes tens of milliseconds, and must not hold up a loop.

    Returns:
        For each pair the process's id, or why the kernel does not let us see it. A connection that is gone is left out.
    """
    return _find_in_proc(pairs) if sys.platform == "linux" else _find_by_process(pairs)


def _endpoint(host: str, port: int) -> Endpoint:
    address = ipaddress.ip_address(host)
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address, port


# Linux.


def _find_in_proc(pairs: AbstractSet[Pair]) -> Mapping[Pair, int | str]:
    try:
        sockets = _sockets(pairs)
        holders, refused = _holders(set(sockets.values())) if sockets else ({}, False)
        missing = {pair for pair, link in sockets.items() if link not in holders}
        hidden = _sockets(missing) if missing else {}  # what was closed while we looked is nobody's
    except OSError as error:
        return dict.fromkeys(pairs, f"{UNTOLD}: {reason_of(error)}")
    found: dict[Pair, int | str] = dict.fromkeys(hidden, REFUSED if refused else UNSEEN)
    return found | {pair: holders[link] for pair, link in sockets.items() if link in holders}


def _sockets(pairs: AbstractSet[Pair]) -> dict[Pair, str]:
    """The clients' sockets that are open, as the links of /proc/PID/fd name them."""
    wanted = {spelling: pair for pair in pairs for spelling in _spellings(pair)}
    found = {}
    for local, remote, rest in _table():
        pair = wanted.get((local, remote))
        if pair and (inode := rest.split()[6]) != b"0":  # 0: the process has closed it
            found[pair] = f"socket:[{inode.decode()}]"
            if len(found) == len(pairs):
                break
    return found


def _table() -> Iterator[tuple[bytes, bytes, bytes]]:
    """Local address, remote address and the rest of each TCP socket of our network namespace.

    Line by line: between two reads the loop gets its turn.
    """
    with Path("/proc/net/tcp").open("rb") as table:
        yield from _rows(table)
    with contextlib.suppress(FileNotFoundError), Path("/proc/net/tcp6").open("rb") as table:  # no IPv6 here
        yield from _rows(table)


def _rows(table: Iterable[bytes]) -> Iterator[tuple[bytes, bytes, bytes]]:
    for line in table:
        _, local, remote, rest = line.split(None, 3)
        yield local, remote, rest


def _spellings(pair: Pair) -> Iterator[tuple[bytes, bytes]]:
    """How the tables write both ends; a client may also speak IPv4 with an IPv6 socket."""
    yield _spelled(pair[0]), _spelled(pair[1])
    if all(isinstance(address, ipaddress.IPv4Address) for address, _ in pair):
        yield _spelled(_mapped(pair[0])), _spelled(_mapped(pair[1]))


def _mapped(end: Endpoint) -> Endpoint:
    return _MAPPED[int(end[0])], end[1]


def _spelled(end: Endpoint) -> bytes:
    """Address and port as in /proc/net/tcp: each four bytes of the address are printed as the machine's own number."""
    packed = end[0].packed
    words = struct.unpack(f"={len(packed) // 4}I", packed)
    return f"{''.join(f'{word:08X}' for word in words)}:{end[1]:04X}".encode()


def _holders(links: set[str]) -> tuple[dict[str, int], bool]:
    """Who has these open, the oldest of several; and whether a process did not let us see what it has open.

    We have many descriptors, and are hardly ever our own client: what the others hold is not looked for among ours.
    """
    ours = str(os.getpid())
    others = [name for name in os.listdir("/proc") if name.isdigit() and name != ours]  # noqa: PTH208 - only the names
    holders: dict[str, tuple[int, int]] = {}
    refused = False
    for pid in [*others, ours]:
        if pid == ours and links <= holders.keys():
            break
        try:
            held = links.intersection(_open_files(pid))
            if held:
                holder = _started(pid), int(pid)
                holders |= {link: min(holder, holders.get(link, holder)) for link in held}
        except PermissionError:
            refused = True
        except (FileNotFoundError, ProcessLookupError):  # it is gone
            continue
    return {link: pid for link, (_, pid) in holders.items()}, refused


def _open_files(pid: str) -> Iterator[str]:
    folder = os.open(f"/proc/{pid}/fd", os.O_RDONLY | os.O_DIRECTORY)
    try:
        for descriptor in os.listdir(folder):  # noqa: PTH208 - a Path has no dir_fd, and takes twice as long without
            try:
                yield os.readlink(descriptor, dir_fd=folder)
            except PermissionError:
                raise
            except OSError:  # closed since, or a name longer than a link may be: no socket's
                continue
    finally:
        os.close(folder)


def _started(pid: str) -> int:
    """When it was started, in clock ticks since the machine was; its name before it may have any character."""
    return int(Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[_STARTED])


# Elsewhere.


def _find_by_process(pairs: AbstractSet[Pair]) -> Mapping[Pair, int | str]:
    import psutil  # noqa: PLC0415 - the image, which runs on Linux, does without

    holders: dict[Pair, tuple[float, int]] = {}
    refused = False
    for process in psutil.process_iter():
        try:
            ends = {
                (_endpoint(*c.laddr), _endpoint(*c.raddr)) for c in process.net_connections("tcp") if tuple(c.raddr)
            }
            if ends & pairs:
                holder = process.create_time(), process.pid
                holders |= {pair: min(holder, holders.get(pair, holder)) for pair in ends & pairs}
        except psutil.AccessDenied:
            refused = True
        except psutil.Error:  # it is gone
            continue
    missing: dict[Pair, int | str] = dict.fromkeys(pairs, REFUSED) if refused else {}
    return missing | {pair: pid for pair, (_, pid) in holders.items()}
