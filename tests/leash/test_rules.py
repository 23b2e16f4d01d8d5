"""Which rule a client gets, with which limits, and why."""

import json
import string
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from proxy.leash.policy import Limits
from proxy.leash.rules import Rulebook, Ruling, Tried
from proxy.report.events import Client
from proxy.settings import NEVER, Rule, Settings, load

ETL = Client(user="etl", database="shop", application_name="load-7", address="10.1.2.3")


def rulebook(*rules: dict[str, Any], **above: str) -> Rulebook:
    return Rulebook(load(None, {}, above | {"rules": json.dumps(rules)}).settings)


def fits(client: Client, tagged: dict[str, str] | None = None, /, **match: Any) -> bool:
    """Whether a rule with this match is the one that applies."""
    rule = {"name": "it", "match": match, "flag_after": "1s"}
    return rulebook(rule).ruling(client, tagged or {}).rule == "it"


def named(name: str, user: str = "*", **limits: str) -> dict[str, Any]:
    return {"name": name, "match": {"user": user}, **(limits or {"flag_after": "1s"})}


@pytest.mark.parametrize(
    ("key", "glob", "expected"),
    [
        *(("user", "etl", True), ("user", "et", False), ("user", "tl", False), ("user", "ETL", False)),
        *(("user", "e?l", True), ("user", "[a-e]tl", True), ("user", "[!e]tl", False), ("user", "*", True)),
        *(("user", ["a", "e*"], True), ("user", ["a", "b"], False), ("user", "e.l", False), ("user", "", False)),
        *(("database", "sh*", True), ("database", "etl", False)),
        *(("application_name", "load-*", True), ("application_name", "load-?", True), ("application_name", "", False)),
    ],
)
def test_a_glob_has_to_fit_the_whole_name(key: str, glob: object, expected: bool) -> None:
    assert fits(ETL, **{key: glob}) is expected


def test_a_star_takes_everything_and_an_empty_glob_nothing() -> None:
    odd = Client(user="a/b\nc", database="", application_name="", address="")
    assert fits(odd, user="*", database="*", application_name="")
    assert fits(odd, user="a*c")
    assert not fits(odd, database="?*")


@pytest.mark.parametrize(
    ("address", "wanted", "expected"),
    [
        ("10.1.2.3", "10.1.0.0/16", True),
        ("10.2.2.3", "10.1.0.0/16", False),
        ("10.1.2.3", "10.1.2.3", True),
        ("10.1.2.3", ["192.0.2.1", "10.0.0.0/8"], True),
        ("::ffff:10.1.2.3", "10.1.0.0/16", True),
        ("10.1.2.3", "::ffff:10.1.0.0/112", True),
        ("10.1.2.3", "::/0", False),
        ("2001:db8::1", "2001:db8::/32", True),
        ("2001:db8::1", "0.0.0.0/0", False),
        ("fe80::1%eth0", "fe80::/10", True),
        ("", "0.0.0.0/0", False),
        ("", ["0.0.0.0/0", "::/0"], False),
        ("", "local", True),
        ("", ["10.0.0.0/8", "local"], True),
        ("127.0.0.1", "local", False),
        ("nonsense", ["0.0.0.0/0", "::/0", "local"], False),
    ],
)
def test_an_address_has_to_be_in_the_network(address: str, wanted: object, expected: bool) -> None:
    client = Client(user="etl", database="shop", application_name="", address=address)
    assert fits(client, address=wanted) is expected
    assert fits(client, user="etl")


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ({"job": "nightly-7", "route": "/a"}, True),
        ({"job": "nightly-7"}, False),
        ({"job": "daily", "route": "/a"}, False),
        ({"Job": "nightly-7", "route": "/a"}, False),
        ({}, False),
    ],
)
def test_every_tag_has_to_be_there_and_to_fit(tags: dict[str, str], expected: bool) -> None:
    assert fits(ETL, tags, tags={"job": ["nightly-*", "x"], "route": "*"}) is expected


def test_all_that_is_written_has_to_fit() -> None:
    match: dict[str, Any] = {"user": "etl", "database": "shop", "application_name": "load-*", "address": "10.0.0.0/8"}
    assert fits(ETL, {"job": "a"}, **match, tags={"job": "a"})
    for key in match:
        wrong = "192.0.2.1" if key == "address" else "other"
        assert not fits(ETL, {"job": "a"}, **match | {key: wrong}, tags={"job": "a"})
    assert not fits(ETL, {"job": "b"}, **match, tags={"job": "a"})


def test_the_first_that_matches_applies_alone() -> None:
    book = rulebook(named("other", "other"), named("first", flag_after="7s"), named("etl", "etl", terminate_after="8s"))
    assert book.ruling(ETL, {}) == Ruling("first", Limits(flag_after=7.0))


