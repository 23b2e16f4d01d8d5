import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.attribution.statements import LIMIT, sanitize

LITERALS = {
    "SELECT 'it''s', '', 'C:\\'": "SELECT ?, ?, ?",
    "SELECT 'a' 'b'": "SELECT ? ?",
    "SELECT E'it\\'s' , e'\\\\', E'\\x41\\u0041\\'' FROM t": "SELECT ? , ?, ? FROM t",
    "SELECT U&'\\0041\\\\' UESCAPE '!', u&'it''s'": "SELECT ? UESCAPE ?, ?",
    "SELECT B'01', x'1F', N'a', n'b'": "SELECT ?, ?, ?, ?",
    "SELECT '\x00\x01', 'b'::bytea": "SELECT ?, ?::bytea",
    "SELECT $$it's$$, $tag$ $$ $tag $tag$, $é1$'$é1$ FROM t": "SELECT ?, ?, ? FROM t",
    "SELECT $Tag$ $tag$ 'x $Tag$, $$$$": "SELECT ?, ?",
    "DO $$BEGIN PERFORM 'x'; END$$LANGUAGE plpgsql": "DO ?LANGUAGE plpgsql",
    "CREATE FUNCTION f() RETURNS text AS $f$SELECT $$x$$$f$": "CREATE FUNCTION f() RETURNS text AS ?",
    "SELECT 1, 1.5, .5, 5., 1e5, 1.5E-10, -7, +7": "SELECT ?, ?, ?, ?, ?, ?, -?, +?",
    "SELECT 1_000, 0x1F, 0o17, 0b101, 1_0.0_1e1_0": "SELECT ?, ?, ?, ?, ?",
    "SELECT 1a, 12ab34, 0xZZ9, 1.5.6": "SELECT ?, ?, ?, ?",
    "FOR i IN 1..10": "FOR i IN ?..?",
    "SELECT a[1:2], a-1, 5-3, 5--3": "SELECT a[?:?], a-?, ?-?, ?",
    "EXECUTE plan(1, 'x', $1)": "EXECUTE plan(?, ?, $1)",
    "NOTIFY channel, 'payload'": "NOTIFY channel, ?",
    "SELECT date '2026-01-01', interval'1 day'": "SELECT date ?, interval?",
    "SELECT doc ->> 'k', doc ? 'k' FROM t": "SELECT doc ->> ?, doc ? ? FROM t",
    "SELECT $123456789": "SELECT $?",
}

STAYS = {
    'SELECT table1.col_2, "Odd ""name""", U&"d\\0061t" FROM "a.b"': None,
    "SELECT a$b$c, naïve, 表, _e FROM t WHERE x = $1 AND y = $23": None,
    "SELECT true, false, NULL, DEFAULT FROM t": None,
    "SELECT a + b - c <= d || e #>> f FROM t": None,
    "LISTEN x": None,
    "SAVEPOINT sp_1": None,
    "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE": None,
    "SET LOCAL ROLE reader": None,
    "COPY program FROM STDIN": None,
    "": None,
}

TRAPS = {
    # A prefix is a prefix only at the beginning of a token.
    "SELECT _e'a\\' , b": "SELECT _e? , b",
    "SELECT é'a\\' , b": "SELECT é? , b",
    "SELECT a1e'a\\' , b": "SELECT a1e? , b",
    "SELECT ne'a\\' , b": "SELECT ne? , b",
    "SELECT $1e'a\\'b' , b": "SELECT ?…",
    "SELECT $1a b$1, c": "SELECT ?…",  # what somebody took for a dollar quote
    "SELECT$$a b$$, c": "?…",
    "CREATE FUNCTION f() LANGUAGE sql AS$$SELECT a$$": "CREATE FUNCTION f() LANGUAGE sql ?…",
    "SELECT $1::int, $2, a$b": "SELECT $1::int, $2, a$b",
    "SELECT a$x$ , b, 'y', a$x$ FROM t": "SELECT a$x$ , b, ?, a$x$ FROM t",
    # A string goes on behind a line break, with the rules of its beginning.
    "SELECT 'a'\n'b'": "SELECT ?",
    "SELECT E'a' \t\r\n 'it\\'s' , b": "SELECT ? , b",
    "SELECT E'a' -- it's\n -- 'so'\n 'it\\'s' , b": "SELECT ? , b",
    "SELECT E'a' /* no */ \n 'b\\' , c": "SELECT ? ? , c",
    "SELECT 'a'\n--x'\n,b": "SELECT ? ,b",
    "SELECT B'0''1' , b": "SELECT ?? , b",
    # Comments and what looks like one.
    "SELECT '--', \"/*\", b -- it's 'so'\n, c": 'SELECT ?, "/*", b , c',
    "SELECT /* a /* ' */ \" */ b /**/ , c /*/ */": "SELECT b , c",
    "SELECT a +/* it's */ b *-- it's\n c": "SELECT a + b * c",
    "SELECT a /*/*/ '*/*/ , b": "SELECT a , b",
    "SELECT $$ /* $$, b": "SELECT ?, b",
    "SELECT a//*x*/b": "SELECT a/ b",
    # Quoted names.
    'SELECT "it\'s", \'a\', "b"': 'SELECT "it\'s", ?, "b"',
    "SELECT \"a\\\" , 'b'": 'SELECT "a\\" , ?',
    "SELECT \"a\"'b', U&\"'\" UESCAPE '!' , c": 'SELECT "a"?, U&"\'" UESCAPE ? , c',
}

