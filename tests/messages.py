"""Builds the messages of both sides, for transcripts and for the raw client."""

from struct import pack


def message(kind: str, body: bytes = b"") -> bytes:
    return kind.encode() + pack("!i", len(body) + 4) + body


def text(*values: str) -> bytes:
    return b"".join(value.encode() + b"\0" for value in values)


# Frontend.


def startup(protocol: int = 3 << 16, **parameters: str) -> bytes:
    fields = b"".join(text(name, value) for name, value in parameters.items()) + b"\0"
    return pack("!ii", len(fields) + 8, protocol) + fields


def ssl_request(code: int = 80877103) -> bytes:
    return pack("!ii", 8, code)


def cancel_request(pid: int, key: bytes) -> bytes:
    return pack("!iii", 12 + len(key), 80877102, pid) + key


def query(sql: str) -> bytes:
    return message("Q", text(sql))


def parse(sql: str, name: str = "", *types: int) -> bytes:
    return message("P", text(name, sql) + pack(f"!h{len(types)}i", len(types), *types))


def bind(statement: str = "", portal: str = "", *values: bytes | None) -> bytes:
    parameters = b"".join(pack("!i", -1) if value is None else pack("!i", len(value)) + value for value in values)
    return message("B", text(portal, statement) + pack("!hh", 0, len(values)) + parameters + pack("!h", 0))


def describe(name: str = "", kind: str = "S") -> bytes:
    return message("D", kind.encode() + text(name))


def execute(portal: str = "", rows: int = 0) -> bytes:
    return message("E", text(portal) + pack("!i", rows))


def close(name: str, kind: str = "S") -> bytes:
    return message("C", kind.encode() + text(name))


def run(sql: str) -> bytes:
    """Parse, Bind, Describe and Execute: what most drivers send before their Sync or Flush."""
    return parse(sql) + bind() + describe("", "P") + execute()


FLUSH = message("H")
SYNC = message("S")
TERMINATE = message("X")
COPY_DONE = message("c")


def copy_data(data: bytes = b"1\n") -> bytes:
    return message("d", data)


def copy_fail(reason: str = "no more") -> bytes:
    return message("f", text(reason))


# Backend.


def ready(status: str) -> bytes:
    return message("Z", status.encode())


def complete(tag: str) -> bytes:
    return message("C", text(tag))


def error(sqlstate: str = "22012", severity: str = "ERROR") -> bytes:
    return message("E", text(f"S{severity}", f"V{severity}", f"C{sqlstate}", "Mwrong") + b"\0")


def row(value: bytes = b"1") -> bytes:
    return message("D", pack("!hi", 1, len(value)) + value)


def parameter_status(name: str, value: str) -> bytes:
    return message("S", text(name, value))


def key_data(pid: int = 4711, key: bytes = b"\x01\x02\x03\x04") -> bytes:
    return message("K", pack("!i", pid) + key)


PARSED = message("1")
BOUND = message("2")
CLOSED = message("3")
NO_DATA = message("n")
DESCRIBED = message("T", pack("!h", 0))
EMPTY_QUERY = message("I")
SUSPENDED = message("s")
COPY_IN = message("G", b"\0" + pack("!h", 0))
COPY_OUT = message("H", b"\0" + pack("!h", 0))
AUTHENTICATED = message("R", pack("!i", 0))


def notice(severity: str, sqlstate: str, words: str, routine: str = "somewhere") -> bytes:
    return message("N", text(f"S{severity}", f"V{severity}", f"C{sqlstate}", f"M{words}", f"R{routine}") + b"\0")


NOTICE = notice("NOTICE", "00000", "listen")
NOTIFICATION = message("A", pack("!i", 1) + text("channel", "payload"))
STARTED = AUTHENTICATED + parameter_status("application_name", "app") + key_data() + ready("I")


def ran(tag: str) -> bytes:
    """The server's answer to `run`, without the rows."""
    return PARSED + BOUND + NO_DATA + complete(tag)


def queried(tag: str, status: str) -> bytes:
    """The server's answer to a Query, without the rows."""
    return complete(tag) + ready(status)
