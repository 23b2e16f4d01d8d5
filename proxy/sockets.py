"""What the kernel is told about a socket, and asked about it."""

import array
import asyncio
import contextlib
import errno
import fcntl
import os
import resource
import select
import socket
import struct
import termios
from pathlib import Path
from typing import Final

from proxy.errors import OperatorError
from proxy.settings import NEVER

MAX_KEEPALIVE: Final = 32_767  # TCP_KEEPIDLE's, in seconds
MAX_USER_TIMEOUT: Final = 2**31 - 1  # TCP_USER_TIMEOUT's, in milliseconds
KEEPALIVE_PROBES: Final = 3
SOCKET_MODE: Final = 0o777  # as Postgres's own unix_socket_permissions
GROUP_MODE: Final = 0o770  # a pod's containers share a group (fsGroup)
READ: Final = 65_536
MOST_READS: Final = 256  # what a socket's buffer holds; a peer that has reset the connection adds nothing
TCP_INFO_BYTES: Final = 60  # up to tcpi_last_ack_recv
UNANSWERED: Final = 2  # one may be under way
# tcpi_retransmits, tcpi_probes and tcpi_last_ack_recv (milliseconds): the third and fourth byte, and the 13th word.
_tcp_info: Final = struct.Struct("@2xBB4x48xI").unpack
SPARE_DESCRIPTORS: Final = 64  # listeners, the log, name lookups, cancel requests


def watch_for_loss(transport: asyncio.Transport, keepalive: float, user_timeout: float) -> None:
    """Let the kernel notice a peer that is lost without a FIN.

    Args:
        transport: a connected socket; nothing is done for a Unix socket.
        keepalive: idle seconds before probes are sent; they go on for about as long again.
        user_timeout: seconds that sent data may wait (Linux only); a peer with a closed window is cut off by it
            although it answers every probe (tcp_probe_timer in the kernel's source).
    """
    sock = transport.get_extra_info("socket")
    if sock is None or sock.family == socket.AF_UNIX:
        return
    if keepalive != NEVER:
        idle = min(max(round(keepalive), 1), MAX_KEEPALIVE)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        idle_option = getattr(socket, "TCP_KEEPIDLE", None) or getattr(socket, "TCP_KEEPALIVE", None)
        if idle_option is not None:
            sock.setsockopt(socket.IPPROTO_TCP, idle_option, idle)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, max(idle // KEEPALIVE_PROBES, 1))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, KEEPALIVE_PROBES)
    if user_timeout != NEVER and hasattr(socket, "TCP_USER_TIMEOUT"):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, min(round(user_timeout * 1000), MAX_USER_TIMEOUT))


def unacknowledged(transport: asyncio.Transport) -> int:
    """Bytes that the kernel still keeps because the peer has not taken them (SIOCOUTQ, tcp(7) and unix(7)).

    TCP's window hides a reader that takes less than a segment; nobody can see more than this from here.
    """
    sock = transport.get_extra_info("socket")
    count = array.array("i", [0])
    try:
        fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, count)
    except OSError:  # the socket is gone, or this kernel cannot tell
        return 0
    return count[0]


def unanswered(transport: asyncio.Transport) -> float:
    """Seconds since the peer's host has given a sign of life, if it has left what was sent unanswered twice; else 0.0.

    A peer that only does not read answers every probe of its closed window (tcp_info, linux/tcp.h; Linux only).
    """
    sock = transport.get_extra_info("socket")
    if sock is None or sock.family == socket.AF_UNIX or not hasattr(socket, "TCP_INFO"):
        return 0.0
    try:
        info = _tcp_info(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, TCP_INFO_BYTES))
    except (OSError, struct.error):  # the socket is gone, or this kernel tells less
        return 0.0
    retransmits, probes, last_ack_received = info
    return last_ack_received / 1000 if retransmits + probes >= UNANSWERED else 0.0


