"""Both byte streams of a session -> what the client holds.

Bytes are shown here after they were forwarded, so nothing here may raise: what is not understood makes the session
*opaque*, relayed for ever, never judged.
"""

from collections.abc import Callable, Mapping
from typing import Final

from proxy.wire import messages as m
from proxy.wire.flow import MessageFlow
from proxy.wire.hold import Hold
from proxy.wire.scanner import SKIP, Scanner, capture_limits
from proxy.wire.statements import NAMES_BYTES, STATEMENT_BYTES

TAG_BYTES: Final = 64
SEVERITY_BYTES: Final = 64  # the severity fields come first in an ErrorResponse; what follows may hold data
NOTICE_BYTES: Final = 256  # a warning of the server's own fits, down to where it was raised
PARAMETER_BYTES: Final = 512
KEY_BYTES: Final = 4 + 256  # process id, and a key of protocol 3.2

Handler = Callable[[MessageFlow, bytes], None]

# For each type: how many bytes of the body to capture, and what it means.
FRONTEND: Final[Mapping[int, tuple[int, Handler | None]]] = {
    m.BIND: (NAMES_BYTES, MessageFlow.bind),
    m.CLOSE: (NAMES_BYTES, MessageFlow.close),
    m.DESCRIBE: (0, MessageFlow.describe),
    m.EXECUTE: (NAMES_BYTES, MessageFlow.execute),
    m.FUNCTION_CALL: (0, MessageFlow.function_call),
    m.FLUSH: (SKIP, None),
    m.PARSE: (NAMES_BYTES + STATEMENT_BYTES, MessageFlow.parse),
    m.QUERY: (STATEMENT_BYTES, MessageFlow.query),
    m.SYNC: (0, MessageFlow.sync),
    m.TERMINATE: (0, MessageFlow.terminate),
    m.COPY_DATA: (SKIP, None),
    m.COPY_DONE: (0, MessageFlow.copy_end),
    m.COPY_FAIL: (0, MessageFlow.copy_end),
    m.PASSWORD: (SKIP, None),
}
BACKEND: Final[Mapping[int, tuple[int, Handler | None]]] = {
    m.PARSE_COMPLETE: (0, MessageFlow.replied),
    m.BIND_COMPLETE: (0, MessageFlow.replied),
    m.CLOSE_COMPLETE: (0, MessageFlow.closed),
    m.NO_DATA: (0, MessageFlow.replied),
    m.ROW_DESCRIPTION: (0, MessageFlow.replied),
    m.PARAMETER_DESCRIPTION: (SKIP, None),
    m.COMMAND_COMPLETE: (TAG_BYTES, MessageFlow.command_complete),
    m.EMPTY_QUERY_RESPONSE: (0, MessageFlow.executed),
    m.PORTAL_SUSPENDED: (0, MessageFlow.executed),
    m.ERROR_RESPONSE: (SEVERITY_BYTES, MessageFlow.error),
    m.READY_FOR_QUERY: (1, MessageFlow.ready),
    m.COPY_IN_RESPONSE: (0, MessageFlow.copy_in),
    m.COPY_OUT_RESPONSE: (0, MessageFlow.copy_out),
    m.COPY_BOTH_RESPONSE: (0, MessageFlow.copy_both),
    m.COPY_DATA: (SKIP, None),
    m.COPY_DONE: (SKIP, None),
    m.DATA_ROW: (SKIP, None),
    m.FUNCTION_CALL_RESPONSE: (0, MessageFlow.replied),
    m.PARAMETER_STATUS: (PARAMETER_BYTES, MessageFlow.parameter_status),
    m.BACKEND_KEY_DATA: (KEY_BYTES, MessageFlow.backend_key_data),
    m.AUTHENTICATION: (SKIP, None),
    m.NEGOTIATE_PROTOCOL_VERSION: (SKIP, None),
    m.NOTICE_RESPONSE: (NOTICE_BYTES, MessageFlow.notice),
    m.NOTIFICATION_RESPONSE: (SKIP, None),
}

