"""File, environment and flags, overlaid in this order and validated once.

Whatever is wrong is told with its key, where it was written, and what would be right.
"""

import difflib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

import yaml
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from proxy.errors import SettingsError
from proxy.settings.clear import in_the_clear
from proxy.settings.model import Settings
from proxy.settings.order import out_of_order
from proxy.settings.rules import EXAMPLE, Match, Rule
from proxy.settings.stamp import Stamp, stamp
from proxy.settings.values import Model

PREFIX: Final = "PGLEASH_"
# What PyYAML raises for texts that are none, and for values that it takes for a date or a number and that are none.
NOT_YAML: Final = (yaml.YAMLError, ValueError, TypeError, AttributeError, ArithmeticError, RecursionError)
NOT_OPTIONS: Final = frozenset({"PGLEASH_CONFIG"})


class Option(NamedTuple):
    """One option, whichever way it is set.

    Attributes:
        key: its key in a file, nested ones with a dot.
        description: its meaning, one line.
        default: its default as it would be written.
    """

    key: str
    description: str
    default: str

    @property
    def flag(self) -> str:
        """Its flag."""
        return "--" + self.key.replace("_", "-")

    @property
    def variable(self) -> str:
        """Its environment variable."""
        return PREFIX + self.key.replace(".", "__").upper()


class Loaded(NamedTuple):
    """The settings, and what to warn about.

    Attributes:
        settings: the settings.
        warnings: one line each.
        file: the file that they come from, if they do.
        stamp: the state in which it was read.
    """

    settings: Settings
    warnings: list[str]
    file: str | None = None
    stamp: Stamp = None


def options() -> list[Option]:
    """Every option, in the order of the model."""
    return list(_options(Settings, Settings().model_dump(mode="json"), ""))


def _options(model: type[Model], defaults: Mapping[str, Any], prefix: str) -> Iterator[Option]:
    for name, field in model.model_fields.items():
        nested = field.annotation
        if isinstance(nested, type) and issubclass(nested, Model):
            yield from _options(nested, defaults[name], f"{prefix}{name}.")
        else:
            default = defaults[name]
            text = (", ".join(default) or "[]") if isinstance(default, list) else _scalar(default)
            yield Option(prefix + name, field.description or "", text)


