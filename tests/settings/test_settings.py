"""Options: how they are written, which one wins, and what is said of a wrong one."""

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from proxy.errors import SettingsError
from proxy.settings import (
    NEVER,
    Address,
    LogFormat,
    LogLevel,
    Settings,
    as_yaml,
    duration_text,
    json_schema,
    load,
    options,
)
from proxy.settings.values import parse_address, parse_duration

CONFIG = Path(__file__).parents[2] / "config"
SHIPPED = CONFIG / "pgleash.yaml"
DEVELOPMENT = CONFIG / "pgleash.dev.yaml"
SCHEMA = CONFIG / "schema.json"


def problems(path: Path | None = None, environment: Mapping[str, str] | None = None, **flags: str) -> list[str]:
    """What is said of a configuration that is wrong; flags with `__` for a dot."""
    with pytest.raises(SettingsError) as raised:
        load(
            str(path) if path else None,
            environment or {},
            {key.replace("__", "."): text for key, text in flags.items()},
        )
    assert all(problem.isprintable() for problem in raised.value.problems), "a problem is not one line"
    return raised.value.problems


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "own.yaml"


# Durations.


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        ("250ms", 0.25),
        ("10s", 10.0),
        ("5m", 300.0),
        ("1h", 3600.0),
        ("1.5h", 5400.0),
        ("0.5s", 0.5),
        ("10 s", 10.0),
        (" 10s ", 10.0),
        ("10", 10.0),
        (10, 10.0),
        (0.25, 0.25),
        ("never", NEVER),
        (math.inf, NEVER),
    ],
)
def test_a_duration_can_be_written_in_many_ways(written: object, seconds: float) -> None:
    assert parse_duration(written) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "written",
    [
        *("0", 0, "0s", "0ms", 0.0, "-1s", -1, -0.5, "-1", -math.inf, math.nan),
        *("", "soon", "s", "10 seconds", "1d", "1h30m", "10s10s", "1e3", "0x10", ".5s", "5.s", "1,5s", "Never"),
        *("8785h", "1" + "0" * 400, 1e300),
        *(True, False, None),
    ],
    ids=lambda written: repr(written)[:12],
)
def test_a_duration_that_is_none_is_refused_with_what_would_be_right(written: object) -> None:
    with pytest.raises(ValueError, match="write 250ms, 10s, 5m, 1h or never") as raised:
        parse_duration(written)
    assert repr(written) in str(raised.value)


