"""Type bytes, codes and limits of the frontend/backend protocol, by their Postgres names.

Sources: PostgreSQL documentation, chapters "Message Formats" and "Frontend/Backend Protocol"; `libpq/protocol.h`,
`libpq/pqcomm.h` and `libpq/libpq.h` in the server's source for codes and limits.
"""

from typing import Final

# Frontend messages. Bind, Close, Describe, Execute, Flush, Parse, Query, Sync ...
BIND: Final = ord("B")
CLOSE: Final = ord("C")
DESCRIBE: Final = ord("D")
EXECUTE: Final = ord("E")
FUNCTION_CALL: Final = ord("F")
FLUSH: Final = ord("H")
PARSE: Final = ord("P")
QUERY: Final = ord("Q")
SYNC: Final = ord("S")
TERMINATE: Final = ord("X")
COPY_FAIL: Final = ord("f")
PASSWORD: Final = ord("p")  # also SASLInitialResponse, SASLResponse and GSSResponse: never captured

# Both directions.
COPY_DONE: Final = ord("c")
COPY_DATA: Final = ord("d")

# Backend messages.
PARSE_COMPLETE: Final = ord("1")
BIND_COMPLETE: Final = ord("2")
CLOSE_COMPLETE: Final = ord("3")
NOTIFICATION_RESPONSE: Final = ord("A")
COMMAND_COMPLETE: Final = ord("C")
DATA_ROW: Final = ord("D")
ERROR_RESPONSE: Final = ord("E")
COPY_IN_RESPONSE: Final = ord("G")
COPY_OUT_RESPONSE: Final = ord("H")
EMPTY_QUERY_RESPONSE: Final = ord("I")
BACKEND_KEY_DATA: Final = ord("K")
NOTICE_RESPONSE: Final = ord("N")
AUTHENTICATION: Final = ord("R")
PARAMETER_STATUS: Final = ord("S")
ROW_DESCRIPTION: Final = ord("T")
FUNCTION_CALL_RESPONSE: Final = ord("V")
COPY_BOTH_RESPONSE: Final = ord("W")
READY_FOR_QUERY: Final = ord("Z")
NO_DATA: Final = ord("n")
PORTAL_SUSPENDED: Final = ord("s")
PARAMETER_DESCRIPTION: Final = ord("t")
NEGOTIATE_PROTOCOL_VERSION: Final = ord("v")

# Transaction status, the byte in ReadyForQuery.
IDLE: Final = ord("I")
IN_TRANSACTION: Final = ord("T")
IN_FAILED_TRANSACTION: Final = ord("E")

# Codes where a StartupMessage has its protocol version (libpq/pqcomm.h).
CANCEL_REQUEST_CODE: Final = 80877102
SSL_REQUEST_CODE: Final = 80877103
GSSENC_REQUEST_CODE: Final = 80877104
PROTOCOL_3_0: Final = 3 << 16
PROTOCOL_3_2: Final = 3 << 16 | 2
KNOWN_PROTOCOLS: Final = (PROTOCOL_3_0, PROTOCOL_3_2)  # what the tracker understands

# Lengths, in bytes.
MAX_STARTUP_PACKET_LENGTH: Final = 10_000  # libpq/pqcomm.h; without the length word itself
MIN_MESSAGE_LENGTH: Final = 4  # the length word counts itself
CANCEL_KEY_LENGTHS: Final = range(4, 257)  # "Message Formats", CancelRequest in protocol 3.2
