"""Records from their flat fields: what `event.flatten` made of them, read in another process."""

import dataclasses
import functools
import typing
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

from pydantic import TypeAdapter

from proxy.report.event import KEY

Record = TypeVar("Record")


def restore(kind: type[Record], fields: Mapping[str, Any]) -> Record:
    """The record that these are the fields of; keys that are not known are left out.

    Raises:
        ValueError: these are no fields of such a record.
    """
    adapter: TypeAdapter[Record] = _adapter(kind)  # type: ignore[arg-type]
    return adapter.validate_python(_nested(kind, fields))


@functools.cache
def _adapter(kind: type[Any]) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def _nested(kind: type[Any], fields: Mapping[str, Any]) -> dict[str, Any]:
    """What the record is made of; what is empty was left out of its fields."""
    found: dict[str, Any] = {}
    for field in dataclasses.fields(kind):
        inner, optional = _record_in(field.type)
        name = field.metadata.get(KEY, "")
        if inner is not None:
            if not optional or any(key in fields for key in _keys(inner)):
                found[field.name] = _nested(inner, fields)
        elif name in fields:
            found[field.name] = fields[name]
        elif name and field.default is dataclasses.MISSING:
            found[field.name] = "" if field.type is str else None
    return found


def _record_in(kind: Any) -> tuple[type[Any] | None, bool]:
    """The dataclass that a field is of, if it is one, and whether it may be None."""
    for choice in typing.get_args(kind) or (kind,):
        if dataclasses.is_dataclass(choice) and isinstance(choice, type):
            return choice, choice is not kind
    return None, False


def _keys(kind: type[Any]) -> Iterator[str]:
    for field in dataclasses.fields(kind):
        inner, _ = _record_in(field.type)
        if inner is not None:
            yield from _keys(inner)
        elif KEY in field.metadata:
            yield field.metadata[KEY]
