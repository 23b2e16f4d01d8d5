"""Every event and its fields: the schema of the log."""

from proxy.report.events.facts import (
    Client,
    Leak,
    Session,
    TransactionFacts,
)
from proxy.report.events.of_leaks import (
    LeakAbandoned,
    LeakEvent,
    LeakFlagged,
    LeakReport,
    LeakResolved,
    LeakRolledBack,
    LeakSpared,
    LeakTerminated,
)
from proxy.report.events.of_sessions import (
    ChannelBindingRefused,
    ChannelBindingUnavailable,
    ProtocolViolation,
    SessionClosed,
    SessionOpened,
)
from proxy.report.events.of_the_proxy import (
    CancelDropped,
    ConfigRejected,
    ConfigReloaded,
    ConfigWarning,
    InternalError,
    LogDropped,
    ProxyDraining,
    ProxyStarted,
    ProxyStopped,
    UpstreamTlsFailed,
    UpstreamUnreachable,
)

__all__ = [
    "CancelDropped",
    "ChannelBindingRefused",
    "ChannelBindingUnavailable",
    "Client",
    "ConfigRejected",
    "ConfigReloaded",
    "ConfigWarning",
    "InternalError",
    "Leak",
    "LeakAbandoned",
    "LeakEvent",
    "LeakFlagged",
    "LeakReport",
    "LeakResolved",
    "LeakRolledBack",
    "LeakSpared",
    "LeakTerminated",
    "LogDropped",
    "ProtocolViolation",
    "ProxyDraining",
    "ProxyStarted",
    "ProxyStopped",
    "Session",
    "SessionClosed",
    "SessionOpened",
    "TransactionFacts",
    "UpstreamTlsFailed",
    "UpstreamUnreachable",
]
