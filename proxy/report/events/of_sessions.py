"""Events about a client's session."""

import dataclasses

from proxy.report.event import Event, key
from proxy.report.events.facts import Session


@dataclasses.dataclass(frozen=True, kw_only=True)
class SessionOpened(Event):
    """A client has a backend."""

    event = "session.opened"
    level = "debug"
    session: Session
    client_tls: str | None = key("session.client_tls", None)
    upstream_tls: str | None = key("session.upstream_tls", None)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SessionClosed(Event):
    """A session is over; bytes as received from either side."""

    event = "session.closed"
    level = "debug"
    session: Session
    from_client: int = key("session.bytes_from_client")
    from_server: int = key("session.bytes_from_server")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ChannelBindingRefused(Event):
    """The server kept a client out because of channel binding."""

    event = "channel_binding.refused"
    level = "warning"
    reason: str = key("error.message")
    session: Session


@dataclasses.dataclass(frozen=True, kw_only=True)
class ChannelBindingUnavailable(Event):
    """A client gave up when it was asked for its password, perhaps since it insists on channel binding."""

    event = "channel_binding.unavailable"
    level = "info"
    reason: str = key("error.message")
    session: Session


@dataclasses.dataclass(frozen=True, kw_only=True)
class ProtocolViolation(Event):
    """A peer sent what is not the protocol; from then on its session, if any, is relayed without being judged."""

    event = "protocol.violation"
    level = "warning"
    reason: str = key("error.message")
    address: str = key("client.address", "")
    session: Session | None = None
