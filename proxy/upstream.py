"""Dialling the server: the name is resolved and connected anew for each session."""

import asyncio
import contextlib
from typing import Final

from proxy.errors import NetworkError
from proxy.settings import NEVER, Address, duration_text
from proxy.sockets import reason_of

CANCEL_TIMEOUT: Final = 5.0  # a cancel that arrives later may hit another statement


async def connect(protocol: asyncio.Protocol, address: Address, within: float) -> asyncio.Transport:
    """Connect a protocol to `address` within so many seconds; each address of a name is tried.

    Raises:
        NetworkError: naming the address and the cause.
    """
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(None if within == NEVER else within):
            if address.is_unix:
                transport, _ = await loop.create_unix_connection(lambda: protocol, address.path)
            else:
                transport, _ = await loop.create_connection(lambda: protocol, address.host, address.port)
    except TimeoutError as error:
        cause = reason_of(error) if error.errno else f"no answer within {duration_text(within)}"
        raise NetworkError(str(address), cause) from error
    except (OSError, UnicodeError) as error:  # a name that cannot be one is a UnicodeError
        raise NetworkError(str(address), reason_of(error)) from error
    return transport


async def cancel(address: Address, packet: bytes) -> None:
    """Send a CancelRequest as it is, and wait until the server has closed the connection.

    The server never answers one. Whether it had an effect shows in the session that is meant, if anywhere; so that it
    could not be sent is nobody's error either.
    """
    with contextlib.suppress(OSError, UnicodeError):
        async with asyncio.timeout(CANCEL_TIMEOUT):
            reader, writer = await _open(address)
            try:
                writer.write(packet)
                await reader.read()
            finally:
                writer.close()


async def _open(address: Address) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    if address.is_unix:
        return await asyncio.open_unix_connection(address.path)
    return await asyncio.open_connection(address.host, address.port)
