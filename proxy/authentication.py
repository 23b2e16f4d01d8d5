"""Authentication across two connections: what each leg's TLS allows, and what to say where that is not enough.

The password's proof passes through as it is. Only the offer of channel binding may have to be taken out of what the
server says (proxy/wire/authentication.py has the table); where that does not help, the log and the client are told
what does.
"""

import asyncio
from typing import Final

from proxy.tls.contexts import ClientsContext
from proxy.tls.transport import certificate_of, engine_of
from proxy.wire.authentication import AuthenticationGate
from proxy.wire.messages import KNOWN_PROTOCOLS
from proxy.wire.startup import StartupMessage

OWN_CERTIFICATE: Final = "give pgleash the server's own certificate and key (client_tls.cert_file and key_file)"
NO_BINDING: Final = "set channel_binding=disable in the client"
NO_INSISTING: Final = "set channel_binding=prefer in the client"
OTHER: Final = "the client can do channel binding, but sees the certificate of pgleash"
REFUSED: Final = f"{OTHER}: {NO_BINDING}, or {OWN_CERTIFICATE}"
LEFT: Final = "the client left when it was asked for its password; if it has channel_binding=require: "
HINT: Final = f"pgleash stands in between: {NO_BINDING}, or {OWN_CERTIFICATE}."


class Authentication:
    """One session's authentication.

    Args:
        client, server: its connections.
        startup: the client's startup packet.
    """

    def __init__(self, client: asyncio.Transport, server: asyncio.Transport, startup: StartupMessage) -> None:
        self._client_tls = engine_of(client) is not None
        self._server_tls = engine_of(server) is not None
        self._startup = startup
        same = self._client_tls and self._server_tls and certificate_of(server) == _shown_to(client)
        self._hindered = (self._client_tls or self._server_tls) and not same
        self._gate = AuthenticationGate(HINT, withhold_plus=self._server_tls and not same)
        self._gate.open = not self._hindered and startup.known_protocol

    @property
    def over(self) -> bool:
        """Whether nothing that the server says from here on has to be looked at first."""
        return self._gate.open

    @property
    def known_protocol(self) -> bool:
        """Whether what follows is a conversation that the tracker knows: asked for, or settled on by the server."""
        return self._startup.known_protocol or self._gate.version in KNOWN_PROTOCOLS

    def feed(self, data: bytes) -> bytes:
        """Take what the server sent; returns what to pass on now."""
        return self._gate.feed(data)

    def finish(self) -> bytes:
        """The server will say nothing more; returns what is still to be passed on."""
        return self._gate.finish()

    def refused(self) -> str:
        """Why channel binding has kept this client out, and what to set; "" if it has not."""
        return REFUSED if self._gate.refused else ""

    def given_up(self) -> str:
        """What a client may have missed that went without an answer when it was asked for its password, or "".

        One that insists on channel binding does so. One that has to ask a person for the password does it, too.
        """
        if not self._hindered or self.over or not self._gate.offered:
            return ""
        if self._client_tls and self._server_tls:
            return f"{LEFT}{NO_BINDING}, or {OWN_CERTIFICATE}"
        missing = "upstream_tls" if self._client_tls else "TLS to pgleash"
        return f"{LEFT}{NO_INSISTING}, or have {missing} and {OWN_CERTIFICATE}"


def _shown_to(client: asyncio.Transport) -> bytes | None:
    """The certificate of ours that this client sees (DER)."""
    engine = engine_of(client)
    context = None if engine is None else engine.context
    return context.certificate if isinstance(context, ClientsContext) else None
