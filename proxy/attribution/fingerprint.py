r"""The fingerprint of a statement: the same for the same shape, whatever its values, spacing, case and comments.

A statement is brought into one form, which never leaves this file, and hashed. In that form

1. a literal or parameter is `?`: a string, a number, $1, TRUE, FALSE and NULL (not in IS NULL and NOT NULL), DEFAULT in
   a list, together with signs that cannot be a subtraction and the cast by which drivers say a value's type
   ('2026-01-01'::date). So it does not matter whether the driver or the server puts values in.
2. Of items of a list that are the same one after the other, values in them, one counts: IN (?, ?), VALUES (?, now()),
   (?, now()). The same for statements of one text. An ARRAY of values is a value.
3. Keywords and names without quotes are lower case, A to Z alone, as Postgres folds them. Quoted names stay as they
   are; a quoted one that needs no quotes has lost them, unless it then meant something else ("user", "char").
4. Names that only tell one savepoint, cursor or prepared statement from the next are values, too: libraries count them.
5. A statement made to carry secrets counts by its kind, a setting by its name (statements.py): nobody can guess at
   a password by hashing, since nothing that holds one is hashed.
6. Where the end of a text is missing or not certain, what stands before its first value counts, CUT_SHAPE characters at
   most: how long values are, and so where the cut falls, makes no difference. What is left beside 2048 kept bytes is
   for comments and spaces. So of long texts that begin alike, up to their first value, fingerprints are the same; and
   that of a text which is kept whole is another one.
"""

import hashlib
import re
from collections.abc import Iterable, Iterator
from typing import Final

from proxy.attribution.statements import ELLIPSIS, guarded, shown_name, tokens

CUT_SHAPE: Final = 1024  # characters

_VALUE: Final = "?"
_OPERATOR_WITH_IT: Final = str.maketrans("?", "\1")  # no control character is ever part of a token
_LOWER: Final = str.maketrans("ABCDEFGHIJKLMNOPQRSTUVWXYZ", "abcdefghijklmnopqrstuvwxyz")

_OPERATORS: Final = re.compile(r"::|:=|[-+*/<>=~!@#%^&|`?]++|[^ ]")
# An operator of several characters ends in a sign only with one of these in it ("Lexical Structure", "Operators").
_KEEPS_SIGN: Final = re.compile(r"[~!@#%^&|`?]")
_PLAIN_NAME: Final = re.compile(r'"([a-z_\x80-\U0010ffff][a-z0-9_$\x80-\U0010ffff]*+)"')

# Keywords that are a value, a type or a clause by themselves where the same word in quotes is a name.
_MEANS_MORE: Final = frozenset({
    "all", "any", "array", "bit", "case", "char", "current_catalog", "current_date", "current_role", "current_schema",
    "current_time", "current_timestamp", "current_user", "default", "distinct", "exists", "false", "interval",
    "localtime", "localtimestamp", "not", "null", "row", "session_user", "some", "system_user", "true", "user",
    "values",
})  # fmt: skip
# Behind them stands a value, so that a sign is not a subtraction.
_BEFORE_VALUE: Final = frozenset({
    "all", "and", "any", "as", "between", "by", "case", "default", "distinct", "else", "from", "having", "ilike", "in",
    "is", "like", "limit", "not", "offset", "on", "or", "return", "returning", "select", "some", "symmetric", "then",
    "to", "when", "where",
})  # fmt: skip
_KEEPS_QUOTES: Final = _MEANS_MORE | _BEFORE_VALUE
_COUNTED: Final = frozenset({"name", "number", "string", "parameter", "odd", "end"})
_NO_VALUE: Final = '"/'  # what begins a name or a comment that does not end
_CONSTANTS: Final = frozenset({"null", "true", "false"})
# What names a savepoint or a cursor, in the form of a statement.
_HANDLE: Final = re.compile(
    r"""\A(?:((?:savepoint|release|rollback(?:\ (?:work|transaction))?\ to|close|fetch|move|deallocate)\b).*
    |(declare)\ (?:"(?:[^"]|"")*"|[^" ]+))""",
    re.DOTALL | re.VERBOSE,
)
_GUARDED: Final = ("alter ", "copy ", "create ", "import ", "set ")
_CLOSING: Final = {"(": ")", "[": "]"}
_LONG: Final = 64  # characters of a list; a longer one is hashed, so that nothing is copied as often as it is nested


def fingerprint(statement: bytes, *, truncated: bool = False, backslash_escapes: bool = False) -> str:
    """Return the fingerprint of a query text, by the rules at the head of this file.

    Never raises; takes time in proportion to the text.

    Args:
        statement: the bytes of the query text as the client sent them, without the closing zero byte.
        truncated: the end of the text is missing.
        backslash_escapes: standard_conforming_strings is off.

    Returns:
        16 hexadecimal digits; "" where there is no statement, or nothing of it is certain.
    """
    found: Iterable[tuple[str, str]] = tokens(statement.decode(errors="replace"), backslash_escapes=backslash_escapes)
    if not truncated:
        found = list(found)
    shape = _Shape(whole=not truncated and all(kind not in ("odd", "open") for kind, _ in found))
    shape.read(found)
    if truncated:
        shape.forget_last()
    form = shape.form()
    return hashlib.blake2b(form.encode(), digest_size=8).hexdigest() if form else ""