UNPRINTABLE = {
    "SELECT\r\n\ta,\x0b\x01\x7fb\x00": "SELECT a, b",
    'SELECT "a\nb", "c\u2028", "\u202eevil", b': "SELECT ?, ?, ?, b",
    "SELECT a FROM t WHERE a =\u00a042": "SELECT a FROM t WHERE a =?",
    "SELECT \u200bx\u0085": "SELECT ?",
}

FOLDED = {
    " SELECT  a ;; SELECT 1;\n": "SELECT a; SELECT ?",
    "SELECT a IN (1, 'x',-3, + 4)": "SELECT a IN (?)",
    "SELECT a IN ( 1 )": "SELECT a IN (?)",
    "INSERT INTO t (a, b) VALUES (1, 'x'), (2, 'y') ,(3,'z')": "INSERT INTO t (a, b) VALUES (?)",
    "INSERT INTO t VALUES (1, now()), (2, now())": "INSERT INTO t VALUES (?, now())",
    "INSERT INTO t VALUES ($1, DEFAULT), ($2, DEFAULT) ,($3,DEFAULT)": "INSERT INTO t VALUES ($1, DEFAULT)",
    "INSERT INTO t VALUES ($1, f(1, g(a))), ($2, f(2, g(a))) RETURNING b": (
        "INSERT INTO t VALUES ($1, f(?, g(a))) RETURNING b"
    ),
    "SELECT f($1), ($2), (a), g(b), (b)": None,
    "SELECT (a, b) IN (($1, c), ($3, c)), (a))), ((b)": "SELECT (a, b) IN (($1, c)), (a))), ((b)",
    "SELECT a IN ($1, $2,$3), b in ( $4 ), c IN ($5, -6)": "SELECT a IN (?), b in (?), c IN (?)",
    "SELECT ARRAY[1,2], ((1,2),(3,4))": "SELECT ARRAY[?], ((?))",
    "SELECT f($1, $2, $3), f(a, 1, 2)": "SELECT f($1, $2, $3), f(a, ?, ?)",
}

SECRETS = {
    "create role bob PASSWORD hunter2": "CREATE ROLE …",
    "ALTER/**/USER bob PASSWORD 'x'; SELECT a": "ALTER USER …; SELECT a",
    "CREATE USER MAPPING FOR bob SERVER s OPTIONS (password 'x')": "CREATE USER MAPPING …",
    "ALTER SERVER s OPTIONS (SET host 'x')": "ALTER SERVER …",
    "CREATE SUBSCRIPTION s CONNECTION 'password=x' PUBLICATION p": "CREATE SUBSCRIPTION …",
    "COPY t (a) FROM PROGRAM 'curl -u me:x'": "COPY … PROGRAM …",
    "COPY (SELECT * FROM program) TO STDOUT": "COPY (SELECT * FROM program) TO STDOUT",
    "COPY t FROM PROGRAM curl -u me": "COPY … PROGRAM …",
    "COPY (SELECT * FROM program, f($1)) TO PROGRAM 'x'": "COPY … PROGRAM …",
    "COPY (SELECT a FROM program WHERE b) TO STDOUT": None,
    "CREATE FOREIGN TABLE t (a int OPTIONS (b 'c')) SERVER s OPTIONS (password hunter2)": (
        "CREATE FOREIGN TABLE t (a int OPTIONS …"
    ),
    "alter foreign table t OPTIONS(SET password hunter2)": "alter foreign table t OPTIONS…",
    "IMPORT FOREIGN SCHEMA a FROM SERVER s INTO b OPTIONS (c hunter2)": (
        "IMPORT FOREIGN SCHEMA a FROM SERVER s INTO b OPTIONS …"
    ),
    "CREATE TABLE options (a int)": None,
    'SELECT dblink_connect("host=h password=hunter2"), "postgres://me:hunter2@h"': "SELECT dblink_connect(?), ?",
    'SELECT "user.password", "http://h/"': None,
    "SET app.secret TO hunter2, b": "SET app.secret TO ?",
    "BEGIN; set local app.secret=hunter2; SELECT a": "BEGIN; set local app.secret=?; SELECT a",
    'SET SESSION "app.secret" = "hunter2"': 'SET SESSION "app.secret" = ?',
    "SET standard_conforming_strings = off": "SET standard_conforming_strings = ?",
    "ALTER SYSTEM SET primary_conninfo = hunter2": "ALTER SYSTEM SET primary_conninfo = ?",
    "ALTER DATABASE d SET a.b TO hunter2": "ALTER DATABASE d SET a.b TO ?",
    'ALTER DATABASE d SET "a,b(" TO hunter2': 'ALTER DATABASE d SET "a,b(" TO ?',
    "CREATE FUNCTION f() RETURNS int SET a.b = c AS 'x'": "CREATE FUNCTION f() RETURNS int SET a.b = ?",
    "CREATE TABLE t (a int REFERENCES u ON DELETE SET NULL, b int CHECK (b = c))": None,
    "ALTER TABLE t RENAME TO u": None,
    "UPDATE t SET a = b": None,
}

