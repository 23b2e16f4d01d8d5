"""Which statements end a transaction block, by their first words ("SQL Commands").

A failed block answers nothing else with success, so that these are all that has to be told apart while a client does
not know yet that its transaction is gone.
"""

import enum
import re
from typing import Final


class Exit(enum.Enum):
    """How a text's first statement would end a transaction block."""

    COMMIT = "commit"  # COMMIT, END, PREPARE TRANSACTION
    ROLLBACK = "rollback"  # ROLLBACK, ABORT
    NONE = "none"  # it would not
    UNKNOWN = "unknown"  # the text was cut before its first words were over


# White space as in scan.l, and the semicolons of empty statements; a comment to the end of its line.
_blank: Final = re.compile(rb"(?:[ \t\n\r\f\v;]|--[^\n\r]*)*").match
_word: Final = re.compile(rb"[A-Za-z0-9_$\x80-\xff]*").match
_edge: Final = re.compile(rb"/\*|\*/").search

_first_words: Final = {
    b"COMMIT": Exit.COMMIT,
    b"END": Exit.COMMIT,
    b"PREPARE": Exit.COMMIT,
    b"ROLLBACK": Exit.ROLLBACK,
    b"ABORT": Exit.ROLLBACK,
}


def exit_of(text: bytes, *, cut: bool = False) -> Exit:
    """How the first statement of a text would end a transaction block.

    Args:
        text: a query's text, raw.
        cut: its end is missing.
    """
    end = len(text) - text.endswith((b"/", b"-"))  # perhaps the first half of what begins a comment
    word, at = _next_word(text, 0)
    if cut and at >= end:
        return Exit.UNKNOWN
    way = _first_words.get(word, Exit.NONE)
    if way is Exit.NONE:
        return way
    second, at = _next_word(text, at)
    if word in {b"ROLLBACK", b"ABORT"} and second in {b"WORK", b"TRANSACTION"}:
        second, at = _next_word(text, at)
    if cut and at >= end:
        return Exit.UNKNOWN
    if word == b"PREPARE":
        return way if second == b"TRANSACTION" else Exit.NONE
    return Exit.NONE if second in {b"PREPARED", b"TO"} else way


def _next_word(text: bytes, at: int) -> tuple[bytes, int]:
    """The word behind white space and comments, in capitals, and where it ends; none at the end of the text."""
    while True:
        blank = _blank(text, at)
        at = blank.end() if blank else at
        if text[at : at + 2] != b"/*":
            break
        at = _comment_end(text, at + 2)
    word = _word(text, at)
    return (word[0].upper(), word.end()) if word else (b"", at)


def _comment_end(text: bytes, at: int) -> int:
    """Where a comment ends, with those in it; the end of the text if it does not."""
    depth = 1
    while depth:
        edge = _edge(text, at)
        if edge is None:
            return len(text)
        depth += 1 if edge[0] == b"/*" else -1
        at = edge.end()
    return at
