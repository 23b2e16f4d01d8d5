r"""Tags: what comments in statements say of where they come from, the route, the job, the trace.

Three spellings, several pairs in one comment separated by commas:

    /*job='nightly%20load',route='%2Finvoices'*/    sqlcommenter: URL-encoded, \' for a quote
    /* job=nightly, route=invoices */
    /*job:nightly,route:invoices*/                  marginalia

A pair that is not whole is passed over, and so is a comment that is a hint (`/*+`), has another one inside, or does not
end. What stands behind text that is not certain (`odd` and `open` of the tokens) may be part of a string: it is no tag.
Names and values were chosen by a client: their number and length are bounded, and they are printable.

Any comment may parse as a pair, `/* TODO: password: hunter2 */` too. So a log shows only those whose names are known to
say where a statement comes from, and those the operator has named. A query string, a session id in a path and whatever
has a password before a host are not shown even then.
"""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Final
from urllib.parse import unquote

from proxy.attribution.statements import CREDENTIALS, tokens

MAX_TAGS: Final = 32
MAX_NAME: Final = 64  # characters
MAX_VALUE: Final = 256  # characters; the rest is cut off

# Each list as its project documents it; without what only says which database it was, and without stack traces.
_SQLCOMMENTER: Final = {
    *("action", "app_name", "application", "controller", "db_driver", "framework", "route"),
    *("client_timezone", "dbapi_level", "dbapi_threadsafety", "driver_paramstyle", "libpq_version"),
}  # google/sqlcommenter: Django, Flask, psycopg2, SQLAlchemy, Sequelize, knex, Spring, Laravel, Go; OpenTelemetry's own
_MARGINALIA: Final = {
    *("application", "controller", "controller_with_namespace", "action", "job", "sidekiq_job", "line"),
    *("hostname", "pid", "request_id"),
}
_RAILS: Final = {"application", "pid", "controller", "namespaced_controller", "action", "job", "source_location"}
_OPENTELEMETRY: Final = {
    *("code.function.name", "code.file.path", "code.line.number", "code.column.number", "http.route"),
    *("code.function", "code.namespace", "code.filepath", "code.lineno", "code.column"),  # before version 1.30
}
_BY_HAND: Final = {"file", "function", "path", "endpoint", "callsite", "task"}

# The names of tags that any log may show.
KNOWN: Final = frozenset(_SQLCOMMENTER | _MARGINALIA | _RAILS | _OPENTELEMETRY | _BY_HAND)
_TRACING: Final = frozenset({"traceparent", "tracestate"})  # fields of their own (trace.py); the second one is opaque

_PATHS: Final = frozenset({"route", "http.route", "path", "endpoint"})
# Where a query string, or a session id in a path, begins; (?P<id>...) of a route that is a pattern does not begin one.
_QUERY: Final = re.compile(
    r"(?:(?<!\()\?|\?(?!P?<|:)|;|%(?:25)*(?:3F|3B|26|23)|#[^/]*=).*", re.DOTALL | re.IGNORECASE
)  # encoded twice, too; a # alone stands between a class and its method
_SECRET: Final = re.compile(
    r"(?:pass(?:word|wd|phrase)|pwd|secret|token|credentials?|api[_-]?key|access[_-]?key|authorization)[\s\"']*[=:]|\bbearer\s",
    re.IGNORECASE,
)

# One way to match, as in statements.py. A quote that closes nothing sends the search on behind the next comma.
_PAIR: Final = re.compile(
    r"\s*+(?P<name>[\w.%-]++)\s*+"
    r"(?:=\s*+'(?P<quoted>[^'\\]*+(?:\\.[^'\\]*+)*)'\s*+|[=:]\s*+(?P<bare>[^\s',][^,]*+))(?:,|\Z)|[^,]*+(?:,|\Z)",
    re.DOTALL,
)
# As the ends of long texts have to be written: nothing but pairs, whose values hold nothing that could end a string.
_ENDING_PAIR: Final = rb"""[\w.%-]++(?:='[^'"\\$*]*+'|[=:][\w./#@+%-]++)"""
_LAST: Final = re.compile(rb"(/\* ?" + _ENDING_PAIR + rb"(?:, ?" + _ENDING_PAIR + rb")* ?\*/)[\s;]*\Z")
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


def shown(tags: Mapping[str, str], wanted: Collection[str] = ()) -> dict[str, str]:
    """Return the tags that a log may show; none of them is `traceparent` or `tracestate`.

    Args:
        tags: as `merged` returns them.
        wanted: globs for names that are shown besides KNOWN; case counts.
    """
    found: dict[str, str] = {}
    for name, value in tags.items():
        known = name in KNOWN or any(fnmatchcase(name, glob) for glob in wanted)
        told = _QUERY.sub("", value) if name in _PATHS or "/" in value else value
        if known and name.lower() not in _TRACING and not CREDENTIALS.search(value) and not _SECRET.search(told):
            found[name] = told
    return found


def last_comment(end: bytes) -> bytes:
    """The comment that ends a text of which only the end is known, if it is all tags; else b"".

    The end begins anywhere, in a string perhaps. But what a server has taken can end so only with a comment: a string,
    a name or a dollar quote would have to be closed behind the last pair, by what stands in no comment like this.
    """
    whole = _LAST.search(end)
    return whole[1] if whole else b""


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