# What is not certain is not shown.
UNCERTAIN = {
    "SELECT a FROM t WHERE b = 'it\\'s secret'": "SELECT a FROM t WHERE b = ?…",
    "SELECT a, 'O'Reilly', 'D'Arcy'": "SELECT a, ?…",
    "SELECT a, 'x', b, 'secret": "SELECT a, ?…",
    "SELECT a, 'x\\' secret 'y' /* z": "SELECT a, ?…",
    "SELECT a, $q$x$q": "SELECT a, ?…",
    'SELECT a, "b': "SELECT a, ?…",
    "SELECT a /* b": "SELECT a ?…",
    "SELECT a, 1e'x\\'secret'": "SELECT a, ?…",
    "SELECT a, 1$$x'secret$$": "SELECT a, ?…",
    "SELECT a, 'b'AS c": "SELECT a, ?…",
    "SELECT E'é\\' secret '": "SELECT ?…",
    "SELECT a FROM t WHERE b = \u2018a secret\u2019 AND c = 'x'": "SELECT a FROM t WHERE b = ?…",
    "SELECT a, 'x', b, “secret”": "SELECT a, ?…",
    "SELECT a, «secret»": "SELECT a, ?…",
}

CUT = {
    "": "…",
    "SELECT a FR": "SELECT a FR…",
    "SELECT a ": "SELECT a…",
    "SELECT 12": "SELECT ?…",
    "SELECT 'x', b, 'secr": "SELECT ?, b, ?…",
    "SELECT E'x\\'": "SELECT ?…",
    "SELECT E'x'\n'it\\'s": "SELECT ?…",
    "SELECT E'x'\n'it\\' secret": "SELECT ?…",
    "SELECT 'x', E": "SELECT ?, E…",
    "SELECT 'x', U&": "SELECT ?, U&…",
    "SELECT 'x', $a$ $a": "SELECT ?, ?…",
    "SELECT 'x', \"secr": "SELECT ?, ?…",
    "SELECT 'x', 'don\\'t": "SELECT ?…",
    "SELECT a FROM t WHERE a IN (1, 2, 3": "SELECT a FROM t WHERE a IN (?…",
    "INSERT INTO t VALUES (1, 2), (3,": "INSERT INTO t VALUES (?)…",
    "SELECT a FROM t WHERE a IN ($1, $2,": "SELECT a FROM t WHERE a IN (?…",
    "COPY t FROM PROGRAM cu": "COPY … PROGRAM …",
    "SET a.b = hunt": "SET a.b = ?…",
    "ALTER ROLE bob PASS": "ALTER ROLE …",
}

# standard_conforming_strings is off.
BACKSLASH = {
    "SELECT 'it\\'s', b": "SELECT ?, b",
    "SELECT 'a'\n'it\\'s', N'it\\'s', b": "SELECT ?, ?, b",
    "SELECT B'0\\', x'1\\', $$\\$$, b": "SELECT ?, ?, ?, b",
    'SELECT "a\\", b': None,
    "SELECT a, U&'x\\', secret": "SELECT a, ?…",
}