def test_what_is_not_set_comes_from_above_and_never_means_never() -> None:
    rule = named("etl", "etl", flag_after="never", terminate_transaction_after="1h")
    book = rulebook(rule, flag_after="5s", terminate_after="5m", flag_transaction_after="10m")
    above = Limits(flag_after=5.0, terminate_after=300.0, flag_transaction_after=600.0)
    assert book.ruling(ETL, {}) == Ruling("etl", above._replace(flag_after=NEVER, terminate_transaction_after=3600.0))
    other = Client(user="other", database="", application_name="", address="")
    assert book.ruling(other, {}) == Ruling("default", above)


def test_a_rule_can_set_every_limit() -> None:
    assert set(Limits._fields) <= set(Rule.model_fields) & set(Settings.model_fields)
    for name in Limits._fields:
        limits = rulebook(named("it", **{name: "17s"}), flag_after="99s").ruling(ETL, {}).limits
        assert limits == Limits(flag_after=99.0)._replace(**{name: 17.0})


def test_without_rules_the_top_level_applies() -> None:
    book = rulebook(flag_after="5s")
    assert book.ruling(ETL, {"job": "a"}) == Ruling("default", Limits(flag_after=5.0))
    assert (book.earliest, book.uses_tags) == (5.0, False)


@pytest.mark.parametrize(
    ("above", "rules", "earliest"),
    [
        ("5s", [named("a", flag_after="1h")], 5.0),
        ("5s", [named("a", flag_after="1h"), named("b", terminate_transaction_after="2s")], 2.0),
        ("never", [named("a", flag_after="1h")], 3600.0),
        ("never", [named("a", flag_after="never")], NEVER),
    ],
)
def test_a_session_is_armed_with_the_soonest_limit_of_all(
    above: str, rules: list[dict[str, Any]], earliest: float
) -> None:
    assert rulebook(*rules, flag_after=above).earliest == earliest


def test_whether_tags_have_to_be_looked_for() -> None:
    assert not rulebook(named("a")).uses_tags
    assert rulebook(named("a"), named("b") | {"match": {"tags": {"job": "*"}}}).uses_tags


# Why.


def test_each_rule_that_does_not_apply_says_why() -> None:
    match = {
        "user": ["a*", "b"],
        "database": "shop",
        "application_name": "",
        "address": ["192.0.2.0/24", "local"],
        "tags": {"job": "nightly-*", "route": "/b"},
    }
    rule = {"name": "long", "match": match, "flag_after": "1s"}
    book = rulebook(rule, named("etl", "etl"), named("never tried"))
    assert book.explain(ETL, {"route": "/a"}) == [
        Tried(
            "long",
            (
                "user is etl, not a* or b",
                "application_name is load-7, not empty",
                "address is 10.1.2.3, not 192.0.2.0/24 or local",
                "tags.job is not set, it would have to be nightly-*",
                "tags.route is /a, not /b",
            ),
        ),
        Tried("etl", ()),
    ]


def test_where_nothing_fits_the_default_is_the_last_that_is_tried() -> None:
    unknown = Client(user="", database="", application_name="", address="")
    match = {"user": "etl", "address": "10.0.0.0/8"}
    assert rulebook({"name": "etl", "match": match, "flag_after": "1s"}).explain(unknown, {}) == [
        Tried("etl", ("user is empty, not etl", "address is local, not 10.0.0.0/8")),
        Tried("default", ()),
    ]


texts = st.text(st.sampled_from("etl*?[]!-^\\|&~(){}.\n" + string.ascii_letters), max_size=8)
names = st.one_of(texts, st.text(max_size=8))


@examples(deadline=None)
@given(
    st.lists(st.tuples(texts, texts), max_size=3),
    st.builds(
        Client,
        user=names,
        database=names,
        application_name=names,
        address=st.sampled_from(["", "::1", "10.1.2.3", "nonsense"]),
    ),
    st.dictionaries(names, names, max_size=2),
)
def test_whatever_the_glob_the_rule_that_is_explained_is_the_one_that_applies(
    globs: list[tuple[str, str]], client: Client, tags: dict[str, str]
) -> None:
    book = rulebook(
        *(
            {"name": f"r{number}", "match": {"user": user, "tags": {"e": tag}}, "flag_after": "1s"}
            for number, (user, tag) in enumerate(globs)
        )
    )
    tried = book.explain(client, tags)
    assert tried[-1].rule == book.ruling(client, tags).rule
    assert not tried[-1].mismatches
    assert all(one.mismatches for one in tried[:-1])
