"""Where the admin side listens.

aiohttp serves it in the proxy's own loop, so whatever it takes there is bounded: connections, the length of headers,
how long a connection that nobody uses stays. Bodies are not read. Nothing that is asked gets into a log.
"""

import asyncio
import logging
from collections.abc import Mapping
from typing import Final

from aiohttp import web

from proxy.admin.access import Access, needs_token, read_token
from proxy.admin.api import Api
from proxy.errors import OperatorError
from proxy.report.log import where_we_run
from proxy.report.reporter import Reporter
from proxy.server import Server
from proxy.settings import Address, Settings, socket_file
from proxy.sockets import claim, open_to_group, reason_of, remove
from proxy.tls.files import Followed

MAX_CONNECTIONS: Final = 32  # half of the descriptors that are spared for other things than sessions
BACKLOG: Final = 16  # as many more may come in one turn of the loop
KEEP_ALIVE: Final = 15.0  # seconds without a request; aiohttp's own is an hour
STOP_WITHIN: Final = 1.0  # seconds for answers that are under way

# aiohttp describes requests that it does not understand, which may have a token in them: to nobody.
_silent: Final = logging.Logger("pgleash.admin")  # noqa: LOG001 - apart from the tree of loggers, without a handler
_silent.disabled = True


class Admin:
    """The admin side of a proxy.

    Args:
        settings: the configuration; admin.listen none makes it do nothing.
        server: the proxy.
        reporter: has its ledger, and takes events.
        environment: where the process says which pod it runs in.

    Raises:
        SettingsError: the token that is needed cannot be read.
    """

    def __init__(self, settings: Settings, server: Server, reporter: Reporter, environment: Mapping[str, str]) -> None:
        self._listen = settings.admin.listen
        self._listener: asyncio.Server | None = None
        self._runner: web.AppRunner | None = None
        if self._listen is not None:
            file = settings.admin.token_file or ""
            token = Followed(lambda: read_token(file), [file], reporter) if needs_token(settings.admin) else None
            access = Access(self._listen, token.current if token else None)
            self._api = Api(server, reporter, access, where_we_run(environment))

    async def start(self) -> str:
        """Listen; returns where, or "" if that is nowhere.

        Raises:
            OperatorError: the address cannot be listened on.
        """
        if self._listen is None:
            return ""
        self._runner = web.AppRunner(
            self._api.application(),
            access_log=None,
            logger=_silent,
            keepalive_timeout=KEEP_ALIVE,
            lingering_time=0.0,
            shutdown_timeout=STOP_WITHIN,
        )
        await self._runner.setup()
        try:
            return await self._bind(self._listen)
        except OSError as error:
            await self.stop()
            where = socket_file(self._listen) if self._listen.is_unix else self._listen
            raise OperatorError(f"admin.listen: cannot listen on {where}: {reason_of(error)}") from error
        except OperatorError:
            await self.stop()
            raise

    async def _bind(self, address: Address) -> str:
        loop = asyncio.get_running_loop()
        if not address.is_unix:
            self._listener = await loop.create_server(self._accept, address.host, address.port, backlog=BACKLOG)
            return str(Address(address.host, self._listener.sockets[0].getsockname()[1]))
        path = socket_file(address)
        claim(path, "admin.listen")
        self._listener = await loop.create_unix_server(self._accept, path, backlog=BACKLOG)
        open_to_group(path)
        return path

    def _accept(self) -> asyncio.Protocol:
        """Take a connection; if there are too many, the oldest make room."""
        assert self._runner is not None  # noqa: S101 - it listens
        server = self._runner.server
        assert server is not None  # noqa: S101 - it has been set up
        connections = server.connections
        for old in connections[: max(len(connections) - MAX_CONNECTIONS + 1, 0)]:
            old.force_close()  # which takes effect in the loop's next turn
        return server()

    async def stop(self) -> None:
        """Answer nobody any more."""
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.close()
            if self._listen is not None and self._listen.is_unix:
                remove(socket_file(self._listen))
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()
