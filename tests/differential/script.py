"""Scripts of frontend messages as text, one step a line, and back.

    # what this is about
    Startup 3.2 "application_name" "me"     only as the first line; user and database are added
    Query "begin"
    Parse "s1" "select $1::int" 23          name, text, types
    Bind "p1" "s1" "1" null                 portal, statement, values in text
    Describe portal "p1"                    or statement
    Execute "p1" 2                          portal, rows
    Close statement "s1"                    or portal
    FunctionCall 177 1 2                    oid, values of type int4
    CopyData "1\\n"
    CopyFail "no more"
    Flush | Sync | CopyDone | Terminate
    Bytes 510000                            what is none of these, in hexadecimal
    wait 1 2 Z                              for the next message of each of these types
    eof | close | reset                     how the client ends, if not by Terminate

Strings are those of JSON. Messages with no `wait` between them are sent together.
"""

import json
import re
from collections.abc import Callable, Iterator
from struct import error as StructError  # noqa: N812 - a class
from struct import unpack_from
from typing import Final, NamedTuple

from tests import messages as m
from tests.behaviour.support import function_call


class Send(NamedTuple):
    """The client sends this."""

    data: bytes


class Wait(NamedTuple):
    """The client waits for the next message of this type."""

    kind: str


class End(NamedTuple):
    """The client ends its stream: `eof`, `close` or `reset`."""

    how: str


Step = Send | Wait | End
ENDS: Final = ("eof", "close", "reset")
WORD: Final = re.compile(r'"(?:[^"\\]|\\.)*"|\S+')
Value = str | None

SIMPLE: Final = {"Flush": m.FLUSH, "Sync": m.SYNC, "CopyDone": m.COPY_DONE, "Terminate": m.TERMINATE}


class Startup(NamedTuple):
    """How a session is asked for."""

    protocol: int = 3 << 16
    parameters: tuple[tuple[str, str], ...] = ()


class Script(NamedTuple):
    """One client's part."""

    steps: tuple[Step, ...]
    startup: Startup = Startup()

    @classmethod
    def read(cls, text: str) -> "Script":
        """Read what `str` has written, or somebody by hand."""
        steps: list[Step] = []
        startup = Startup()
        for line in text.splitlines():
            words = [_value(word) for word in WORD.findall(line.strip())]
            if not words or str(words[0]).startswith("#"):
                continue
            if words[0] == "Startup":
                startup = _read_startup(words[1:])
            else:
                steps += _read(str(words[0]), words[1:])
        return cls(tuple(steps), startup)

    def __str__(self) -> str:
        lines = [_write_startup(self.startup)] if self.startup != Startup() else []
        return "\n".join([*lines, *_write(self.steps)]) + "\n"


def _value(word: str) -> Value:
    if word.startswith('"'):
        value: str = json.loads(word)
        return value
    return None if word == "null" else word


def _read(name: str, words: list[Value]) -> list[Step]:
    if name == "wait":
        return [Wait(str(kind)) for kind in words]
    if name in ENDS:
        return [End(name)]
    return [Send(SIMPLE[name] if name in SIMPLE else ENCODERS[name](*words))]


def _read_startup(words: list[Value]) -> Startup:
    major, _, minor = str(words[0]).partition(".")
    texts = [str(word) for word in words[1:]]
    return Startup(int(major) << 16 | int(minor), tuple(zip(texts[::2], texts[1::2], strict=True)))


def _parse(name: str, sql: str, *types: str) -> bytes:
    return m.parse(sql, name, *map(int, types))


def _bind(portal: str, statement: str, *values: Value) -> bytes:
    return m.bind(statement, portal, *(None if value is None else value.encode() for value in values))


ENCODERS: Final[dict[str, Callable[..., bytes]]] = {
    "Query": m.query,
    "Parse": _parse,
    "Bind": _bind,
    "Describe": lambda kind, name: m.describe(name, kind[0].upper()),
    "Close": lambda kind, name: m.close(name, kind[0].upper()),
    "Execute": lambda portal, rows="0": m.execute(portal, int(rows)),
    "FunctionCall": lambda oid, *values: function_call(int(oid), *map(int, values)),
    "CopyData": lambda data: m.copy_data(data.encode()),
    "CopyFail": m.copy_fail,
    "Bytes": bytes.fromhex,
}


# Writing.


def _write(steps: tuple[Step, ...]) -> Iterator[str]:
    waits: list[str] = []
    for step in steps:
        if isinstance(step, Wait):
            waits.append(step.kind)
            continue
        if waits:
            yield f"wait {' '.join(waits)}"
            waits = []
        if isinstance(step, End):
            yield step.how
        else:
            yield _text_of(step.data)
    if waits:
        yield f"wait {' '.join(waits)}"


def _write_startup(startup: Startup) -> str:
    words = [f"{startup.protocol >> 16}.{startup.protocol & 0xFFFF}"]
    words += [json.dumps(text) for pair in startup.parameters for text in pair]
    return " ".join(["Startup", *words])


def _text_of(data: bytes) -> str:
    """The line of what is sent; in hexadecimal if no other says the same."""
    try:
        line = " ".join(_words(chr(data[0]), data[5:]))
        read = Script.read(line).steps
    except (ValueError, LookupError, TypeError, StructError):
        read = ()
    return line if read == (Send(data),) else f"Bytes {data.hex()}"


def _words(kind: str, body: bytes) -> list[str]:
    for name, message in SIMPLE.items():
        if message[:1] == kind.encode():
            return [name]
    return DECODERS[kind](body)


def _texts(body: bytes, count: int) -> tuple[list[str], bytes]:
    """So many strings, as JSON, and what is behind them."""
    *texts, rest = body.split(b"\0", count)
    return [json.dumps(text.decode()) for text in texts], rest


def _decode_parse(body: bytes) -> list[str]:
    texts, rest = _texts(body, 2)
    return ["Parse", *texts, *(str(oid) for oid in unpack_from(f"!{unpack_from('!h', rest)[0]}i", rest, 2))]


def _decode_bind(body: bytes) -> list[str]:
    words, rest = _texts(body, 2)
    (count,) = unpack_from("!h", rest, 2)
    position = 4
    for _ in range(count):
        (length,) = unpack_from("!i", rest, position)
        position += 4
        words.append("null" if length < 0 else json.dumps(rest[position : position + length].decode()))
        position += max(length, 0)
    return ["Bind", *words]


def _decode_named(word: str, body: bytes) -> list[str]:
    return [word, {b"S": "statement", b"P": "portal"}[body[:1]], _texts(body[1:], 1)[0][0]]


def _decode_execute(body: bytes) -> list[str]:
    (portal,), rest = _texts(body, 1)
    rows = unpack_from("!i", rest)[0]
    return ["Execute", portal, *([str(rows)] if rows else [])]


def _decode_function_call(body: bytes) -> list[str]:
    oid, _, _, count = unpack_from("!ihhh", body)
    return ["FunctionCall", str(oid), *(str(unpack_from("!i", body, 14 + 8 * n)[0]) for n in range(count))]


DECODERS: Final[dict[str, Callable[[bytes], list[str]]]] = {
    "Q": lambda body: ["Query", *_texts(body, 1)[0]],
    "P": _decode_parse,
    "B": _decode_bind,
    "D": lambda body: _decode_named("Describe", body),
    "C": lambda body: _decode_named("Close", body),
    "E": _decode_execute,
    "F": _decode_function_call,
    "d": lambda body: ["CopyData", json.dumps(body.decode())],
    "f": lambda body: ["CopyFail", *_texts(body, 1)[0]],
}
