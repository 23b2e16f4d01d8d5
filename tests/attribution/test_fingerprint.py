"""Fingerprints: the same for the same shape, another one for another shape, and none that a secret could be told by."""

import itertools
import random
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.attribution.fingerprint import CUT_SHAPE, fingerprint
from tests.attribution.test_statements import HOSTILE, MARK, NASTY, backslash, standard

# By a name of the shape: statements that have it.
SAME = {
    "spaces, case, comments": [
        "SELECT a FROM t WHERE b = 1",
        "select  A\nfrom T where b=$1 ;;",
        "/* job=x */ SELECT a -- it's\nFROM t WHERE b = 'x'",
        "SELECT a FROM t WHERE b = 'a' \n 'b'",
        "SELECT a FROM t WHERE b = NULL",
        "SELECT a FROM t WHERE b = True",
        "SELECT a FROM t WHERE b=-1",
        "SELECT a FROM t WHERE b = - $1",
        "SELECT a FROM t WHERE b = - +1.5",
    ],
    "a value": [
        *("SELECT 1", "SELECT 'a'", "SELECT E'\\x41'", "SELECT $$a$$", "SELECT U&'a'", "SELECT B'01'", "SELECT 1.5e3"),
        *("SELECT $1", "SELECT '2026-01-01'::date", "SELECT 1 :: float8", "SELECT '{1}'::int[]", 'SELECT NULL::"Mood"'),
    ],
    "names": ['SELECT "abc", "Abc"', 'SELECT abc, "Abc"', 'SELECT ABC,"Abc"'],
    "a cast": ["SELECT a::int", "SELECT a :: int", "SELECT a/**/::INT"],
    "subtractions": ["SELECT a - 1, -2", "SELECT a -1, 2", "SELECT a-1,- 2", "SELECT a - -1, 2"],
    "more of them": ["SELECT a[1] - 1, f(a) - 1, 2 - 1", "SELECT a[1] -1, f(a)-1, 2-1"],
    "signs": ["SELECT a BETWEEN -1 AND -2 LIMIT -3", "SELECT a BETWEEN 1 AND 2 LIMIT 3"],
    "a list": [
        *("SELECT a IN (1, 2, 3)", "SELECT a IN ($1)", "SELECT a in(-1,$2,'x',NULL)"),
        "SELECT a IN ('x'::text, 'y'::text)",
    ],
    "a list of calls": ["SELECT a IN (lower($1), lower($2))", "SELECT a IN (lower('x'))"],
    "a list of long calls": [
        f"SELECT a IN (f({'a, b, ' * 50} $1), f({'a, b, ' * 50} $2))",
        f"SELECT a IN (f({'a, b, ' * 50} 'x'))",
    ],
    "a list of rows": ["SELECT (a, b) IN ((1, 2), (3, 4))", "SELECT (a, b) IN (($1, $2))"],
    "an array": [
        *("SELECT a = ANY($1)", "SELECT a = ANY(ARRAY[1, 2])", "SELECT a = ANY(ARRAY[1]::int[])"),
        *("SELECT a = ANY('{}')", "SELECT a = ANY(ARRAY[]::int[])", "SELECT a = ANY(ARRAY[[1, 2], [3, 4]])"),
        "SELECT a = ANY(ARRAY[ARRAY[1], ARRAY[2]])",
    ],
    "rows": [
        *("INSERT INTO t VALUES (1, 2)", "INSERT INTO t VALUES (1, 2), (3, 4)"),
        "insert into t values ($1,$2),($3,NULL),(5,DEFAULT);",
    ],
    "rows with a call": [
        "INSERT INTO t VALUES (DEFAULT,$1,now()),(DEFAULT,$2,now()) RETURNING a, b",
        "INSERT INTO t VALUES (DEFAULT, 'x', now()) RETURNING a,b",
        "INSERT INTO t VALUES (1,2,now()),(3,4,now()),(5,6,now()) RETURNING a, b",
    ],
    "rows with calls in calls": [
        "INSERT INTO t VALUES (1, f(2, g(a))) ON CONFLICT DO NOTHING",
        "INSERT INTO t VALUES (1, f(2, g(a))), (3, f(4, g(a))) ON CONFLICT DO NOTHING",
    ],
    "many times": ["UPDATE t SET a = 1", "UPDATE t SET a = 1; UPDATE t SET a = 2; UPDATE t SET a = 3"],
    "code": ["DO $$BEGIN END$$", "do 'x'"],
    "savepoints": ["SAVEPOINT sa_savepoint_1", 'savepoint "s140_x2"'],
    "back to them": ["ROLLBACK TO SAVEPOINT sa_savepoint_1", "rollback to x2", 'ROLLBACK TO "s140 x2"'],
    "cursors": [
        'DECLARE "_django_curs_140_sync_1" NO SCROLL CURSOR FOR SELECT a',
        "declare c_2 no scroll cursor for SELECT a",
        'DECLARE "a "" c" NO SCROLL CURSOR FOR SELECT a',
    ],
    "rows of them": ["FETCH FORWARD 100 FROM c_1", 'FETCH 7 FROM "c_2"'],
    "an operator ?": ["SELECT doc ? 'a'", "SELECT doc?$1"],
    "control": ["BEGIN", "begin;", " Begin ; -- now", "/* a */BEGIN"],
}

