"""A client that says exactly what it is told to, beside a hundred others in one loop."""

import asyncio
import contextlib
import socket
import ssl
import struct

from tests import messages as m
from tests.harness import PATIENCE
from tests.promises.drivers import USER, Door, Lost
from tests.rawclient import Message, fields

NO_LINGER = struct.pack("ii", 1, 0)


class Wire:
    """One session.

    Attributes:
        status: what the last ReadyForQuery said.
        lost: whether the session is over.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._backend = (0, b"")
        self.status = ""
        self.lost = False

    @classmethod
    async def connect(cls, door: Door, name: str) -> "Wire":
        """Begin a session with a server that trusts everybody."""
        context = unverified() if door.tls else None  # at once, without asking for it, as libpq can from 17 on
        wire = cls(*await asyncio.open_connection(door.host, door.port, ssl=context))
        wire.send(m.startup(user=USER, database=USER, application_name=name))
        for message in await wire.answers():
            if message.kind == "K":
                wire._backend = (struct.unpack_from("!i", message.body)[0], message.body[4:])
        return wire

    def send(self, data: bytes) -> None:
        if self.lost:
            raise Lost("", "the connection was closed before", unsent=True)
        self._writer.write(data)

    async def receive(self) -> Message:
        """The next message.

        Raises:
            Lost: there is none; with the FATAL before it, if that was the last thing said.
        """
        try:
            head = await self._reader.readexactly(5)
            message = Message(chr(head[0]), await self._reader.readexactly(struct.unpack_from("!i", head, 1)[0] - 4))
        except (asyncio.IncompleteReadError, OSError) as error:
            self.lost = True
            raise Lost("", str(error)) from error
        if message.kind == "E" and fields(message)["V"] == "FATAL":
            await self.close()
            told = fields(message)
            raise Lost(told["C"], told["M"])
        return message

    async def receive_until(self, kinds: str) -> list[Message]:
        """Everything up to the next message of one of these types."""
        messages = [await self.receive()]
        while messages[-1].kind not in kinds:
            messages.append(await self.receive())
        return messages

    async def answers(self) -> list[Message]:
        """Everything up to the next ReadyForQuery."""
        messages = await self.receive_until("Z")
        self.status = messages[-1].body.decode()
        return messages

    async def cancel(self, door: Door) -> None:
        """Ask to cancel what runs."""
        reader, writer = await asyncio.open_connection(door.host, door.port)
        writer.write(m.cancel_request(*self._backend))
        with contextlib.suppress(OSError):
            await reader.read()  # the end of the stream: the request was carried out
        writer.close()

    async def close(self) -> None:
        """End the stream, and wait for its end: in TLS that takes an answer."""
        self.lost = True
        self._writer.close()
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(PATIENCE):
                await self._writer.wait_closed()

    def reset(self) -> None:
        """Break the connection."""
        if not self._writer.is_closing():
            own = self._writer.get_extra_info("socket")
            own.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGER)
        self.lost = True
        self._writer.transport.abort()


def unverified() -> ssl.SSLContext:
    """A client's context that trusts every server: who it is, is not what is tested."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["postgresql"])
    return context


def tags(messages: list[Message]) -> list[str]:
    """The tags of all that was completed."""
    return [message.body.rstrip(b"\0").decode() for message in messages if message.kind == "C"]


def refusal(messages: list[Message]) -> dict[str, str] | None:
    """The fields of the first error, if any."""
    return next((fields(message) for message in messages if message.kind == "E"), None)
