r"""Tags: what comments in statements say of where they come from, the route, the job, the trace.

Three spellings, several pairs in one comment separated by commas:

    /*job='nightly%20load',route='%2Finvoices'*/    sqlcommenter: URL-encoded, \' for a quote
    /* job=nightly, route=invoices */
    /*job:nightly,route:invoices*/                  marginalia

A pair that is not whole is passed over, and so is a comment that is a hint (`/*+`), has another one inside, or does not
end. What stands behind text that is not certain (`odd` and `open` of the tokens) may be part of a string: it is no tag.
Names and values were chosen by a client: their number and length are bounded, and they are printable.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Final
from urllib.parse import unquote

from proxy.attribution.statements import tokens

MAX_TAGS: Final = 32
MAX_NAME: Final = 64  # characters
MAX_VALUE: Final = 256  # characters; the rest is cut off

# One way to match, as in statements.py. A quote that closes nothing sends the search on behind the next comma.
_PAIR: Final = re.compile(
    r"\s*+(?P<name>[\w.%-]++)\s*+"
    r"(?:=\s*+'(?P<quoted>[^'\\]*+(?:\\.[^'\\]*+)*)'\s*+|[=:]\s*+(?P<bare>[^\s',][^,]*+))(?:,|\Z)|[^,]*+(?:,|\Z)",
    re.DOTALL,
)
_ESCAPED: Final = re.compile(r"\\(.)", re.DOTALL)


def merged(statements: Iterable[bytes], *, backslash_escapes: bool = False) -> dict[str, str]:
    """Return the tags of raw query texts, the oldest first; of the same name, the last.

    Never raises; takes time in proportion to the texts.

    Args:
        statements: the query texts, or their beginnings.
        backslash_escapes: standard_conforming_strings is off.
    """
    found: dict[str, str] = {}
    for statement in statements:
        for comment in _comments(statement, backslash_escapes=backslash_escapes):
            for name, value in _pairs(comment):
                if name in found or len(found) < MAX_TAGS:
                    found[name] = value
    return found


def _comments(statement: bytes, *, backslash_escapes: bool) -> Iterator[str]:
    """The insides of comments that can hold tags."""
    if b"/*" not in statement:
        return
    for kind, token in tokens(statement.decode(errors="replace"), backslash_escapes=backslash_escapes):
        if kind in ("odd", "open"):
            return
        inside = token[2:-2]
        if kind == "comment" and "/*" not in inside and not inside.startswith("+"):
            yield inside


def _pairs(comment: str) -> Iterator[tuple[str, str]]:
    for pair in _PAIR.finditer(comment):
        if pair["name"]:
            name = _decoded(pair["name"])
            value = pair["bare"].rstrip() if pair["quoted"] is None else _decoded(_ESCAPED.sub(r"\1", pair["quoted"]))
            if len(name) <= MAX_NAME and name.isprintable():
                yield name, "".join(c if c.isprintable() else "?" for c in value[:MAX_VALUE])


def _decoded(text: str) -> str:
    """Without URL-encoding. Python's sqlcommenters write %% for drivers that take % for a parameter's beginning."""
    return unquote(text.replace("%%", "%"))