# Each pair: shapes that differ.
DIFFERENT = [
    ("SELECT a", "SELECT b"),
    ("SELECT a", "SELECT a FROM t"),
    ('SELECT "abc"', 'SELECT "Abc"'),
    ('SELECT "user"', "SELECT user"),
    ('SELECT a::"char"', "SELECT a::char"),
    ('SELECT "a b"', "SELECT a b"),
    ("SELECT é", "SELECT É"),  # Postgres folds A to Z alone
    ("SELECT 1", "SELECT 1, 2"),
    ("SELECT a - 1", "SELECT a + 1"),
    ("SELECT a, -1", "SELECT a - 1"),
    ("SELECT a -> 1", "SELECT a ->> 1"),
    ("SELECT a = 1", "SELECT a <= 1"),
    ("SELECT a ? 'x'", "SELECT a 'x'"),
    ("SELECT doc ? $1", "SELECT doc ?| $1"),
    ("SELECT a IS NULL", "SELECT a IS NOT NULL"),
    ("SELECT a IS NULL", "SELECT a IS TRUE"),
    ("SELECT a IS NULL", "SELECT a = NULL"),
    ("SELECT a::int", "SELECT a::text"),
    ("SELECT a IN (1, 2)", "SELECT a IN (1, b)"),
    ("SELECT a IN (1, 2)", "SELECT a NOT IN (1, 2)"),
    ("SELECT a = ANY(ARRAY[1])", "SELECT a = ANY(ARRAY[b])"),
    ("SELECT a[1]", "SELECT a"),
    ("SELECT f(a)", "SELECT f(a, a)"),
    ("SELECT f(a ? b)", "SELECT f(a ? b, a ? b)"),
    ("SELECT f(a), (a)", "SELECT f(a)"),
    ("SELECT f(a, b)", "SELECT f(a), b"),
    ("INSERT INTO t VALUES (1, now())", "INSERT INTO t VALUES (now(), 1)"),
    ("INSERT INTO t VALUES (1, now())", "INSERT INTO t VALUES (1, now()), (2, f())"),
    ("INSERT INTO t VALUES (1) RETURNING a", "INSERT INTO t VALUES (1)"),
    ("INSERT INTO t DEFAULT VALUES", "INSERT INTO t VALUES (DEFAULT)"),
    ("CREATE TABLE t (a int DEFAULT 1)", "CREATE TABLE t (a int)"),
    ("CREATE TABLE t (a int NOT NULL)", "CREATE TABLE t (a int)"),
    ("ROLLBACK", "ROLLBACK TO a"),
    ("SAVEPOINT a", "RELEASE a"),
    ("DECLARE c CURSOR FOR SELECT a", "DECLARE c CURSOR FOR SELECT b"),
    ("PREPARE p AS SELECT a", "PREPARE q AS SELECT a"),
    ("BEGIN; SELECT a", "SELECT a"),
    ("SELECT a; SELECT b", "SELECT b; SELECT a"),
    ("CREATE RULE r AS ON INSERT TO t DO (DELETE FROM a; DELETE FROM b)",
     "CREATE RULE r AS ON INSERT TO t DO (DELETE FROM a); DELETE FROM b"),
    ("SET a = 1", "SET b = 1"),
    ("ALTER ROLE r PASSWORD 'x'", "CREATE ROLE r PASSWORD 'x'"),
    (f"SELECT f({'a, b, ' * 50} a)", f"SELECT f({'a, b, ' * 50} b)"),
    (f"SELECT {'a, ' * CUT_SHAPE} b", f"SELECT {'a, ' * CUT_SHAPE} c"),
]  # fmt: skip

