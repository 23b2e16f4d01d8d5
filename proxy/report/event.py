"""An event, and how its fields get into the log.

A field's key in the log stands beside it; fields that are None or "" are unknown and left out.
"""

import dataclasses
from collections.abc import Iterator
from typing import Any, ClassVar, Final, Literal

Level = Literal["debug", "info", "warning", "error"]
KEY: Final = "key"


def key(name: str, default: Any = dataclasses.MISSING) -> Any:
    """A field of a dataclass that is logged under this name."""
    if default is dataclasses.MISSING:
        return dataclasses.field(metadata={KEY: name})
    return dataclasses.field(default=default, metadata={KEY: name})


def flatten(record: Any) -> Iterator[tuple[str, Any]]:
    """The keys and values of a dataclass and of those in it, without the unknown ones."""
    for field in dataclasses.fields(record):
        value = getattr(record, field.name)
        if dataclasses.is_dataclass(value):
            yield from flatten(value)
        elif value is not None and value != "" and KEY in field.metadata:
            yield field.metadata[KEY], round(value, 3) if isinstance(value, float) else value


@dataclasses.dataclass(frozen=True, kw_only=True)
class Event:
    """Something that happened."""

    event: ClassVar[str]
    level: ClassVar[Level]

    def fields(self) -> dict[str, Any]:
        """What the log says of it."""
        return dict(flatten(self))