def _scalar(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def load(path: str | None, environment: Mapping[str, str], flags: Mapping[str, str]) -> Loaded:
    """Read the settings.

    Args:
        path: the configuration file; PGLEASH_CONFIG names it if this is None, else there is none.
        environment: the process's environment.
        flags: values from the command line, by key.

    Raises:
        SettingsError: with one line for each problem.
    """
    path = path or environment.get("PGLEASH_CONFIG")
    state = stamp(path) if path else None  # before it is read: what changes in between is read again
    tree = _read_file(Path(path)) if path else {}
    origin = _written_in(tree, str(path))
    known = {option.variable: option for option in options()}
    for variable, option in known.items():
        if variable in environment:
            _put(tree, option.key, _from_text(environment[variable]))
            origin[option.key] = variable
    for key, text in flags.items():
        _put(tree, key, _from_text(text))
        origin[key] = "--" + key.replace("_", "-")
    unknown = [name for name in environment if name.startswith(PREFIX) and name not in known.keys() | NOT_OPTIONS]
    settings = _validate(tree, origin)
    warnings = [_unknown_variable(name, list(known)) for name in sorted(unknown)] + in_the_clear(settings)
    warnings += out_of_order(settings)
    return Loaded(settings, warnings, path or None, state)


def keeping(settings: Settings, running: Settings) -> Settings:
    """New settings, with those of the running ones that can only be set at the start.

    Raises:
        SettingsError: they do not go together.
    """
    log = settings.log.model_copy(update={"format": running.log.format})
    kept = {"listen": running.listen, "upstream": running.upstream, "admin": running.admin, "log": log}
    return _validate({**dict(settings), **kept}, {})


class _UniqueKeys(yaml.SafeLoader):
    """Refuses a key that is written twice: YAML lets the last one win in silence."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:  # noqa: FBT002 - yaml's
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = str(self.construct_object(key_node, deep=True))
            if key in seen:
                raise SettingsError([f"{key}: written twice, again in line {key_node.start_mark.line + 1}"])
            seen.add(key)
        return super().construct_mapping(node, deep)


def _read_file(path: Path) -> dict[str, Any]:
    try:
        with path.open(encoding="utf-8") as file:
            tree = yaml.load(file, Loader=_UniqueKeys)  # noqa: S506 - it is a SafeLoader
    except OSError as error:
        raise SettingsError([f"{path}: cannot be read: {error.strerror}"]) from error
    except SettingsError:
        raise
    except NOT_YAML as error:
        told = " ".join(str(error).split())
        hint = "; a value that begins with * needs quotes" if "alias" in told else ""
        raise SettingsError([f"{path}: is not YAML: {told}{hint}"]) from error
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise SettingsError([f"{path}: has to be options and their values, like `flag_after: 10s`"])
    return tree


def _from_text(text: str) -> Any:
    """Lists come as JSON; everything else is left to the option's own type."""
    try:
        value = json.loads(text)
    except ValueError:
        return text
    return value if isinstance(value, list) else text


def _written_in(tree: Mapping[Any, Any], path: str) -> dict[str, str]:
    """For each key of a file, the file: where a problem with it was written."""
    try:
        return dict.fromkeys(_keys(tree), path)
    except RecursionError as error:
        raise SettingsError([f"{path}: an alias (&, *) contains itself"]) from error


def _keys(tree: Mapping[Any, Any], prefix: str = "") -> Iterator[str]:
    for key, value in tree.items():
        yield f"{prefix}{key}"
        if isinstance(value, dict):
            yield from _keys(value, f"{prefix}{key}.")


def _put(tree: dict[str, Any], key: str, value: Any) -> None:
    *parents, name = key.split(".")
    for parent in parents:
        below = tree.setdefault(parent, {})
        tree = below if isinstance(below, dict) else {}  # a section that is no section is told by the validation
    tree[name] = value


def _validate(tree: dict[str, Any], origin: Mapping[str, str]) -> Settings:
    try:
        return Settings.model_validate(tree)
    except ValidationError as error:
        raise SettingsError([_problem(detail, origin) for detail in error.errors()]) from error


def _problem(detail: ErrorDetails, origin: Mapping[str, str]) -> str:
    parts = [str(part) for part in detail["loc"]]
    if not parts:  # about several options: its text names them
        return detail["msg"].removeprefix("Value error, ")
    key = ".".join(parts)
    source = origin.get(key) or origin.get(parts[0], "")
    where = f" ({source})" if source else ""
    if detail["type"] == "extra_forbidden":
        return f"{key}: unknown option{where}{_key_meant(parts)}"
    if detail["type"] == "missing":
        return f"{key}: is missing; write rules like {EXAMPLE}{where}"
    if detail["type"] == "model_type":
        nested = ", ".join(_keys_below(parts))
        return f"{key}: {detail['input']!r} is wrong: it has options of its own, {nested}{where}"
    if detail["type"] == "value_error":
        return f"{key}: {detail['msg'].removeprefix('Value error, ')}{where}"
    return f"{key}: {detail['input']!r} is wrong: {detail['msg'][:1].lower()}{detail['msg'][1:]}{where}"


def _key_meant(parts: list[str]) -> str:
    *above, name = parts
    if parts[0] != "rules":
        return did_you_mean(".".join(parts), [option.key for option in options()])
    if "match" not in above and name in Match.model_fields:
        return f"; did you mean match.{name}?"
    return did_you_mean(name, _keys_below(above))


def _keys_below(parts: list[str]) -> list[str]:
    if parts[0] == "rules":
        return list((Match if parts[-1] == "match" else Rule).model_fields)
    section = ".".join(parts)
    return [option.key for option in options() if option.key.startswith(f"{section}.")]


def _unknown_variable(name: str, known: list[str]) -> str:
    bare = did_you_mean(name.removeprefix(PREFIX), [variable.removeprefix(PREFIX) for variable in known])
    return f"{name}: no option has this variable{bare.replace('mean ', 'mean ' + PREFIX)}"


def did_you_mean(name: str, known: list[str]) -> str:
    """What somebody who wrote `name` probably meant, to be put behind an error's text."""
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    return f"; did you mean {close[0]}?" if close else ""