# Each statement with another password.
SECRETS = [
    "CREATE ROLE r PASSWORD {}",
    "ALTER USER {} WITH PASSWORD {}; SELECT a",
    "BEGIN; alter role r password '{}'",
    "CREATE USER MAPPING FOR r SERVER s OPTIONS (password {})",
    "ALTER SERVER s OPTIONS (SET {} {})",
    "CREATE FOREIGN TABLE t (a int) SERVER s OPTIONS (password {})",
    "CREATE SUBSCRIPTION {} CONNECTION '{}' PUBLICATION p",
    "COPY t FROM PROGRAM {}",
    "COPY {} (a, b) TO PROGRAM 'curl {}'",
    "SET app.secret = {}",
    'set local "app.secret" to "{}", {}',
    "ALTER DATABASE d SET app.secret TO {}",
    "ALTER SYSTEM SET primary_conninfo = {}",
    "CREATE FUNCTION f() RETURNS int SET app.secret = {} AS 'x'",
    'SELECT dblink_connect("password={}")',
    'SELECT dblink_connect("postgres://me:{}@h")',
    "SELECT a FROM t WHERE b = \u2018{}\u2019",
    "SELECT a FROM t WHERE b = 'O'{}' AND c = {}",
    "SELECT a /* {} */ FROM t -- {}",
    "SELECT \u00a0{}, a",  # a no-break space sticks to the name behind it
]


def same(statements: list[str], *, truncated: bool = False) -> bool:
    found = {fingerprint(statement.encode(), truncated=truncated) for statement in statements}
    assert all(re.fullmatch("[0-9a-f]{16}", each) for each in found)
    return len(found) == 1


@pytest.mark.parametrize("statements", SAME.values(), ids=SAME)
def test_one_shape_has_one_fingerprint(statements: list[str]) -> None:
    assert same(statements)


@pytest.mark.parametrize("pair", DIFFERENT)
def test_another_shape_has_another_fingerprint(pair: tuple[str, str]) -> None:
    assert not same(list(pair))


def test_all_shapes_differ() -> None:
    assert len({fingerprint(statements[0].encode()) for statements in SAME.values()}) == len(SAME)


@pytest.mark.parametrize("statement", SECRETS)
@pytest.mark.parametrize("truncated", [False, True])
def test_no_secret_has_a_part_in_it(statement: str, truncated: bool) -> None:
    first, second, third = (statement.replace("{}", secret) for secret in ("hunter2", "correct", "x" * 100))
    assert same([first, second, third], truncated=truncated)


@pytest.mark.parametrize("text", ["", " ;; \n", "/* a */ -- b", '"a', "/* a", "\x00"])
def test_no_statement_has_none(text: str) -> None:
    assert not fingerprint(text.encode())


def test_no_more_than_what_is_certain_counts() -> None:
    assert same(["SELECT a, 'O'Reilly', b", "SELECT a, 'D'Arcy' FROM t", "SELECT a, 'x', 'secret"])
    assert not same(["SELECT a, 'O'Reilly'", "SELECT b, 'O'Reilly'"])


def test_backslashes_escape_where_the_server_says_so() -> None:
    one, other = rb"SELECT 'it\'s', a", b"SELECT 'x', a"
    assert fingerprint(one, backslash_escapes=True) == fingerprint(other)
    assert fingerprint(one) != fingerprint(other)


# As much as is kept of a statement.
KEPT = 2048
LONG = [
    "UPDATE docs SET doc = '{}', note = '{}' WHERE id = 7",
    "INSERT INTO t (a, b) VALUES ({}, now(), '{}')",
    "SELECT a FROM t WHERE a = {} AND b = '{}' OR c = $1",
    "SELECT a FROM t WHERE b IN ({}) AND c = '{}'",
    "SELECT a, b FROM t WHERE a IS NOT NULL AND b = NULL AND '{}' = '{}'",
]


@pytest.mark.parametrize("statement", LONG)
def test_a_cut_makes_no_difference_wherever_values_let_it_fall(statement: str) -> None:
    cut = set()
    for first, second in itertools.product((0, 500, KEPT, 2 * KEPT), (KEPT, 2 * KEPT)):
        text = statement.replace("{}", "1" * (first + 1), 1).replace("{}", "1" * second)
        cut.add(text[:KEPT])
    assert len(cut) > 2
    assert same(sorted(cut), truncated=True)


def test_a_cut_makes_no_difference_wherever_comments_and_spaces_let_it_fall() -> None:
    columns = ", ".join(f"t.column_{number}" for number in range(KEPT))
    texts = [f"SELECT /* {'x' * gap} */{' ' * gap}{columns}"[:KEPT] for gap in (0, 100, 300, 450)]
    assert same(texts, truncated=True)


def test_half_a_word_does_not_count() -> None:
    assert same(["SELECT a FROM table_on", "SELECT a FROM table_two"], truncated=True)
    assert not same(["SELECT a FROM t WHERE", "SELECT b FROM t WHERE"], truncated=True)


def test_a_cut_statement_is_told_by_what_stands_before_its_first_value() -> None:
    assert not same(["INSERT INTO t (a) VALUES ('x", "INSERT INTO u (a) VALUES ('x"], truncated=True)
    assert same(["SELECT a FROM t WHERE b = 1 AND c", "SELECT a FROM t WHERE b = $1 OR"], truncated=True)


