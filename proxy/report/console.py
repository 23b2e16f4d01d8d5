"""Log lines for a person at a terminal: the sentence first, then what leads to the culprit."""

from collections.abc import MutableMapping
from typing import Any, Final

_colours: Final = {"debug": "2", "info": "36", "warning": "33", "error": "31"}
_bold: Final = "1"
_dim: Final = "2"
_time: Final = slice(len("2026-11-20T"), len("2026-11-20T08:15:02.113"))

_sentences: Final = ("leak.summary", "client.summary", "session.summary", "message")

# What a leak's second line shows, and how; the sentence has the rest.
_details: Final = {
    "transaction.first_write": "first write {}",
    "transaction.last": "last {}",
    "transaction.statements": "{} statements",
    "transaction.age_s": "age {:.1f} s",
    "leak.limit_s": "limit {:g} s",
    "transaction.tags": "tags {}",
    "trace_id": "trace {}",
    "blast.locks": "holds {}",
    "blast.blocked_sessions": "{} sessions wait",
    "leak.repeated": "{} like this",
    "session.id": "session {}",
    "postgres.backend_pid": "backend {}",
    "leak.id": "leak {}",
    "client.repeated": "{} like this",
    "session.last": "last {}",
    "session.limit_s": "limit {:g} s",
}


class ConsoleRenderer:
    """The last processor of structlog's chain.

    Args:
        colour: whether the terminal shows colours.
    """

    def __init__(self, *, colour: bool) -> None:
        self._colour = colour

    def __call__(self, _logger: object, _method: str, record: MutableMapping[str, Any]) -> str:
        """One line, or two where there is a sentence."""
        fields = dict(record)
        level = str(fields.pop("level"))
        head = " ".join(
            (
                self._paint(_dim, str(fields.pop("timestamp"))[_time]),
                self._paint(_colours[level], f"{level:<7}"),
                self._paint(_bold, f"{fields.pop('event'):<16}"),
            )
        )
        sentence = next((str(fields.pop(name)) for name in _sentences if name in fields), "")
        if sentence and "message" not in record:
            return _one_line(f"{head} ", sentence) + "\n" + self._paint(_dim, _one_line(" " * 13, _about(fields)))
        pairs = [f"{name}={_value(value)}" for name, value in fields.items()]
        return _one_line(f"{head} ", " ".join([sentence, *pairs]).strip())

    def _paint(self, code: str, text: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self._colour else text


def _about(fields: MutableMapping[str, Any]) -> str:
    """What else there is to say of a leak; a statement that the sentence has is not repeated."""
    opener = fields.get("transaction.opener")
    told = {name: _value(value) if isinstance(value, tuple | dict) else value for name, value in fields.items()}
    for name in ("transaction.first_write", "transaction.last"):
        if opener and fields.get(name) == opener:
            told[name] = "the same"
    return " · ".join(text.format(told[name]) for name, text in _details.items() if name in told)


def _value(value: object) -> str:
    if isinstance(value, dict):
        return " ".join(f"{name}={text}" for name, text in value.items())
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _one_line(prefix: str, text: str) -> str:
    """Nothing in a value can move the cursor or begin a line."""
    return prefix + "".join(character if character.isprintable() else " " for character in text)
