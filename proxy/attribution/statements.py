r"""Statement text as a log may show it: its shape and its names, never a literal.

The text is cut into tokens by the rules of Postgres's own lexer (documentation, "SQL Syntax", "Lexical Structure"; the
finer points from src/backend/parser/scan.l), because every simpler rule can be made to mistake where a string ends.

1. Strings of every form, dollar quotes, bit strings and numbers become `?`. Names, keywords, `$1` and operators stay.
2. A string goes on behind white space with a newline in it, under the rules of its first part: in E'a'⏎'it\'s' too.
3. A number takes along the letters that stick to it: the server is to judge 1a, 0x1F and 1_000, no digit is to be seen.
4. A name that holds what cannot be printed becomes `?`: no control character, bidirectional override or line break
   gets out. To Postgres every character beyond ASCII is a letter, also the no-break space somebody pasted before 42.
   So does a quoted name with a password in it, of a connection string that was put in the wrong quotes.
5. Comments and white space are one space; lists of literals and rows of them are one `(?)`, and so are lists of
   parameters behind IN; of rows that differ in parameters at most the first stays; `;` only stands between.
6. What is not certain is not shown, and `…` says so. Postgres refuses a text that ends inside a quote, and nobody knows
   which of its quotes is the wrong one: only what stands before the first string is shown. The same where a word is
   at the very end of a string ('O'Reilly', 'it\'s'; also 'a'AS b, which is legal), or a string at that of a number. A
   text that was cut short may well end inside a quote: only that one is `?`. Uncertain, too, is what stands in quotes
   that only a typesetter takes for quotes: they are letters to Postgres.
7. In Big5, GBK and Shift JIS the second byte of a character may look like a backslash or a bracket. Where it makes a
   difference which it is (an escape, the end of a name before $ or E'), the rest of the text is uncertain.
8. Statements made to carry secrets keep their kind alone, in case a secret is written as a name: roles, user mappings,
   servers, subscriptions, programs of COPY; of other statements' OPTIONS that much. A setting's value may be a bare
   word: `?` is all that is shown behind the first = or TO of SET, and of SET name in ALTER and CREATE.
"""

import re
from collections.abc import Iterator

# A line of a log stays readable; pg_stat_activity shows 1024 bytes (track_activity_query_size), literals included.
LIMIT = 500
ELLIPSIS = "…"

# Inside [...]: what a name may begin with, and go on with. A tag of a dollar quote is a name without a dollar sign.
_LETTER = r"A-Za-z_\x80-\U0010ffff"
_LETTER_DIGIT = rf"0-9{_LETTER}"
# Different undecodable bytes look alike when decoded: a tag made of them might seem to be closed by another.
_TAG = r"(?![0-9])[0-9A-Za-z_\x80-\ufffc\ufffe-\U0010ffff]*+"

# Everything repeated begins with what can be nothing else and ends where nothing else can follow: there is one way to
# match, and the time is linear. Only sets of characters are possessive: Python up to 3.11.4 gets possessive groups
# wrong, and may never come back from one (cpython 106052).
_GAP = r"(?:[ \t\f\v]++|--[^\n\r]*+)*[\n\r](?:[ \t\n\r\f\v]++|--[^\n\r]*+[\n\r])*"  # scan.l's quotecontinue
_PLAIN = r"'[^']*+(?:''[^']*+)*'(?!')"
_ESCAPED = r"'[^'\\]*+(?:(?:''|(?<![^\x00-\x7f])\\.)[^'\\]*+)*'(?!')"
_BITS = r"'[^']*+'"
# What may be punctuation or a character's second byte; those encodings begin them at 0x40.
_SECOND_BYTE = r"(?<=[^\x00-\x7f])[@[\\\]^`{|}~]"
_IN_NUMBER = rf"(?:[{_LETTER_DIGIT}]|\.(?!\.)|(?<=[eE])[+-](?=[0-9]))"
_NUMBER = rf"(?:(?<!\.)\.)?[0-9]{_IN_NUMBER}*(?!{_IN_NUMBER})"


def _string(prefix: str, body: str) -> str:
    return rf"{prefix}{body}(?:{_GAP}{body})*(?!{_GAP}')"