def test_what_is_whole_is_told_from_what_was_cut() -> None:
    assert fingerprint(b"SELECT a = 1") != fingerprint(b"SELECT a = 1", truncated=True)


CLAUSES = [
    'SELECT a , "B" , count(*)', "FROM t", "WHERE a = {} AND b <> {}", "OR c IN ( {} , {} )", "AND d - {} > e",
    "AND f ->> {} = ANY ( {} )", "AND g IS NOT NULL", "AND h BETWEEN {} AND {}", "ORDER BY a DESC , lower( b )",
    "LIMIT {} OFFSET {}", "INSERT INTO t ( a , b ) VALUES ( {} , now() )", "UPDATE t SET a = {} , b = b + {}",
    "RETURNING a :: text", "; COMMIT ;", "ON CONFLICT ( a ) DO NOTHING",
]  # fmt: skip
LITERALS = [
    "1",
    "-7.5e3",
    "''",
    "'it''s'",
    "E'\\''",
    "$$a;$$",
    "$1",
    "NULL",
    "true",
    "'2026-01-01'::date",
    "U&'\\0041'",
]
GAPS = [" ", "  ", "\n", "\t\r\n", " /* it's */ ", "/**/", " -- $$ \n", " /* a /* ' */ */ "]


def rendered(clauses: list[str], seed: int) -> bytes:
    """A statement of that shape with other literals, gaps and case."""
    chance = random.Random(seed)  # noqa: S311 - no secret
    words = " ".join(clauses).split(" ")
    text = chance.choice(GAPS)
    for word in words:
        if word == "{}":
            text += chance.choice(LITERALS)
        else:
            text += chance.choice([word, word.upper(), word.lower()]) if '"' not in word else word
        text += chance.choice(GAPS)
    return (text + chance.choice(["", ";", " ; "])).encode()


@settings(deadline=None)
@given(st.lists(st.sampled_from(CLAUSES), min_size=1, max_size=6), st.integers(0, 2**32), st.integers(0, 2**32))
def test_literals_spaces_comments_and_case_make_no_difference(clauses: list[str], one: int, other: int) -> None:
    assert fingerprint(rendered(clauses, one)) == fingerprint(rendered(clauses, other))


@settings(deadline=None)
@given(st.lists(st.sampled_from(CLAUSES), min_size=2, max_size=5, unique=True), st.data())
def test_the_order_of_clauses_does(clauses: list[str], data: st.DataObject) -> None:
    others = data.draw(st.permutations(clauses).filter(lambda others: others != clauses))
    assert fingerprint(rendered(clauses, 1)) != fingerprint(rendered(others, 1))


@settings(deadline=None)
@given(st.one_of(st.tuples(standard, st.just(value=False)), st.tuples(backslash, st.just(value=True))))
def test_no_literal_of_any_form_has_a_part_in_it(generated: tuple[str, bool]) -> None:
    statement, escapes = generated
    other = statement.replace(MARK, "XY").replace("79", "88")
    assert fingerprint(statement.encode(), backslash_escapes=escapes) == fingerprint(
        other.encode(), backslash_escapes=escapes
    )


@settings(deadline=None)
@given(standard, st.data())
def test_no_cut_lets_a_literal_have_a_part_in_it(statement: str, data: st.DataObject) -> None:
    end = data.draw(st.integers(0, len(statement)))
    cut = statement[:end]
    assert fingerprint(cut.encode(), truncated=True) == fingerprint(
        cut.replace("QZ", "XY").replace("7", "8").encode(), truncated=True
    )


@settings(deadline=None)
@given(
    st.binary()
    | st.lists(st.sampled_from([*NASTY, "SET ", "a", "[", ")", "]", "values", "array"])).map("".join).map(str.encode),
    st.booleans(),
    st.booleans(),
)
def test_any_bytes_have_a_fingerprint_or_none(statement: bytes, truncated: bool, backslash_escapes: bool) -> None:
    found = fingerprint(statement, truncated=truncated, backslash_escapes=backslash_escapes)
    assert re.fullmatch("([0-9a-f]{16})?", found)


UNITS = [
    *HOSTILE,
    *(
        b"(",
        b"[",
        b")",
        b"(a,",
        b"(a),",
        b"array[",
        b"[1],",
        b"- ",
        b"- 1",
        b"a;",
        b"(a;",
        b"null ",
        b"1::a",
        b"values (1),",
    ),
]


@pytest.mark.timeout(20)  # each takes a tenth of a second; what is not linear would take minutes
@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("head", [b"", b"set ", b"(" + b"x " * 5_000 + b"values (1,"])
def test_hostile_text_takes_linear_time(head: bytes, unit: bytes) -> None:
    fingerprint(head + unit * (20_000 // len(unit)))