class _List:
    """What stands between two brackets, or all of a statement: items with commas between them.

    Attributes:
        bracket: the one that opens it; "" for a statement.
        items: the tokens of those that are finished.
        item: the tokens of the one that is not.
    """

    __slots__ = ("_last", "bracket", "item", "items")

    def __init__(self, bracket: str = "") -> None:
        self.bracket = bracket
        self.items: list[list[str]] = []
        self.item: list[str] = []
        self._last: list[str] = []  # the tokens of the last finished item

    def finish_item(self) -> None:
        """An item ends here; one with a value in it that is the same as the last is dropped."""
        item, self.item = self.item, []
        if item and (item is self._last or not self._repeats(item)):
            self.items.append(item)
            self._last = item

    def _repeats(self, item: list[str]) -> bool:
        return bool(self.bracket) and item == self._last and any(_VALUE in token for token in item)

    def add_list(self, form: str) -> None:
        """A list in brackets ends here; a row that is the same as the last is dropped, and the last one goes on."""
        a_row = not self.item and self._last[-2:-1] in ([], ["values"])
        if a_row and self._last[-1:] == [form]:
            self.items.pop()
            self.item = self._last
        else:
            self.item.append(form)

    def form(self) -> str:
        """Its items in one text."""
        return ",".join(map(" ".join, self.items))


class _Shape:
    """Brings tokens into the form that is hashed.

    Args:
        whole: all of the text is there and certain.
    """

    __slots__ = ("_done", "_lists", "_statements", "_whole")

    def __init__(self, *, whole: bool) -> None:
        self._whole = whole
        self._done = False  # what follows does not count
        self._lists = [_List()]
        self._statements: list[str] = []

    def read(self, found: Iterable[tuple[str, str]]) -> None:
        """Take what counts of tokens, each behind its kind."""
        length = 0
        for kind, token in _split(found):
            length += len(token) if kind in ("name", "operators") else 1
            if not self._whole and (self._done or length > CUT_SHAPE):
                self._done = True
                return
            if kind == "name":
                self._name(token)
            elif kind == "operators":
                self._operator(token)
            elif kind == "end":
                self._finish_statement()
            else:
                self._value()

    def forget_last(self) -> None:
        """The text was cut: its last token may be half of one, unless there was a value before."""
        if not self._done and self._lists[-1].item:
            self._lists[-1].item.pop()

    def form(self) -> str:
        """The form of the text; "" of none."""
        self._finish_statement()
        if not self._statements:
            return ""
        return "\n".join(self._statements) + ("" if self._whole else ELLIPSIS)

    def _operator(self, operator: str) -> None:
        item = self._lists[-1].item
        if operator in _CLOSING:
            self._lists.append(_List(operator))
        elif operator in ")]" and len(self._lists) > 1:
            self._close()
        elif operator == ",":
            self._lists[-1].finish_item()
        else:
            head = operator if _KEEPS_SIGN.search(operator) else operator[0] + operator[1:].rstrip("+-")
            item.append(head.translate(_OPERATOR_WITH_IT))
            item.extend(operator[len(head) :])

    def _name(self, token: str) -> None:
        item = self._lists[-1].item
        word = _word(shown_name(token))
        if item[-2:] == [_VALUE, "::"]:
            item.pop()
        elif self._is_value(word):
            self._value()
        else:
            item.append(word)

    def _is_value(self, word: str) -> bool:
        item = self._lists[-1].item
        if word in _CONSTANTS:
            return item[-1:] not in (["is"], ["not"])
        return word == _VALUE or (word == "default" and not item and bool(self._lists[-1].bracket))

    def _value(self) -> None:
        item = self._lists[-1].item
        while item and item[-1] in ("+", "-") and not _is_operand(item[-2:-1]):
            item.pop()
        item.append(_VALUE)
        self._done = not self._whole

    def _close(self) -> None:
        """A bracket closes: what it held is a token of what is around it."""
        closed = self._lists.pop()
        closed.finish_item()
        inside = closed.form()
        around = self._lists[-1]
        if closed.bracket == "[" and inside in ("", _VALUE):
            if around.item[-1:] == ["array"]:
                around.item.pop()
                return self._value()
            if not around.item and around.bracket == "[":
                return self._value()
            if not inside and around.item[-1:] == [_VALUE]:
                return None  # of a type: '{}'::int[]
        around.add_list(closed.bracket + _short(inside) + _CLOSING[closed.bracket])
        return None

    def _finish_statement(self) -> None:
        """A statement ends here, in brackets, too: those of a rule are statements of their own."""
        while len(self._lists) > 1:
            self._close()
        self._lists[0].finish_item()
        statement = self._lists[0].form()
        self._lists = [_List()]
        if statement.startswith(_GUARDED):
            statement = guarded(statement)
        statement = _HANDLE.sub(r"\1\2 ?", statement)
        if statement and self._statements[-1:] != [statement]:  # drivers join what they execute many times
            self._statements.append(statement)


def _split(found: Iterable[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """The tokens that count, operators one by one."""
    for kind, token in found:
        if kind == "operators":
            for operator in _OPERATORS.findall(token):
                yield kind, operator
        elif kind in _COUNTED or (kind == "open" and token[0] not in _NO_VALUE):
            yield kind, token


def _word(name: str) -> str:
    """A name as Postgres compares it."""
    if name[0] != '"':
        return name.translate(_LOWER)
    plain = _PLAIN_NAME.fullmatch(name)
    return plain[1] if plain and plain[1] not in _KEEPS_QUOTES else name


def _is_operand(tokens_before: list[str]) -> bool:
    """Whether a sign behind them is an operator between two values."""
    if not tokens_before or tokens_before[0] in _BEFORE_VALUE:
        return False
    first = tokens_before[0][0]
    return first in '?(["_' or first.isalnum() or not first.isascii()


def _short(inside: str) -> str:
    """What brackets hold, or a hash of it; whether there are values in it can still be told."""
    if len(inside) <= _LONG:
        return inside
    return _VALUE * (_VALUE in inside) + hashlib.blake2b(inside.encode(), digest_size=16).hexdigest()