def _tokens_pattern(*, backslash_escapes: bool) -> re.Pattern[str]:
    plain = _ESCAPED if backslash_escapes else _PLAIN
    strings = [_string("[nN]?", plain), _string("[eE]", _ESCAPED), _string("[bBxX]", _BITS)]
    if not backslash_escapes:  # Postgres refuses U&'' otherwise; then it is left to "open"
        strings.append(_string("[uU]&", _PLAIN))
    closed = "|".join(strings)
    kinds = {
        "name": rf"""(?![eEnNbBxX]'|[uU]&')[{_LETTER}][{_LETTER_DIGIT}$]*+|"[^"]*+(?:""[^"]*+)*"(?!")""",
        # Bind counts in 16 bits: what is longer is no parameter, nor what sticks to more than it, a wrong dollar quote.
        "parameter": rf"\$[0-9]{{1,5}}(?![{_LETTER_DIGIT}$])",
        "number": rf"{_NUMBER}(?!['$])",
        "string": rf"(?:{closed})(?![{_LETTER_DIGIT}])|(?P<tag>\${_TAG}\$).*?(?P=tag)",
        "blank": r"[\x00-\x1f\x7f]++|--[^\n\r]*+",
        "comment": r"/\*",
        "end": ";",
        # Where the rest is uncertain: "odd", because of what touches what; "open", because the end is missing.
        "odd": rf"{closed}|{_NUMBER}|{_SECOND_BYTE}(?=\$|[bBeExX]')|\$[{_LETTER_DIGIT}]*+{_SECOND_BYTE}"
        rf"|\$[0-9]{{1,5}}[{_LETTER}$]",
        "open": rf"""(?:(?:[eEnNbBxX]|[uU]&)?'|"|\$(?![0-9])[{_LETTER_DIGIT}]*+\$).*""",
    }
    return re.compile("|".join(f"(?P<{kind}>{pattern})" for kind, pattern in kinds.items()), re.DOTALL)


_STANDARD = _tokens_pattern(backslash_escapes=False)
_BACKSLASH = _tokens_pattern(backslash_escapes=True)
# Quotation marks, accents and primes beyond ASCII: a name with one of them in it is a string that somebody pasted.
_LOOKS_QUOTED = re.compile(
    r"[\xab\xb4\xbb\u02b9-\u02bd\u02ca\u02cb\u2018-\u201f\u2032-\u2037\u2039\u203a\u300c-\u300f\uff02\uff07\uff40]"
)
# A password in a URL, or among a connection's keywords.
CREDENTIALS = re.compile(r"://[^/]*@|passw(?:or)?d\s*[=:]", re.IGNORECASE)
_COMMENT_EDGE = re.compile(r"/\*|\*/")

# In masked text a line break is the end of a statement: nothing else leaves one.
_MASKS = {"number": "?", "string": "?", "blank": " ", "comment": " ", "end": "\n"}
_BLANKS = re.compile(" {2,}")
_LIST = re.compile(r"([(\[]) ?[-+]? ?\?(?: ?, ?[-+]? ?\?)* ?(?:([)\]])|,? ?\Z)")
_ITEM = r"(?:\$[0-9]+|[-+]? ?\?)"
_PARAMETERS = re.compile(rf"(\bIN ?\() ?{_ITEM}(?: ?, ?{_ITEM})* ?(?:(\))|,? ?\Z)", re.IGNORECASE)
_PARAMETER = re.compile(r"\$[0-9]+")
_BRACKET = re.compile(r"([()])")
_BEFORE_ROW = re.compile(r"(?:\A|,|\bVALUES) ?\Z", re.IGNORECASE)
_ROWS = re.compile(r"\(\?\)(?: ?, ?\(\?\))*(?: ?,(?: ?\(\??)? ?\Z)?")

_SECRET = re.compile(
    r"(?:CREATE|ALTER) (?:USER MAPPING|ROLE|USER|GROUP|SERVER|SUBSCRIPTION|FOREIGN DATA WRAPPER)\b", re.IGNORECASE
)
_COPY = re.compile(r"COPY\b", re.IGNORECASE)
_PROGRAM = re.compile(r"(?P<bracket>[()])|\b(?:FROM|TO) PROGRAM\b(?P<quoted> ?\?)?", re.IGNORECASE)
_OPTIONS = re.compile(r"\A((?:ALTER|CREATE|IMPORT) FOREIGN\b.*?\bOPTIONS ?)\(.*", re.IGNORECASE)
_SETTING = re.compile(
    r"""\A((?:SET\b[^=]*?|(?:ALTER|CREATE)\b.*?\bSET\b(?:[^=(),"]|"[^"]*+")*?)(?:=|\bTO\b) ?).+""", re.IGNORECASE
)


def sanitize(statement: bytes, *, truncated: bool = False, backslash_escapes: bool = False) -> str:
    """Return what a log may show of a query text: one printable line without a literal.

    Never raises; takes time in proportion to the text.

    Args:
        statement: the bytes of the query text as the client sent them, without the closing zero byte.
        truncated: the end of the text is missing.
        backslash_escapes: standard_conforming_strings is off, so that a backslash escapes in '' as it does in E''.

    Returns:
        At most LIMIT characters; an ellipsis at the end says that something behind it is not shown. Several
        statements in one text are separated by "; ". The rules are at the head of this file.
    """
    found = tokens(statement.decode(errors="replace"), backslash_escapes=backslash_escapes)
    masked, complete = _mask(found, truncated=truncated)
    shown = ""
    for piece in filter(None, map(str.strip, _fold(masked).split("\n"))):
        shown = f"{shown}; {guarded(piece)}" if shown else guarded(piece)
        if len(shown) > LIMIT:
            break
    if complete and len(shown) <= LIMIT:
        return shown
    return shown[: LIMIT - 1].removesuffix(ELLIPSIS) + ELLIPSIS