@pytest.mark.parametrize("written", ["flag_after: [10s]", "flag_after: {seconds: 10}", "flag_after: 2026-11-20"])
def test_a_duration_of_another_kind_is_one_line_too(file: Path, written: str) -> None:
    file.write_text(written)
    (problem,) = problems(file)
    assert problem.startswith("flag_after: ")
    assert "write 250ms, 10s, 5m, 1h or never" in problem


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.25, "250ms"),
        (0.001, "1ms"),
        (1.5, "1500ms"),
        (10.0, "10s"),
        (60.0, "60s"),
        (90.0, "90s"),
        (300.0, "5m"),
        (3600.0, "1h"),
        (5400.0, "90m"),
        (NEVER, "never"),
    ],
)
def test_a_duration_is_told_as_people_write_it(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text


# Addresses.


@pytest.mark.parametrize(
    ("written", "address", "told"),
    [
        ("127.0.0.1:5432", Address("127.0.0.1", 5432), "127.0.0.1:5432"),
        ("db.example.org:1", Address("db.example.org", 1), "db.example.org:1"),
        ("db_1:65535", Address("db_1", 65535), "db_1:65535"),
        ("localhost:0", Address("localhost", 0), "localhost:0"),
        (" localhost:5432 ", Address("localhost", 5432), "localhost:5432"),
        ("[::1]:5432", Address("::1", 5432), "[::1]:5432"),
        ("[fe80::1%eth0]:5432", Address("fe80::1%eth0", 5432), "[fe80::1%eth0]:5432"),
        ("[::ffff:10.0.0.1]:5432", Address("::ffff:10.0.0.1", 5432), "[::ffff:10.0.0.1]:5432"),
        ("/run/postgresql", Address("/run/postgresql", 6432), "/run/postgresql:6432"),
        ("/run/postgresql:5433", Address("/run/postgresql", 5433), "/run/postgresql:5433"),
        ("/run/post gresql/", Address("/run/post gresql/", 6432), "/run/post gresql/:6432"),
    ],
)
def test_an_address_is_a_host_and_port_or_a_directory(written: str, address: Address, told: str) -> None:
    assert parse_address(written, 6432) == address
    assert str(address) == told
    assert parse_address(told, 1) == address


@pytest.mark.parametrize("directory", ["/run/postgresql", "/run/postgresql/"])
def test_a_unix_socket_is_named_as_libpq_expects(directory: str) -> None:
    address = parse_address(f"{directory}:5433", 6432)
    assert address.is_unix
    assert address.path == "/run/postgresql/.s.PGSQL.5433"


@pytest.mark.parametrize(
    "written",
    [
        *("localhost", "127.0.0.1", 5432, "", ":5432", "localhost:", "localhost:port", "localhost:-1", "localhost:5 4"),
        *("::1", "::1:5432", "[::1]", "[::1]:", "[::1:5432", "[]:5432", "[not six]:5432"),
        *("run/postgresql", "./run", "/run:x", "postgres://localhost:5432", "local host:5432", "a:1,b:2"),
        *(None, True, ["localhost:5432"], {"host": "localhost"}),
    ],
    ids=repr,
)
def test_what_is_no_address_is_refused_with_what_would_be_right(written: object) -> None:
    with pytest.raises(ValueError, match=re.escape("write host:port, [IPv6 address]:port, or an absolute directory")):
        parse_address(written, 6432)


@pytest.mark.parametrize("written", ["localhost:70000", "[::1]:65536", "/run/postgresql:99999"])
def test_a_port_that_does_not_exist_is_refused(written: str) -> None:
    with pytest.raises(ValueError, match="ports go up to 65535"):
        parse_address(written, 6432)


def test_one_can_listen_on_several_addresses(file: Path) -> None:
    both = (Address("::1", 6432), Address("/run/pgleash", 6432))
    file.write_text('listen: ["[::1]:6432", /run/pgleash]')
    assert load(str(file), {}, {}).settings.listen == both
    assert load(None, {"PGLEASH_LISTEN": '["[::1]:6432", "/run/pgleash"]'}, {}).settings.listen == both
    assert load(None, {}, {"listen": '["[::1]:6432", "/run/pgleash"]'}).settings.listen == both


def test_one_address_needs_no_list() -> None:
    assert load(None, {"PGLEASH_LISTEN": "[::1]:6432"}, {}).settings.listen == (Address("::1", 6432),)


def test_there_has_to_be_an_address() -> None:
    (problem,) = problems(listen="[]")
    assert problem == ("listen: there has to be an address to listen on; the default is 127.0.0.1:6432 (--listen)")


# Which one wins.


def test_a_flag_wins_over_the_environment_over_the_file_over_the_default(file: Path) -> None:
    def flag_after(*, written: bool, variable: bool, flag: bool) -> float:
        return load(
            str(file) if written else None,
            {"PGLEASH_FLAG_AFTER": "3s"} if variable else {},
            {"flag_after": "4s"} if flag else {},
        ).settings.flag_after

    file.write_text("flag_after: 2s")
    assert flag_after(written=False, variable=False, flag=False) == 10
    assert flag_after(written=True, variable=False, flag=False) == 2
    assert flag_after(written=True, variable=True, flag=False) == 3
    assert flag_after(written=True, variable=True, flag=True) == 4


def test_a_nested_option_leaves_its_neighbours_alone(file: Path) -> None:
    file.write_text("log: {format: json, level: error}")
    log = load(str(file), {"PGLEASH_LOG__LEVEL": "warning"}, {"log.statements": "off"}).settings.log
    assert (log.format, log.level, log.statements.value) == (LogFormat.JSON, LogLevel.WARNING, "off")


def test_the_environment_names_the_file_and_the_command_line_another_one(file: Path, tmp_path: Path) -> None:
    file.write_text("max_sessions: 1")
    other = tmp_path / "other.yaml"
    other.write_text("max_sessions: 2")
    environment = {"PGLEASH_CONFIG": str(file)}
    assert load(None, environment, {}).settings.max_sessions == 1
    assert load(str(other), environment, {}).settings.max_sessions == 2


def test_no_file_and_an_empty_one_mean_the_defaults(file: Path) -> None:
    file.write_text("# nothing\n")
    assert load(None, {}, {}).settings == load(str(file), {"PGLEASH_CONFIG": ""}, {}).settings == Settings()


def test_every_option_can_be_set_by_flag_and_by_variable() -> None:
    defaults = {option.key: option.default for option in options()}
    assert load(None, {}, defaults).settings == Settings()
    assert load(None, {option.variable: option.default for option in options()}, {}).settings == Settings()


def test_what_yaml_takes_for_a_boolean_means_what_was_written(file: Path) -> None:
    file.write_text("cancel_abandoned: off\nlog: {statements: off}")
    settings = load(str(file), {}, {}).settings
    assert (settings.cancel_abandoned, settings.log.statements.value) == (False, "off")


# What is wrong is told with its key, where it was written, and what would be right.


def test_an_unknown_key_is_told_with_the_nearest_one(file: Path) -> None:
    file.write_text("flag_aftr: 5s\nlog: {formt: json}\nqwxyz: 1\n")
    assert sorted(problems(file)) == [
        f"flag_aftr: unknown option ({file}); did you mean flag_after?",
        f"log.formt: unknown option ({file}); did you mean log.format?",
        f"qwxyz: unknown option ({file})",
    ]


def test_each_problem_is_told_with_its_source(file: Path) -> None:
    file.write_text("flag_after: soon\nterminate_after: 0\nlog: {level: loud}")
    told = problems(file, {"PGLEASH_MAX_SESSIONS": "many"}, upstream="db", flag_after="later")
    by_key = {problem.partition(":")[0]: problem for problem in told}
    assert by_key.keys() == {"flag_after", "terminate_after", "log.level", "max_sessions", "upstream"}
    assert by_key["flag_after"] == (
        "flag_after: 'later' is not a duration; write 250ms, 10s, 5m, 1h or never (--flag-after)"
    )
    assert by_key["terminate_after"].endswith(f"write 250ms, 10s, 5m, 1h or never ({file})")
    assert by_key["upstream"].endswith("or an absolute directory for a Unix socket (--upstream)")
    assert "'debug', 'info', 'warning' or 'error'" in by_key["log.level"]
    assert by_key["log.level"].endswith(f"({file})")
    assert "'many'" in by_key["max_sessions"]
    assert by_key["max_sessions"].endswith("(PGLEASH_MAX_SESSIONS)")


@pytest.mark.parametrize(
    ("written", "key"),
    [
        ("log: 5", "log"),
        ("log: [json]", "log"),
        ("log:", "log"),
        ("log: {level: {a: b}}", "log.level"),
        ("max_sessions: 0", "max_sessions"),
        ("max_sessions: 1.5", "max_sessions"),
        ("max_sessions: [1]", "max_sessions"),
        ("cancel_abandoned: perhaps", "cancel_abandoned"),
        ("upstream: [a:1, b:2]", "upstream"),
        ("listen: {host: a}", "listen"),
        ("listen:", "listen"),
        ("1: 2", "1"),
    ],
)
def test_a_value_of_another_kind_is_one_line(file: Path, written: str, key: str) -> None:
    file.write_text(written)
    (problem,) = problems(file)
    assert problem.startswith(f"{key}: ")


def test_a_section_that_is_none_is_told_even_if_a_flag_sets_an_option_of_it(file: Path) -> None:
    file.write_text("log: 5")
    (problem,) = problems(file, log__level="debug")
    assert problem.startswith("log: 5 is wrong")


def test_an_unknown_variable_is_only_warned_about() -> None:
    loaded = load(None, {"PGLEASH_SERVICE_HOST": "10.0.0.1", "PGLEASH_FLAG_AFTR": "5s", "PATH": "/bin"}, {})
    assert loaded.settings == Settings()
    assert loaded.warnings == [
        "PGLEASH_FLAG_AFTR: no option has this variable; did you mean PGLEASH_FLAG_AFTER?",
        "PGLEASH_SERVICE_HOST: no option has this variable",
    ]


def test_the_variable_that_is_no_option_is_not_warned_about() -> None:
    assert load(None, {"PGLEASH_CONFIG": ""}, {}).warnings == []


# What is wrong with a file.


@pytest.mark.parametrize(
    ("written", "key", "line"),
    [("flag_after: 1s\nflag_after: 2s", "flag_after", 2), ("log:\n  level: info\n  level: debug", "level", 3)],
)
def test_a_key_that_is_written_twice_is_refused(file: Path, written: str, key: str, line: int) -> None:
    file.write_text(written)
    assert problems(file) == [f"{key}: written twice, again in line {line}"]


@pytest.mark.parametrize(
    "content",
    [
        b"flag_after: {",
        b"flag_after: 1s\n\tlog: 2",
        b"a: b: c",
        b"\xff\xfe\x00",
        b"\x00",
        b"--- 1\n--- 2",
        b"!!python/x y",
    ],
    ids=repr,
)
def test_a_file_that_is_not_yaml_is_one_line(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    (problem,) = problems(file)
    assert problem.startswith(f"{file}: is not YAML: ")


@pytest.mark.parametrize("content", ["- flag_after: 1s", "just words", "5"])
def test_a_file_that_holds_something_else_is_one_line(file: Path, content: str) -> None:
    file.write_text(content)
    (problem,) = problems(file)
    assert problem.startswith(f"{file}: ")
    assert "flag_after: 10s" in problem


@pytest.mark.parametrize("content", ["flag_after: {{ limit }}", "{{ limit }}", "? [a, b]\n: c"])
def test_a_template_that_nobody_filled_in_is_one_line(file: Path, content: str) -> None:
    file.write_text(content)
    assert len(problems(file)) == 1


def test_a_file_that_is_missing_or_a_directory_is_one_line(file: Path, tmp_path: Path) -> None:
    assert problems(file) == [f"{file}: cannot be read: No such file or directory"]
    assert problems(environment={"PGLEASH_CONFIG": str(tmp_path)}) == [f"{tmp_path}: cannot be read: Is a directory"]


# What is printed reads back.

YEAR = {"ms": 366 * 24 * 3_600_000, "": 366 * 24 * 3600, "s": 366 * 24 * 3600, "m": 366 * 24 * 60, "h": 366 * 24}


def up_to_a_year(unit: str) -> st.SearchStrategy[str]:
    fine = st.decimals(min_value="0.0001", max_value=1000, places=4)
    return (fine | st.integers(1, YEAR[unit])).map(lambda number: f"{number}{unit}")


durations = st.just("never") | st.sampled_from(list(YEAR)).flatmap(up_to_a_year)
ports = st.integers(0, 65_535)
hosts = st.from_regex(r"[a-zA-Z0-9]([a-zA-Z0-9._-]{0,20}[a-zA-Z0-9])?", fullmatch=True)
directories = st.text(st.characters(exclude_categories=["C", "Z"], exclude_characters=":"), max_size=20).map(
    "/{}".format
)
six = st.ip_addresses(v=6).map("[{}]".format)
addresses = st.tuples(hosts | directories | six, ports).map(lambda pair: f"{pair[0]}:{pair[1]}") | directories
configurations = st.fixed_dictionaries(
    {},
    optional={
        "listen": addresses | st.lists(addresses, min_size=1, max_size=3).map(json.dumps),
        "upstream": addresses,
        **{option.key: durations for option in options() if option.key.endswith(("_after", "_timeout", "_every"))},
        "tcp_keepalive": durations,
        "cancel_abandoned": st.sampled_from(["true", "false"]),
        "max_sessions": st.integers(1, 10**9).map(str),
        "log.format": st.sampled_from(["auto", "json", "console"]),
        "log.level": st.sampled_from(["debug", "info", "warning", "error"]),
        "log.statements": st.sampled_from(["sanitized", "off"]),
    },
)


@pytest.fixture(scope="module")
def printed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("printed") / "printed.yaml"


@examples(deadline=None)
@given(flags=configurations)
def test_settings_that_are_printed_read_back_as_they_were(printed: Path, flags: dict[str, str]) -> None:
    settings = load(None, {}, flags).settings
    printed.write_text(as_yaml(settings), encoding="utf-8")
    assert load(str(printed), {}, {}).settings == settings


@examples(deadline=None)
@given(text=durations)
def test_a_duration_that_is_told_reads_back_as_it_was(text: str) -> None:
    seconds = parse_duration(text)
    assert parse_duration(duration_text(seconds)) == seconds


# The files that are shipped, and their schema.


def written_in(tree: Mapping[str, Any], prefix: str = "") -> set[str]:
    below = [written_in(value, f"{prefix}{key}.") for key, value in tree.items() if isinstance(value, dict)]
    return set().union({f"{prefix}{key}" for key, value in tree.items() if not isinstance(value, dict)}, *below)


def test_the_shipped_file_has_every_option_at_its_default_and_a_rule() -> None:
    loaded = load(str(SHIPPED), {}, {})
    assert loaded.settings.model_copy(update={"rules": ()}) == Settings()
    assert [rule.name for rule in loaded.settings.rules] == ["pg_dump"]
    assert written_in(yaml.safe_load(SHIPPED.read_text())) == {option.key for option in options()}


def test_the_file_for_developers_loads() -> None:
    loaded = load(str(DEVELOPMENT), {}, {})
    assert loaded.warnings == []
    assert loaded.settings.log.format is LogFormat.CONSOLE


def test_the_schema_is_current() -> None:
    assert SCHEMA.read_text() == json_schema(), "run: make schema"


def test_the_schema_is_json() -> None:
    """Infinity, which Python writes without being asked, is not JSON: no editor could read the file (RFC 8259, 6)."""

    def refuse(constant: str) -> None:
        pytest.fail(f"{constant} is not JSON")

    json.loads(SCHEMA.read_text(), parse_constant=refuse)


KINDS: Mapping[str, type | tuple[type, ...]] = {
    "string": str,
    "number": (int, float),
    "integer": int,
    "boolean": bool,
    "array": list,
    "object": dict,
}


def is_a(kinds: str | list[str], value: object) -> bool:
    each = [kinds] if isinstance(kinds, str) else kinds
    return any(isinstance(value, KINDS[kind]) and isinstance(value, bool) == (kind == "boolean") for kind in each)


def complaints(value: Any, schema: Mapping[str, Any], whole: Mapping[str, Any]) -> list[str]:
    """What this part of a schema says against a value: as much of JSON Schema as ours needs."""
    if "$ref" in schema:
        return complaints(value, whole["$defs"][schema["$ref"].rpartition("/")[2]], whole)
    if "anyOf" in schema:
        return min((complaints(value, one, whole) for one in schema["anyOf"]), key=len)
    if not is_a(schema["type"], value):
        return [f"{value!r} is no {schema['type']}"]
    if isinstance(value, list):
        return [told for item in value for told in complaints(item, schema["items"], whole)]
    if isinstance(value, dict):
        known = dict.fromkeys(value, schema["additionalProperties"]) | schema.get("properties", {})
        below = (complaints(value[key], known[key], whole) for key in value if known[key])
        missing = [f"{key} is missing" for key in schema.get("required", []) if key not in value]
        few = ["too few keys"] if len(value) < schema.get("minProperties", 0) and not missing else []
        unknown = [f"{key} is unknown" for key in value if known[key] is False]
        return [*missing, *few, *unknown, *(told for one in below for told in one)]
    right = (
        value in schema.get("enum", [value])
        and ("pattern" not in schema or re.search(schema["pattern"], value))
        and ("minimum" not in schema or value >= schema["minimum"])
        and ("exclusiveMinimum" not in schema or value > schema["exclusiveMinimum"])
    )
    return [] if right else [f"{value!r} is wrong"]


def against_the_schema(text: str) -> list[str]:
    schema = json.loads(SCHEMA.read_text())
    return complaints(yaml.safe_load(text), schema, schema)


@pytest.mark.parametrize("path", [SHIPPED, DEVELOPMENT], ids=lambda path: path.name)
def test_the_schema_accepts_what_is_shipped(path: Path) -> None:
    assert against_the_schema(path.read_text()) == []


@pytest.mark.parametrize("path", [SHIPPED, DEVELOPMENT], ids=lambda path: path.name)
def test_a_real_validator_says_so_too(path: Path) -> None:
    jsonschema = pytest.importorskip("jsonschema", reason="jsonschema is not installed")
    jsonschema.validate(yaml.safe_load(path.read_text()), json.loads(SCHEMA.read_text()))


def test_the_schema_knows_every_option() -> None:
    schema = json.loads(SCHEMA.read_text())
    named = {
        key: schema["$defs"][part["$ref"].rpartition("/")[2]]
        for key, part in schema["properties"].items()
        if "$ref" in part
    }
    nested = {key: part for key, part in named.items() if "properties" in part}
    keys = {key for key in schema["properties"] if key not in nested}
    keys |= {f"{key}.{name}" for key, part in nested.items() for name in part["properties"]}
    assert keys == {option.key for option in options()}


@pytest.mark.parametrize(
    "written",
    [
        *("flag_after: soon", "flag_after: 0", "flag_aftr: 1s", "log: 5", "log: {level: loud}", "max_sessions: 0"),
        "rules: [{name: a, flag_after: 5s, terminate_after: 5s}]",
        "rules: [{name: a, match: {user: a}}]",
        "rules: [{name: a, match: {}, flag_after: 5s}]",
        "rules: [{name: a, match: {usr: a}, flag_after: 5s}]",
        "rules: [{name: a, match: {user: [a, true]}, flag_after: 5s}]",
        "rules: [{name: a, match: {tags: {job: 1.5}}, flag_after: 5s}]",
    ],
)
def test_the_schema_refuses_what_is_wrong(file: Path, written: str) -> None:
    assert len(against_the_schema(written)) == 1
    file.write_text(written)
    assert len(problems(file)) == 1


@examples(deadline=None)
@given(flags=configurations)
def test_the_schema_accepts_what_is_printed(flags: dict[str, str]) -> None:
    assert against_the_schema(as_yaml(load(None, {}, flags).settings)) == []