# Bytes of other client encodings: the second byte of a character may look like ASCII.
ENCODED = {
    "SELECT prénom FROM t WHERE a = 'é'".encode("latin-1"): "SELECT pr\ufffdnom FROM t WHERE a = ?",
    "SELECT E'表', secret, 'x'".encode("shift_jis"): "SELECT ?…",
    "SELECT 表e'x\\', a, ' secret '".encode("shift_jis"): "SELECT \ufffd?…",
    "SELECT 功$a$, ' secret $a$ secret '".encode("big5"): "SELECT \ufffd?…",
    "SELECT $功$ secret $功$".encode("big5"): "SELECT ?…",
    b"SELECT a, $\xe9$ $\xe8$ secret $\xe8$ $\xe9$": "SELECT a, ?…",
}

TABLE = LITERALS | STAYS | TRAPS | UNPRINTABLE | FOLDED | SECRETS | UNCERTAIN


@pytest.mark.parametrize(("statement", "shown"), TABLE.items())
def test_shows_names_and_no_literals(statement: str, shown: str | None) -> None:
    assert sanitize(statement.encode()) == (statement if shown is None else shown)


@pytest.mark.parametrize(("statement", "shown"), CUT.items())
def test_a_cut_statement_ends_in_an_ellipsis(statement: str, shown: str) -> None:
    assert sanitize(statement.encode(), truncated=True) == shown


@pytest.mark.parametrize(("statement", "shown"), BACKSLASH.items())
def test_backslashes_escape_where_the_server_says_so(statement: str, shown: str | None) -> None:
    assert sanitize(statement.encode(), backslash_escapes=True) == (statement if shown is None else shown)


@pytest.mark.parametrize(("statement", "shown"), ENCODED.items())
def test_second_bytes_are_not_taken_for_punctuation(statement: bytes, shown: str) -> None:
    assert sanitize(statement) == shown


@pytest.mark.parametrize(("statement", "shown"), TABLE.items())
def test_what_is_shown_is_shown_the_same_again(statement: str, shown: str | None) -> None:
    again = statement if shown is None else shown
    assert sanitize(again.encode()) == again


def test_a_long_statement_is_cut_after_sanitizing() -> None:
    shown = sanitize(b"SELECT '" + b"x" * LIMIT + b"', " + b"column_1, " * LIMIT)
    assert len(shown) == LIMIT
    assert shown.startswith("SELECT ?, column_1, ")
    assert shown.endswith("…")


def test_a_long_list_does_not_fill_the_line() -> None:
    assert sanitize(b"SELECT a IN (" + b"1, " * LIMIT + b"1)") == "SELECT a IN (?)"


# Only literals and comments hold these characters; nothing else in the generated statements does.
MARK = "QZ79"
NASTY = [
    *("'", "''", '"', "\\", "\\'", "\\\\", "$", "$$", "$a$", "$a", "--", "/*", "*/", ";", ",", "(", "?", "e'", "U&'"),
    *("\n", "\r\n", "\t", " ", "\x0b", "\u2028", "é", "表", "Q", "7", "", " 'Q' ", "'\n'", "' -- '\n'"),
]
content = st.lists(st.sampled_from(NASTY), max_size=6).map("".join)
marked = st.tuples(content, content).map(MARK.join)
gap = st.sampled_from(["\n", " \t\r\n ", " -- it's Q\n", "\n--Q'\n\t-- \\'\n", "\f\v\n"])


def doubled(text: str) -> str:
    return text.replace("'", "''")


def escaped(text: str) -> str:
    # A backslash behind a character beyond ASCII would be uncertain.
    return text.replace("é", "e").replace("表", "e").replace("\u2028", " ").replace("\\", "\\\\").replace("'", "\\'")


def dollar_quoted(text: str) -> str:
    quotes = (f"${tag}$" for tag in ("", "a", "_é1", "ab"))
    quote = next(quote for quote in quotes if (text + quote).find(quote) == len(text))
    return quote + text + quote