def _mask(found: Iterator[tuple[str, str]], *, truncated: bool) -> tuple[str, bool]:
    """Return the text without its literals, and whether all of it is there."""
    out: list[str] = []
    certain: int | None = None  # how much of out stands before the first string
    for kind, token in found:
        if kind in ("odd", "open"):
            keep = len(out) if certain is None or (truncated and kind == "open") else certain
            return "".join(out[:keep]) + "?", False
        if kind == "string" and certain is None:
            certain = len(out)
        out.append(_MASKS.get(kind) or (shown_name(token) if kind == "name" else token))
    return "".join(out), not truncated


def shown_name(token: str) -> str:
    """Return a name as it may be shown: it itself, or `?`."""
    if not token.isprintable() or (token[0] == '"' and CREDENTIALS.search(token)):
        return "?"
    return token


def tokens(text: str, *, backslash_escapes: bool) -> Iterator[tuple[str, str]]:
    """Cut a query text into tokens, each behind its kind, by the rules at the head of this file.

    Args:
        text: the query text.
        backslash_escapes: as for `sanitize`.

    Yields:
        All of the text. What is between tokens is operators and spaces, a kind of its own. Behind `odd` and `open`
        nothing is certain.
    """
    pattern = _BACKSLASH if backslash_escapes else _STANDARD
    at = 0
    while token := pattern.search(text, at):
        yield "operators", text[at : token.start()]
        kind, at = str(token.lastgroup), token.end()
        if kind == "comment" and (at := _comment_end(text, at)) < 0:
            kind, at = "open", len(text)
        elif kind == "name" and _looks_quoted(token[0]):
            kind = "odd"
        yield kind, text[token.start() : at]
    yield "operators", text[at:]


def _looks_quoted(name: str) -> bool:
    """Whether a name without quotes is what somebody took for a string: by curly quotes, or by a dollar quote."""
    return name[0] != '"' and ("$$" in name or (not name.isascii() and _LOOKS_QUOTED.search(name) is not None))


def _comment_end(text: str, at: int) -> int:
    """Return where a comment ends whose inside begins at `at`, comments in it included; -1 if it does not."""
    depth = 1
    for edge in _COMMENT_EDGE.finditer(text, at):
        depth += 1 if edge[0] == "/*" else -1
        if not depth:
            return edge.end()
    return -1


def _fold(masked: str) -> str:
    """Make one of runs of spaces, of lists of literals and of rows that are the same, also where a cut ended them."""
    text = _PARAMETERS.sub(r"\1?\2", _LIST.sub(r"\1?\2", _BLANKS.sub(" ", masked)))
    return _ROWS.sub("(?)", _fold_rows(text))


def _fold_rows(text: str) -> str:
    """Drop each row that differs in parameters at most from the one in front of it."""
    out: list[str] = []
    shapes: list[str] = []  # the same without the parameters' numbers, and without spaces beside commas
    opened: list[int] = []  # where in out brackets are open
    rows: dict[int, int] = {}  # where they began, by where they ended
    for part in _BRACKET.split(text):
        out.append(part)
        shapes.append(_PARAMETER.sub("?", part.strip()).replace(" ,", ",").replace(", ", ","))
        if part == "(":
            opened.append(len(out) - 1)
        elif part == ")" and opened:
            start, end = opened.pop(), len(out)
            before = rows.get(start - 1) if out[start - 1].strip() == "," else None
            if before is not None and shapes[before : start - 1] == shapes[start:end]:
                del out[start - 1 :], shapes[start - 1 :]
            elif _BEFORE_ROW.search(out[start - 1]):
                rows[end] = start
    return "".join(out)


def guarded(statement: str) -> str:
    """Return what may be told of a statement, the rest of which is not shown: at most LIMIT characters and one.

    Args:
        statement: its text without literals, with single spaces.
    """
    if secret := _SECRET.match(statement):
        return f"{secret[0].upper()} {ELLIPSIS}"
    seen = statement[: LIMIT + 1]  # what these rules hide is always behind what they look for
    if _COPY.match(seen) and _runs_program(seen):
        return f"COPY {ELLIPSIS} PROGRAM {ELLIPSIS}"
    return _SETTING.sub(r"\1?", _OPTIONS.sub(rf"\1{ELLIPSIS}", seen, count=1), count=1)


def _runs_program(copy: str) -> bool:
    """Whether a COPY has a PROGRAM, and not only a table of that name in its query."""
    depth = 0
    for found in _PROGRAM.finditer(copy):
        if found["bracket"]:
            depth += 1 if found["bracket"] == "(" else -1
        elif not depth or found["quoted"]:
            return True
    return False