FRONTEND_LIMITS: Final = capture_limits({kind: limit for kind, (limit, _) in FRONTEND.items()})
BACKEND_LIMITS: Final = capture_limits({kind: limit for kind, (limit, _) in BACKEND.items()})

TAILED: Final = frozenset({m.PARSE, m.QUERY})  # a comment with tags stands behind the statement


def _handlers(table: Mapping[int, tuple[int, Handler | None]]) -> Mapping[int, Handler]:
    return {kind: handler for kind, (limit, handler) in table.items() if limit != SKIP and handler is not None}


FRONTEND_HANDLERS: Final = _handlers(FRONTEND)
BACKEND_HANDLERS: Final = _handlers(BACKEND)


GaveUp = Callable[[str, Exception | None], None]


class Tracker:
    """Watches one session.

    Args:
        gave_up: called once when the session becomes opaque, with the reason, and the error if it is a fault of ours.
        goodbye: called when the client has sent Terminate.

    Attributes:
        flow: what the messages so far mean; not to be trusted once the session is opaque.
        opaque: why the session is not understood, or None.
    """

    __slots__ = ("_backend", "_frontend", "_gave_up", "flow", "opaque")

    def __init__(self, gave_up: GaveUp, goodbye: Callable[[], None]) -> None:
        self._gave_up = gave_up
        self._frontend = Scanner(FRONTEND_LIMITS, self._frontend_message, TAILED)
        self._backend = Scanner(BACKEND_LIMITS, self._backend_message)
        self.flow = MessageFlow(goodbye)
        self.opaque: str | None = None

    @property
    def in_transaction(self) -> bool:
        """Whether the server has a transaction open, as far as is known."""
        return self.opaque is None and self.flow.in_transaction

    @property
    def frontend_at_boundary(self) -> bool:
        """Whether a message of ours may follow what the client sent."""
        return self.opaque is None and self._frontend.at_boundary

    @property
    def backend_at_boundary(self) -> bool:
        """Whether a message of ours may follow what the server sent."""
        return self.opaque is None and self._backend.at_boundary

    def hold(self) -> Hold | None:
        """What the client holds, as far as messages tell."""
        return self.flow.hold() if self.opaque is None else None

    @property
    def idle_since(self) -> float | None:
        """Since when the session has been idle outside of a transaction; None if it is not."""
        return self.flow.idle_since if self.opaque is None else None

    def frontend(self, data: bytes, now: float) -> None:
        """Look at bytes that were forwarded to the server at `now` (seconds)."""
        if self.opaque is None:
            self.flow.now = now
            self.flow.client_moved()
            self._feed(self._frontend, data)

    def backend(self, data: bytes, now: float) -> None:
        """Look at bytes that were forwarded to the client at `now` (seconds)."""
        if self.opaque is None:
            self.flow.now = now
            self._feed(self._backend, data)

    def ignore(self, reason: str) -> None:
        """Do not look at this session: what its startup packet asks for is not to be judged."""
        self.opaque = reason

    def _give_up(self, reason: str, error: Exception | None = None) -> None:
        self.opaque = reason
        self._gave_up(reason, error)

    def _feed(self, scanner: Scanner, data: bytes) -> None:
        try:
            scanner.feed(data)
        except Exception as error:  # noqa: BLE001 - whatever is wrong in here, the relay goes on
            self._give_up(f"{type(error).__name__} while tracking", error)
            return
        reason = scanner.lost or self.flow.confused
        if reason is None and self.flow.due.confused:
            reason = "an answer that nothing asked for"
        if reason is not None:
            self._give_up(reason)

    def _frontend_message(self, kind: int, body: bytes) -> None:
        FRONTEND_HANDLERS[kind](self.flow, body)

    def _backend_message(self, kind: int, body: bytes) -> None:
        BACKEND_HANDLERS[kind](self.flow, body)
