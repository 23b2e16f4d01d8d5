"""The first words of a text once more, as scan.l reads them: byte by byte, slowly, and without a regular expression.

At each place the longest match of all rules counts, and among equals the first rule.
"""

from collections.abc import Iterator
from typing import Final

from proxy.wire.exits import Exit

SPACE: Final = b" \t\n\r\f\v"
LINE_ENDS: Final = b"\n\r"
DIGITS: Final = b"0123456789"
LETTERS: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_"
FIRST_HIGH: Final = 0x80
SEMICOLON: Final = b";"
OTHER: Final = b"?"  # any other token: nothing behind it matters

# What no statement begins with: a text with such a one is refused as a whole, whatever stands before it.
NEVER_FIRST: Final = frozenset((b"TO", b"PREPARED", b"WORK", b"TRANSACTION"))

OF_OTHERS: Final = (b"PREPARED", b"TO")  # COMMIT PREPARED, ROLLBACK TO: they end no block


def tokens(text: bytes) -> Iterator[bytes]:
    """The words of a text, in capitals, and its semicolons, up to the first token that is neither."""
    at = 0
    while at < len(text):
        if text[at] in SPACE:
            at += 1
        elif text.startswith(b"--", at):
            at = _line_end(text, at)
        elif text.startswith(b"/*", at):
            at = _comment_end(text, at)
        elif text.startswith(b";", at):
            yield SEMICOLON
            at += 1
        elif _begins_identifier(text[at]):
            begin = at
            while at < len(text) and _continues_identifier(text[at]):
                at += 1
            yield text[begin:at].upper()
        else:
            yield OTHER
            return


def _begins_identifier(byte: int) -> bool:
    return byte in LETTERS or byte >= FIRST_HIGH


def _continues_identifier(byte: int) -> bool:
    return _begins_identifier(byte) or byte in DIGITS or byte == ord("$")


def _line_end(text: bytes, at: int) -> int:
    while at < len(text) and text[at] not in LINE_ENDS:
        at += 1
    return at


def _comment_end(text: bytes, at: int) -> int:
    """Rules xcstart (of which two bytes are taken), xcstop (any number of stars and a slash) and what is inside."""
    depth = 0
    while at < len(text):
        stars = 0
        while at + stars < len(text) and text[at + stars] == ord("*"):
            stars += 1
        if stars and text[at + stars : at + stars + 1] == b"/":
            depth -= 1
            at += stars + 1
            if not depth:
                return at
        elif stars:
            at += stars
        elif text.startswith(b"/*", at):
            depth += 1
            at += 2
        else:
            at += 1
    return at


def statements(text: bytes) -> list[list[bytes]]:
    """The tokens of each statement that is not empty."""
    found: list[list[bytes]] = [[]]
    for token in tokens(text):
        if token == SEMICOLON:
            found.append([])
        else:
            found[-1].append(token)
    return [statement for statement in found if statement]


def slow_exit_of(text: bytes) -> Exit:
    """What `exit_of` should say, by the grammar of the five statements."""
    words = [*next(iter(statements(text)), []), b"", b"", b""]
    match words[0]:
        case b"COMMIT" | b"END":
            return Exit.NONE if words[1] in OF_OTHERS else Exit.COMMIT
        case b"PREPARE":
            return Exit.COMMIT if words[1] == b"TRANSACTION" else Exit.NONE
        case b"ROLLBACK" | b"ABORT":
            behind = words[2] if words[1] in {b"WORK", b"TRANSACTION"} else words[1]
            return Exit.NONE if behind in OF_OTHERS else Exit.ROLLBACK
    return Exit.NONE


def is_refused(text: bytes) -> bool:
    """Whether a statement begins as none does, so that nothing of the text is ever run."""
    return any(statement[0] in NEVER_FIRST for statement in statements(text))