def segment_size(transport: asyncio.Transport) -> int:
    """The most bytes that TCP sends at a time; 1 for a Unix socket, which has no segments."""
    sock = transport.get_extra_info("socket")
    if sock.family == socket.AF_UNIX:
        return 1
    return int(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG))


def is_broken(transport: asyncio.Transport) -> bool:
    """Whether the peer has reset the connection, or was given up: known to the kernel before anybody reads.

    The end of the peer's stream does not count: what it sent before is still to be read.
    """
    sock = transport.get_extra_info("socket")
    poll = select.poll()
    poll.register(sock.fileno(), 0)  # only what is always told: POLLERR, POLLHUP
    return any(event & select.POLLERR for _, event in poll.poll(0))


def unread_of(transport: asyncio.Transport) -> bytes:
    """What a peer has sent that has reset the connection since: the kernel still has it, and the loop reads no more.

    Nothing of an encrypted connection, whose bytes mean nothing by themselves.
    """
    sock = transport.get_extra_info("socket")
    parts: list[bytes] = []
    if sock is not None and transport.get_extra_info("ssl_object") is None:
        with contextlib.suppress(OSError):  # nothing more, or the socket is gone
            while len(parts) < MOST_READS and (part := os.read(sock.fileno(), READ)):
                parts.append(part)
    return b"".join(parts)


def peer_of(transport: asyncio.Transport) -> tuple[str, int]:
    """Address and port of the other side; ("", 0) for a Unix socket."""
    try:
        name = transport.get_extra_info("peername")
    except AttributeError:  # uvloop's way of saying that the socket is closed
        return "", 0
    return (str(name[0]), int(name[1])) if isinstance(name, tuple) else ("", 0)


def is_unix(transport: asyncio.Transport) -> bool:
    """Whether this is a Unix socket; known of one whose peer is gone, too."""
    return bool(transport.get_extra_info("socket").family == socket.AF_UNIX)


def make_room(sessions: int) -> None:
    """Raise the limit of open files so that so many sessions fit.

    Raises:
        OperatorError: the hard limit is lower than that.
    """
    needed = 2 * sessions + SPARE_DESCRIPTORS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
    except (ValueError, OverflowError, OSError) as error:  # beyond the hard limit, or beyond what the kernel has at all
        fitting = (hard if hard != resource.RLIM_INFINITY else soft) - SPARE_DESCRIPTORS
        raise OperatorError(
            f"max_sessions: {sessions} sessions need {needed} open files, which is more than this process may have; "
            f"raise its limit (ulimit -n) or set max_sessions to {fitting // 2} or less"
        ) from error


def reason_of(error: BaseException) -> str:
    """Why something failed, in the system's words and without numbers of errors."""
    if isinstance(error, TimeoutError) and not error.errno:
        return "timed out"
    if isinstance(error, OSError) and error.errno and not isinstance(error, socket.gaierror):
        return os.strerror(error.errno)  # asyncio writes more into strerror
    if isinstance(error, OSError):
        return error.strerror or str(error)
    return str(error) or type(error).__name__


def claim(name: str, option: str) -> None:
    """Remove a Unix socket's file that a process which is gone has left.

    Args:
        name: the file.
        option: the key of the option that names it.

    Raises:
        OperatorError: somebody listens there, or it is another kind of file.
    """
    path = Path(name)
    if not path.exists():
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        if not path.is_socket() or probe.connect_ex(name) != errno.ECONNREFUSED:
            raise OperatorError(f"{option}: cannot listen on {path}: it is in use")
    path.unlink()


def open_to_all(name: str) -> None:
    """Let every user connect to a Unix socket, as Postgres does by default: the server decides who may do what."""
    Path(name).chmod(SOCKET_MODE)


def open_to_group(name: str) -> None:
    """Let nobody connect to a Unix socket but its owner and its group."""
    Path(name).chmod(GROUP_MODE)


def remove(name: str) -> None:
    """Remove a Unix socket's file."""
    Path(name).unlink(missing_ok=True)
