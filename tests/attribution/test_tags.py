"""Tags of SQL comments: three spellings, and nothing that is no comment."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.attribution.tags import KNOWN, MAX_NAME, MAX_TAGS, MAX_VALUE, last_comment, merged, shown
from tests.attribution.test_statements import HOSTILE, MARK, backslash, standard

SPELLINGS = {
    "SELECT 1 /*job='nightly',route='%2Finvoices%2F%3Aid'*/": {"job": "nightly", "route": "/invoices/:id"},
    "SELECT 1 /* job = 'nightly' , route = '%2F' */": {"job": "nightly", "route": "/"},
    r"SELECT 1 /*job='it\'s%20late',a='back\\slash',b=''*/": {"job": "it's late", "a": "back\\slash", "b": ""},
    "SELECT 1 /*job='a,b',c%3Ad='e%2Cf'*/": {"job": "a,b", "c:d": "e,f"},
    "SELECT 1 /*job='a%%20b%%25'*/": {"job": "a b%"},  # as Python's sqlcommenters write it
    "/* job=nightly, route=/invoices */ SELECT 1": {"job": "nightly", "route": "/invoices"},
    "/*job:nightly,route:/a,line:/x.rb:7:in `run'*/ SELECT 1": {
        "job": "nightly",
        "route": "/a",
        "line": "/x.rb:7:in `run'",
    },
    "SELECT /* job=a */ 1 /* route=b */": {"job": "a", "route": "b"},
    "SELECT 1 /* job=a */ /* job=b */": {"job": "b"},
    "SELECT 1 /* job=a=b:c%20d */": {"job": "a=b:c%20d"},
    "SELECT 1 /*trace.id-1_x=a*/": {"trace.id-1_x": "a"},
    "SELECT 1 /*\n  job=a,\n  route=b\n*/": {"job": "a", "route": "b"},
    "SELECT 'é', \"é\" /*job='%C3%A9',route=é*/": {"job": "é", "route": "é"},
}

PARTS = {
    "SELECT 1 /* a word, job=a, another word */": {"job": "a"},
    "SELECT 1 /* job=, route:, =x, 'y'=z, a b=c */": {},
    "SELECT 1 /*a='x, job='nightly', b='y'z, c='*/": {"job": "nightly"},
    "SELECT 1 /**/ /***/ /* */ /*,*/ /*=*/ /*'*/": {},
    "SELECT 1 /*job='%00',%0A='x'*/": {"job": "?"},
    "SELECT 1 /* job=a\tb\u2028c */": {"job": "a?b?c"},
}

NONE = [
    "",
    "SELECT 1",
    "SELECT 1 -- job=a",
    "SELECT 1 -- /* job=a */",
    "SELECT '/* job=a */'",
    "SELECT 'x''/* job=a */'",
    r"SELECT E'x\'/* job=a */'",
    'SELECT "/* job=a */"',
    "SELECT $$/* job=a */$$, $q$/* job=a */$q$",
    "SELECT U&'/* job=a */', B'/* job=a */'",
    "/*+ Leading(a b), job=a */ SELECT 1",  # a hint of pg_hint_plan
    "SELECT 1 /* job=a /* b=c */ */",
    "SELECT 1 /* job=a",
    "SELECT 1 /* job=a, route=b /* c=d */",
    "SELECT 'x /* job=a */",
    r"SELECT a, 'it\'s' /* job=a */",  # nobody knows where the string ends
]


# As the projects themselves write them.
COMMENTS = {
    "/*controller='index',db_driver='django.db.backends.postgresql',framework='django%3A2.2.1',route='%5Epolls/%24',"
    "traceparent='00-5bd66ef5095369c7b0d1f8f4bd33716a-c532cb4098ac3dd2-01',tracestate='congo%3Dt61'*/": {
        "controller": "index",
        "db_driver": "django.db.backends.postgresql",
        "framework": "django:2.2.1",
        "route": "^polls/$",
    },
    "/*application:Shop,controller:posts,action:index,line:/app/posts.rb:7:in `index',db_host:h,socket:/tmp/s*/": {
        "application": "Shop",
        "controller": "posts",
        "action": "index",
        "line": "/app/posts.rb:7:in `index'",
    },
    "/*application='Shop',job='NightlyJob',source_location='app/jobs/nightly.rb:7',database='shop'*/": {
        "application": "Shop",
        "job": "NightlyJob",
        "source_location": "app/jobs/nightly.rb:7",
    },
    "/*code.function.name='a.b',code.file.path='/a/b.py',code.line.number='7',code.stacktrace='x',http.route='/a'*/": {
        "code.function.name": "a.b",
        "code.file.path": "/a/b.py",
        "code.line.number": "7",
        "http.route": "/a",
    },
    "/* TODO: password: hunter2 */ /* user=hunter2, password='hunter2', token=hunter2 */": {},
    "/* job=nightly, Job=hunter2, jobs=hunter2 */": {"job": "nightly"},
}

VALUES = {
    ("route", "/invoices?token=hunter2"): "/invoices",
    ("http.route", "/invoices/:id?"): "/invoices/:id",
    ("path", "/invoices;jsessionid=hunter2"): "/invoices",
    ("endpoint", "?token=hunter2"): "",
    ("route", "^polls/(?P<id>[0-9]+)/(?:a|b)$"): "^polls/(?P<id>[0-9]+)/(?:a|b)$",
    ("route", "/f(?token=hunter2"): "/f(",
    ("route", "/f?:hunter2"): "/f",
    ("action", "why?"): "why?",
    ("route", "https://me:hunter2@h/invoices"): None,
    ("job", "postgresql://me:hunter2@h"): None,
    ("action", "set password = hunter2"): None,
    ("action", "reset_password"): "reset_password",
}


def tags_of(statement: bytes, *, backslash_escapes: bool = False) -> dict[str, str]:
    return merged([statement], backslash_escapes=backslash_escapes)


@pytest.mark.parametrize(("statement", "tags"), (SPELLINGS | PARTS).items())
def test_tags_of_a_comment(statement: str, tags: dict[str, str]) -> None:
    assert tags_of(statement.encode()) == tags


@pytest.mark.parametrize("statement", NONE)
def test_what_is_no_tag(statement: str) -> None:
    assert tags_of(statement.encode()) == {}


@pytest.mark.parametrize(("comment", "tags"), COMMENTS.items())
def test_a_log_shows_tags_of_known_names(comment: str, tags: dict[str, str]) -> None:
    assert shown(tags_of(comment.encode())) == tags


@pytest.mark.parametrize(("tag", "value"), VALUES.items())
def test_a_log_shows_no_query_string_and_no_password(tag: tuple[str, str], value: str | None) -> None:
    name, told = tag
    assert shown({name: told}) == ({} if value is None else {name: value})


def test_a_log_shows_tags_that_were_asked_for() -> None:
    tags = {"tenant.id": "7", "tenant": "a", "Tenant.id": "8", "url": "http://me:hunter2@h", "job": "b"}
    assert shown(tags) == {"job": "b"}
    assert shown(tags, ["tenant.*", "url"]) == {"tenant.id": "7", "job": "b"}
    assert shown(tags, ("*",)) == {name: value for name, value in tags.items() if name != "url"}


def test_a_path_that_was_asked_for_has_no_query_string_either() -> None:
    assert shown({"url": "https://h/a?token=hunter2", "note": "why?"}, ["*"]) == {"url": "https://h/a", "note": "why?"}


def test_the_trace_is_no_tag_of_a_log() -> None:
    tags = {"traceparent": "a", "tracestate": "b", "TraceParent": "c"}
    assert shown(tags, ["*", "trace*", "TraceParent"]) == {}
    assert not any(name.startswith("trace") for name in KNOWN)


def test_backslashes_escape_where_the_server_says_so() -> None:
    statement = rb"SELECT 'it\'s', '\' /* job=a */' /* route=b */"
    assert tags_of(statement, backslash_escapes=True) == {"route": "b"}
    assert merged([statement], backslash_escapes=True) == {"route": "b"}
    assert tags_of(statement) == {}


def test_of_several_statements_the_later_ones_win() -> None:
    statements = [b"BEGIN /* job=a, route=b */", b"", b"SELECT 1 /* job=c */", b"SELECT 2 /* user=d */"]
    assert merged(iter(statements)) == {"job": "c", "route": "b", "user": "d"}
    assert merged([]) == {}


def test_number_and_length_are_bounded() -> None:
    many = ",".join(f"t{number}=a" for number in range(MAX_TAGS + 5))
    tags = merged([f"/*{many}*/".encode(), b"/* t0=b, new=c */"])
    assert list(tags) == [f"t{number}" for number in range(MAX_TAGS)]
    assert tags["t0"] == "b"
    long = f"/*{'n' * MAX_NAME}={'v' * 999},{'m' * (MAX_NAME + 1)}=v,q='{'w' * 999}'*/"
    assert tags_of(long.encode()) == {"n" * MAX_NAME: "v" * MAX_VALUE, "q": "w" * MAX_VALUE}


LITERAL = "/* QZ79=QZ79 */ QZ='79', QZ:79"
quoted = st.sampled_from(
    [f"$a${LITERAL}$a$", f"$${LITERAL}$$", '"' + LITERAL + '"', f'U&"{LITERAL}"']
    + [prefix + "'" + LITERAL.replace("'", "''") + "'" for prefix in ("", "E", "n", "U&")]
)
comment = st.sampled_from(["/*job='a'*/", "/* job=a */", "/*job:a*/", "/*+ x=y */", "/* ' \" $$ */", "-- ' $$\n"])


@settings(deadline=None)
@given(st.lists(st.tuples(quoted, comment), min_size=1, max_size=6))
def test_comments_are_told_from_what_looks_like_one(parts: list[tuple[str, str]]) -> None:
    statement = "SELECT " + ", ".join(f"{literal} {after}" for literal, after in parts) + " /* the=end */"
    job = {"job": "a"} if any("job" in after for _, after in parts) else {}
    assert tags_of(statement.encode()) == job | {"the": "end"}


@settings(deadline=None)
@given(st.one_of(st.tuples(standard, st.just(value=False)), st.tuples(backslash, st.just(value=True))))
def test_no_literal_of_any_form_comes_out(generated: tuple[str, bool]) -> None:
    statement, backslash_escapes = generated
    tagged = statement.replace(MARK, "/*QZ=79*/") + " /*the=end*/"
    assert tags_of(tagged.encode(), backslash_escapes=backslash_escapes) == {"the": "end"}


@settings(deadline=None)
@given(
    st.binary() | st.text().map(str.encode),
    st.lists(st.sampled_from(["/*", "*/", "a", "=", "'", ":", ",", "\\", "%", "%41", " ", "\n", "\0", "é", '"', "$$"])),
    st.booleans(),
)
def test_any_bytes_become_a_few_short_printable_words(head: bytes, parts: list[str], backslash_escapes: bool) -> None:
    inside = "".join(parts).encode()
    for statement in (head, head + inside, b"/*" + inside + b"*/", b"/*" + head + b"*/"):
        tags = tags_of(statement, backslash_escapes=backslash_escapes)
        assert len(tags) <= MAX_TAGS
        for name, value in tags.items():
            assert name.isprintable()
            assert value.isprintable()
            assert 0 < len(name) <= MAX_NAME
            assert len(value) <= MAX_VALUE


UNITS = [
    *HOSTILE,
    b"a='",
    b"a='\\",
    b"a= ",
    b"a='x',",
    b"a='x' ",
    b"a=x,",
    b"a%",
    b",",
    b"=",
    b" ",
    b"a",
    b"%41",
    b"\\'",
]


@pytest.mark.timeout(20)  # each takes a tenth of a second; what is not linear would take minutes
@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("head", [b"", b"/*", b"/*a='", b"/*a="])
def test_hostile_text_takes_linear_time(head: bytes, unit: bytes) -> None:
    statement = head + unit * (100_000 // len(unit))
    for end in (b"", b"*/", b"'*/"):
        assert len(tags_of(statement + end)) <= MAX_TAGS


# The end of a text whose middle is not known.


@pytest.mark.parametrize(
    ("end", "comment"),
    [
        ("= 1 /*route='/a'*/", "/*route='/a'*/"),
        ("xxx' /* in a string */ x' /*route='/a'*/ ;\n", "/*route='/a'*/"),
        ("/*route='/a'*/", "/*route='/a'*/"),
        ("oute='/a'*/", ""),  # it begins in what is not known
        ("/*route='/a'*/ LIMIT 1", ""),
        ("'/*route=/a", ""),
        ("", ""),
    ],
)
def test_the_comment_at_the_end(end: str, comment: str) -> None:
    assert last_comment(end.encode()) == comment.encode()


def test_a_comment_in_a_comment_at_the_end_is_no_tag() -> None:
    assert merged([last_comment(b"a /* route=/a /* job=b */ */")]) == {}
