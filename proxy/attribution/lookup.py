"""Looks up the server's name for the side connection, apart from everything else that looks up names.

A lookup cannot be given up: the resolver takes its own time, with Kubernetes' search domains a minute. The loop's pool
has few threads for such work, and without them no client gets a session. So it is done in a thread of its own, by one
at a time, and nobody waits for that thread when the process ends.
"""

import asyncio
import contextlib
import ipaddress
import socket
import threading
from collections.abc import Mapping
from typing import Final

from proxy.errors import OperatorError

Addresses = list[list[str]]  # of each host

BUSY: Final = "the name of its server is still being looked up"


class Lookup:
    """Looks up names, one at a time."""

    def __init__(self) -> None:
        self._busy = False

    async def resolved(self, parts: Mapping[str, str]) -> dict[str, str]:
        """The parts of a connection string, with every address (`hostaddr`) of those hosts that are names.

        Raises:
            OperatorError: there is no such name, or somebody else's is still being looked up.
        """
        hosts = parts.get("host", "").split(",")
        if "hostaddr" in parts or not any(map(_is_name, hosts)):
            return dict(parts)
        if self._busy:
            raise OperatorError(BUSY)
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Addresses] = loop.create_future()
        self._busy = True
        threading.Thread(target=self._look, args=(hosts, loop, answer), name="lookup", daemon=True).start()
        return {**parts, **_with_addresses(hosts, parts.get("port", "").split(","), await answer)}

    def _look(self, hosts: list[str], loop: asyncio.AbstractEventLoop, answer: asyncio.Future[Addresses]) -> None:
        try:
            found: Addresses | OperatorError = _all_addresses(hosts)
        except OSError as error:
            found = OperatorError(f"there is no address for the name of its server: {error.strerror}")
        except UnicodeError:
            found = OperatorError("the name of its server is none that can be looked up")
        with contextlib.suppress(RuntimeError):  # the loop has been closed in the meantime
            loop.call_soon_threadsafe(self._tell, found, answer)

    def _tell(self, found: Addresses | OperatorError, answer: asyncio.Future[Addresses]) -> None:
        self._busy = False
        if answer.done():  # nobody waits for it any more
            return
        if isinstance(found, OperatorError):
            answer.set_exception(found)
        else:
            answer.set_result(found)


def _is_name(host: str) -> bool:
    if not host or host.startswith(("/", "@")):  # a socket
        return False
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return True
    return False


def _addresses(host: str) -> list[str]:
    """The addresses of a host; none for what is no name."""
    if not _is_name(host):
        return [""]
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


def _all_addresses(hosts: list[str]) -> Addresses:
    """Those of every host; none of one that has none, if another one has."""
    found: Addresses = []
    for host in hosts:
        try:
            found.append(_addresses(host))
        except OSError:
            if len(hosts) == 1 or (host == hosts[-1] and not any(found)):
                raise
            found.append([])
    return found


def _with_addresses(hosts: list[str], ports: list[str], addresses: Addresses) -> dict[str, str]:
    """Libpq's lists: a host and a port for each address (documentation, "Specifying Multiple Hosts")."""
    every = [(number, address) for number, several in enumerate(addresses) for address in several]
    lists = {"host": [hosts[number] for number, _ in every], "hostaddr": [address for _, address in every]}
    if len(ports) > 1:
        lists["port"] = [ports[number] for number, _ in every]
    return {name: ",".join(values) for name, values in lists.items()}
