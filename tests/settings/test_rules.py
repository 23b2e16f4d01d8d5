"""Rules: how they are written, what is said of a wrong one, and that they read back as they were printed."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from proxy.errors import SettingsError
from proxy.settings import NEVER, Match, Rule, Settings, as_yaml, load
from tests.settings.test_settings import against_the_schema

ANY = {"name": "a", "match": {"user": "a"}, "flag_after": "5s"}

WRITTEN = """
flag_after: 2s
rules:
  - name: nightly etl
    match: {user: etl, database: "*", application_name: "etl-*", address: 10.1.0.0/16, tags: {job: "nightly-*"}}
    flag_after: 30m
    terminate_after: never
  - name: 7
    match: {user: [a, 7], address: [10.1.2.3, "::1", local], tags: {job: 1, 2: [b, c]}}
    rollback_after: 1.5
    flag_transaction_after: 1h
    terminate_transaction_after: 2h
"""
JSON = json.dumps([ANY])


def rules(file: Path) -> tuple[Rule, ...]:
    return load(str(file), {}, {}).settings.rules


def problems(*written: Any) -> list[str]:
    """What is said of rules, without where they stand: the flag."""
    with pytest.raises(SettingsError) as raised:
        load(None, {}, {"rules": json.dumps(written)})
    assert all(problem.isprintable() for problem in raised.value.problems), "a problem is not one line"
    return [problem.replace(" (--rules)", "") for problem in raised.value.problems]


def problem(**changed: Any) -> str:
    """What is said of a rule that is right but for this."""
    (told,) = problems(ANY | changed)
    return told


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "own.yaml"


def test_rules_in_a_file(file: Path) -> None:
    file.write_text(WRITTEN)
    etl, seven = rules(file)
    assert (etl.name, etl.flag_after, etl.terminate_after, etl.rollback_after) == ("nightly etl", 1800, NEVER, None)
    assert etl.match == Match.model_validate(
        {
            "user": ("etl",),
            "database": ("*",),
            "application_name": ("etl-*",),
            "address": ("10.1.0.0/16",),
            "tags": {"job": ("nightly-*",)},
        }
    )
    assert (seven.name, seven.match.user, seven.match.database) == ("7", ("a", "7"), None)
    assert seven.match.address == ("10.1.2.3", "::1", "local")
    assert seven.match.tags == {"job": ("1",), "2": ("b", "c")}
    assert (seven.rollback_after, seven.flag_transaction_after) == (1.5, 3600)
    assert (seven.terminate_transaction_after, seven.flag_after) == (7200, None)


def test_rules_are_json_in_a_flag_or_a_variable_and_one_list_takes_the_place_of_another(file: Path) -> None:
    file.write_text(WRITTEN)
    assert [rule.name for rule in load(str(file), {"PGLEASH_RULES": JSON}, {}).settings.rules] == ["a"]
    assert [rule.name for rule in load(str(file), {}, {"rules": JSON}).settings.rules] == ["a"]
    assert load(str(file), {"PGLEASH_RULES": JSON}, {"rules": "[]"}).settings.rules == ()
    assert load(None, {"PGLEASH_RULES": ""}, {}).settings.rules == ()


@pytest.mark.parametrize(
    ("written", "kept"),
    [
        ("10.1.2.3", "10.1.2.3"),
        ("10.1.2.3/32", "10.1.2.3"),
        (" 10.1.0.0/255.255.0.0 ", "10.1.0.0/16"),
        ("0.0.0.0/0", "0.0.0.0/0"),
        ("2001:DB8::/32", "2001:db8::/32"),
        ("0:0::1", "::1"),
        ("::ffff:10.1.2.3", "10.1.2.3"),
        ("::ffff:10.1.0.0/112", "10.1.0.0/16"),
        ("::/0", "::/0"),
        ("fe80::1%eth0", "fe80::1%eth0"),
        ("local", "local"),
    ],
)
def test_an_address_is_kept_in_its_shortest_form(written: str, kept: str) -> None:
    assert Match.model_validate({"address": written}).address == (kept,)


# What is wrong.


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"flag_aftr": "5s"}, "rules.0.flag_aftr: unknown option; did you mean flag_after?"),
        ({"user": "etl"}, "rules.0.user: unknown option; did you mean match.user?"),
        ({"qwxyz": 1}, "rules.0.qwxyz: unknown option"),
        ({"match": {"adress": "::1"}}, "rules.0.match.adress: unknown option; did you mean address?"),
        ({"match": {"flag_after": "1s"}}, "rules.0.match.flag_after: unknown option"),
        ({"match": {}}, 'rules.0.match: is empty; say whom the rule is for, or {user: "*"} for everybody'),
        (
            {"match": "etl"},
            "rules.0.match: 'etl' is wrong: it has options of its own, user, database, application_name, address, tags",
        ),
        (
            {"match": {"address": "10.1.0.5/16"}},
            (
                "rules.0.match.address: '10.1.0.5/16' is an address inside of a network; "
                "write 10.1.0.0/16, or the address alone"
            ),
        ),
        (
            {"match": {"tags": {"job": True}}},
            "rules.0.match.tags.job: True is not a text; write one, in quotes where YAML takes it for something else",
        ),
        (
            {"match": {"tags": {}}},
            'rules.0.match.tags: {} names no tag; write tags and their globs, like {job: "nightly-*"}',
        ),
        (
            {"name": "default"},
            "rules.0.name: 'default' is how the log calls it when no rule matches; choose another name",
        ),
        ({"flag_after": "soon"}, "rules.0.flag_after: 'soon' is not a duration; write 250ms, 10s, 5m, 1h or never"),
        ({"flag_after": None}, "rules.0.flag_after: None is not a duration; write 250ms, 10s, 5m, 1h or never"),
    ],
)
def test_what_is_wrong_is_told_with_its_key_and_what_would_be_right(changed: dict[str, Any], told: str) -> None:
    assert problem(**changed) == told


@pytest.mark.parametrize("address", ["10.1", "db.example.org", "10.1.2.3:5432", "", "10.0.0.0/33", 5])
def test_what_is_no_address_is_told_what_would_be_one(address: object) -> None:
    told = problem(match={"address": address})
    assert told.startswith(f"rules.0.match.address: {address!r} is not an address; write 10.1.2.3, 10.1.0.0/16, ")


@pytest.mark.parametrize("glob", [1.5, True, None, {"a": "b"}, ["1.1.1.1", None], [["a"]]], ids=repr)
@pytest.mark.parametrize("key", ["user", "database", "application_name", "address"])
def test_what_is_no_text_is_one_line(key: str, glob: object) -> None:
    told = problem(match={key: glob})
    assert told.startswith(f"rules.0.match.{key}: ")
    assert "is not a text; write one, in quotes" in told


@pytest.mark.parametrize("key", ["user", "database", "application_name", "address"])
def test_an_empty_list_would_match_nobody(key: str) -> None:
    assert "nobody can match; leave the key out" in problem(match={key: []})


@pytest.mark.parametrize("tags", ["job", ["job"], 5, None], ids=repr)
def test_tags_need_names(tags: object) -> None:
    assert problem(match={"tags": tags}).startswith(f"rules.0.match.tags: {tags!r} names no tag; ")


@pytest.mark.parametrize("name", ["", " ", "a\nb", "x" * 65], ids=repr)
def test_a_name_has_to_fit_into_the_log(name: str) -> None:
    assert problem(name=name).startswith(f"rules.0.name: {name!r} is no name for the log; ")


def test_what_is_missing_is_told_with_an_example() -> None:
    example = "is missing; write rules like [{name: etl, match: {user: etl}, flag_after: 30m}]"
    assert problems({"flag_after": "5s"}) == [f"rules.0.name: {example}", f"rules.0.match: {example}"]


def test_a_rule_without_a_limit_is_of_no_use() -> None:
    (told,) = problems(ANY, {"name": "b", "match": {"user": "b"}})
    assert told.startswith("rules.1: sets no limit; write one of flag_after, rollback_after, terminate_after, ")


def test_names_tell_rules_apart() -> None:
    assert problems(ANY, ANY | {"name": "b"}, ANY) == [
        "rules: 2 rules are called 'a'; the log could not tell them apart"
    ]


def test_each_problem_is_told_with_its_file(file: Path) -> None:
    file.write_text("rules: [{name: a, match: {user: 1.10}, flag_after: 0}, 5]")
    with pytest.raises(SettingsError) as raised:
        load(str(file), {}, {})
    told = raised.value.problems
    assert [line.partition(": ")[0] for line in told] == ["rules.0.match.user", "rules.0.flag_after", "rules.1"]
    assert all(line.endswith(f"({file})") for line in told)


@pytest.mark.parametrize("written", ["rules:", "rules: etl", "rules: 5", "rules: {name: a}", "rules: &a [*a]"])
def test_what_is_no_list_of_rules_is_one_line(file: Path, written: str) -> None:
    file.write_text(written)
    with pytest.raises(SettingsError) as raised:
        load(str(file), {}, {})
    (told,) = raised.value.problems
    assert told.startswith("rules")


@pytest.mark.parametrize("glob", ["*", "*-etl"])
def test_a_star_that_yaml_takes_for_an_alias_needs_quotes(file: Path, glob: str) -> None:
    file.write_text(f"rules: [{{name: a, match: {{user: {glob}}}, flag_after: 1s}}]")
    with pytest.raises(SettingsError) as raised:
        load(str(file), {}, {})
    (told,) = raised.value.problems
    assert told.startswith(f"{file}: is not YAML: ")
    assert told.endswith("; a value that begins with * needs quotes")


def test_json_that_is_none_is_told_where() -> None:
    with pytest.raises(SettingsError) as raised:
        load(None, {"PGLEASH_RULES": '[{"name": "a", }]'}, {})
    (told,) = raised.value.problems
    assert told.startswith("rules: is not JSON: ")
    assert "char 15" in told
    assert told.endswith("(PGLEASH_RULES)")


# What is printed reads back.

texts = st.text(st.characters(exclude_categories=["C"]), max_size=8)
globs = texts | st.integers(0, 99) | st.lists(texts, min_size=1, max_size=3)
networks = st.ip_addresses().map(str) | st.sampled_from(["local", "10.0.0.0/8", "2001:db8::/32", "::ffff:10.0.0.0/104"])
matches = st.fixed_dictionaries(
    {},
    optional={
        "user": globs,
        "database": globs,
        "application_name": globs,
        "address": networks | st.lists(networks, min_size=1, max_size=3),
        "tags": st.dictionaries(texts, globs, min_size=1, max_size=3),
    },
).filter(bool)
limits = st.dictionaries(
    st.sampled_from([name for name in Rule.model_fields if name.endswith("_after")]),
    st.sampled_from(["never", "250ms", "10s", "90m", 5, 1.5]),
    min_size=1,
)
written_rules = st.lists(st.tuples(matches, limits).map(lambda parts: {"match": parts[0], **parts[1]}), max_size=4).map(
    lambda some: [{"name": f"rule {number}", **rule} for number, rule in enumerate(some)]
)


@examples(deadline=None)
@given(some=written_rules)
def test_rules_that_are_printed_read_back_as_they_were(tmp_path_factory: pytest.TempPathFactory, some: Any) -> None:
    settings = load(None, {}, {"rules": json.dumps(some)}).settings
    printed = as_yaml(settings)
    assert against_the_schema(printed) == []
    file = tmp_path_factory.getbasetemp() / "printed.yaml"
    file.write_text(printed, encoding="utf-8")
    assert load(str(file), {}, {}).settings == settings


def test_only_what_is_set_is_printed() -> None:
    (printed,) = Settings.model_validate({"rules": [ANY]}).model_dump(mode="json")["rules"]
    assert printed == ANY