anywhere = st.one_of(
    marked.map(lambda text: f"E'{escaped(text)}'"),
    marked.map(lambda text: f"e'{doubled(text.replace(chr(92), ''))}'"),
    st.tuples(marked, gap, marked).map(lambda parts: f"E'{escaped(parts[0])}'{parts[1]}'{escaped(parts[2])}'"),
    st.tuples(st.sampled_from("bBxX"), marked).map(lambda parts: f"{parts[0]}'{parts[1].replace(chr(39), '')}'"),
    marked.map(dollar_quoted),
    st.sampled_from(["79", "7.9", ".79", "79.", "7e9", "7.E-9", "7_9", "0x79", "0b79", "79QZ", "7Z9Q", "79.79.79"]),
)
standard_only = st.one_of(
    st.tuples(st.sampled_from(["", "N", "n", "U&", "u&"]), marked).map(lambda part: f"{part[0]}'{doubled(part[1])}'"),
    st.tuples(marked, gap, marked).map(lambda parts: f"'{doubled(parts[0])}'{parts[1]}'{doubled(parts[2])}'"),
)
backslash_only = st.tuples(st.sampled_from(["", "N"]), marked).map(lambda part: f"{part[0]}'{escaped(part[1])}'")
name = st.sampled_from(["a1", "b_2", "c$d", "é1", '"d""1"', '"e\'f--"', 'U&"/*g"', "$1", "$2", "null", "e", "u", "x"])
# Each holds punctuation: two strings with a mere line break between them would be one.
separator = st.sampled_from(
    [", ", ",\n", " = ", "||/*QZ' /* \" */ */", "\t(", ")-- Q'Z\"$$\n", ";", "+", "->>", "<@", "::", "/", "*", "- "]
)


def statements(literal: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    part = st.tuples(separator, st.one_of(literal, literal, name)).map("".join)
    return st.lists(part, min_size=1, max_size=6).map(lambda parts: "select a" + "".join(parts))


standard = statements(anywhere | standard_only)
backslash = statements(anywhere | backslash_only)


def leaks(shown: str) -> set[str]:
    return set(shown) & set(MARK)


@settings(deadline=None)
@given(standard)
def test_no_literal_comes_out_and_the_end_is_found(statement: str) -> None:
    shown = sanitize(f"{statement}, the_end".encode())
    assert not leaks(shown)
    assert shown.endswith(", the_end")


@settings(deadline=None)
@given(backslash)
def test_no_literal_comes_out_where_backslashes_escape(statement: str) -> None:
    shown = sanitize(f"{statement}, the_end".encode(), backslash_escapes=True)
    assert not leaks(shown)
    assert shown.endswith(", the_end")


@settings(deadline=None)
@given(standard)
def test_no_cut_lets_a_literal_out(statement: str) -> None:
    whole = statement.encode()
    for end in range(len(whole) + 1):
        shown = sanitize(whole[:end], truncated=True)
        assert not leaks(shown)
        assert shown.endswith("…")


@settings(deadline=None)
@given(backslash)
def test_no_cut_lets_a_literal_out_where_backslashes_escape(statement: str) -> None:
    whole = statement.encode()
    for end in range(len(whole) + 1):
        assert not leaks(sanitize(whole[:end], truncated=True, backslash_escapes=True))


@settings(deadline=None)
@given(standard)
def test_generated_statements_are_shown_the_same_again(statement: str) -> None:
    shown = sanitize(statement.encode())
    assert sanitize(shown.encode()) == shown


@settings(deadline=None)
@given(
    st.binary()
    | st.lists(st.sampled_from([*NASTY, "SET ", "ALTER ", "1", "=", "["])).map(lambda it: "".join(it).encode()),
    st.booleans(),
    st.booleans(),
)
def test_any_bytes_become_one_short_printable_line(statement: bytes, truncated: bool, backslash_escapes: bool) -> None:
    shown = sanitize(statement, truncated=truncated, backslash_escapes=backslash_escapes)
    assert shown.isprintable()
    assert shown == shown.strip()
    assert len(shown) <= LIMIT
    assert shown.endswith("…") or not truncated


HOSTILE = [
    *(
        b"'",
        b"''",
        b'"',
        b"\\",
        b"\\'",
        b"E'\\",
        b"$",
        b"$a",
        b"$a$b",
        b"/*",
        b"*/",
        b"--",
        b"--\n",
        b"\n",
        b";",
        b"U&",
    ),
    *(
        b"(1,",
        b"(1),",
        b"1.",
        b"1e+1",
        b"'a'\n",
        b"'a' --\n",
        b"set ",
        b'set "',
        b"\xff",
        "é\\".encode(),
        b"$" + b"a" * 999,
    ),
]


@pytest.mark.timeout(20)  # each takes a tenth of a second; what is not linear would take minutes
@pytest.mark.parametrize("unit", HOSTILE)
@pytest.mark.parametrize("head", [b"", b"'", b"E'", b"$a$", b"/*", b"alter ", b"set ", b"copy from "])
def test_hostile_text_takes_linear_time(head: bytes, unit: bytes) -> None:
    statement = head + unit * (100_000 // len(unit))
    for backslash_escapes in (False, True):
        assert len(sanitize(statement, truncated=True, backslash_escapes=backslash_escapes)) <= LIMIT
