"""Who a session is, as far as the wire tells."""

from typing import Final

from proxy.report import events
from proxy.wire.flow import MessageFlow
from proxy.wire.startup import StartupMessage

MAX_NAME: Final = 128  # characters of a name that a client chose


class Identity:
    """One session's names.

    Args:
        session_id: its name in the log.
        startup: what the client called itself when it came.
        flow: what the server has told of it since.

    Attributes:
        peer: the client's address and port; ("", 0) for a Unix socket.
    """

    __slots__ = ("_flow", "_session_id", "_startup", "peer")

    def __init__(self, session_id: str, startup: StartupMessage, flow: MessageFlow) -> None:
        self._session_id = session_id
        self._startup = startup
        self._flow = flow
        self.peer = ("", 0)

    def facts(self) -> events.Session:
        """Who it is now: application_name may have been SET."""
        told, reported = self._startup.parameters, self._flow.backend.parameters
        user = told.get("user", "")
        address, port = self.peer
        return events.Session(
            client=events.Client(
                user=_printable(user),
                database=_printable(told.get("database") or user),
                application_name=_printable(reported.get("application_name", told.get("application_name", ""))),
                address=address,
            ),
            id=self._session_id,
            port=port or None,
            backend_pid=self._flow.backend.pid or None,
        )


def _printable(name: str) -> str:
    """A name as it may stand in a line of a log."""
    return "".join(character if character.isprintable() else "?" for character in name[:MAX_NAME])
