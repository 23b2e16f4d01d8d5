"""What is told at the end: one line if nothing leaked, else a paragraph for each culprit and the ledger's table."""

from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from proxy.report.events import Leak, LeakAbandoned, LeakEvent, LeakReport, LeakResolved
from proxy.report.ledger import Who
from proxy.report.summary import named, seconds, who
from proxy.report.table import ledger_table
from proxy.run.tally import Tally

LEFT: Final = "left"  # how a client went that had not gone when the command had ended
MAX_PARAGRAPHS: Final = 20  # the table has all
MAX_NOTICES: Final = 20

_went: Final = {
    "terminate": "said goodbye without ending it",
    "reset": "broke the connection without ending it",
    "timeout": "was lost without ending it",
    LEFT: "still had it open when the command had ended",
}
NO_WAY: Final = "no session got through to the server, so nothing was watched; what pgleash was told:"
NOTHING_SEEN: Final = (
    "no session came through pgleash, so nothing was watched: "
    "does the command connect by DATABASE_URL, or by PGHOST and PGPORT?"
)


class Figures(NamedTuple):
    """What was counted.

    Attributes:
        leaked: transactions that were flagged, ended by pgleash, or left open.
        sessions: sessions that were opened.
        blocks: transaction blocks that ended by themselves.
    """

    leaked: int
    sessions: int
    blocks: int


def leaked(reports: Iterable[LeakReport]) -> int:
    """How many transactions leaked."""
    return sum(report.leaks for report in reports)


def _whose(report: LeakReport) -> Who:
    return Who(report.client, report.fingerprint)


def verdict(figures: Figures, reports: list[LeakReport], tally: Tally) -> str:
    """What is told, with a line break at its end.

    Args:
        figures: what was counted.
        reports: the ledger.
        tally: what happened.
    """
    parts = [f"pgleash: {_headline(figures, reports, tally)}\n"]
    parts += [_paragraph(report, tally) for report in reports[:MAX_PARAGRAPHS]]
    parts += [f"{ledger_table(reports)}\n"] if reports else []
    notices = "".join(_notices(tally))
    return "\n".join([*parts, notices] if notices else parts)


def _headline(figures: Figures, reports: list[LeakReport], tally: Tally) -> str:
    sessions = _count(figures.sessions, "session")
    if not figures.sessions:
        return NO_WAY if tally.notices else NOTHING_SEEN
    if not figures.leaked:
        return f"no leak in {sessions} and {_count(figures.blocks, 'transaction block')}"
    clients = len({report.client for report in reports})
    return f"{_count(figures.leaked, 'leak')} of {_count(clients, 'client')} in {sessions}"


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"


def _length(length: float) -> str:
    """Tests are over in milliseconds."""
    return seconds(length) if length >= 1 else f"{length * 1000:.0f} ms"


def _paragraph(report: LeakReport, tally: Tally) -> str:
    event = tally.last.get(_whose(report))
    name = named(event.leak.session) if event else who(report.client)
    rows = [("class", report.leak_class), ("count", _how_often(report))]
    if event:
        rows += _details(event)
    else:
        rows.append(("opened by", report.opener))
    return f"{name}\n" + "".join(f"  {label:<11} {text}\n" for label, text in rows if text)


def _how_often(report: LeakReport) -> str:
    times = _count(report.leaks, "transaction")
    longest = f" together, {_length(report.longest_s)} at most" if report.leaks > 1 else ""
    held = f", held {_length(report.held_s)}{longest}" if report.held_s else ""
    left = f", {report.abandoned} left open" if report.abandoned else ""
    late = f", {report.committed} committed in the end" if report.committed else ""
    return f"{times}{held}{left}{late}"


def _details(event: LeakEvent) -> Iterator[tuple[str, str]]:
    leak, transaction = event.leak, event.leak.transaction
    statements = _count(transaction.statements, "statement")
    yield "opened by", transaction.opener or transaction.fingerprint
    yield "first write", "" if transaction.first_write == transaction.opener else transaction.first_write
    yield "last", "" if transaction.last == transaction.opener else transaction.last
    yield "lasted", f"{_length(transaction.age_s)} with {statements}, {_length(transaction.idle_s)} of it idle"
    yield "end", _end(event)
    yield "tags", " ".join(f"{name}={value}" for name, value in (transaction.tags or {}).items())
    yield "trace", transaction.trace_id
    yield "process", _process(leak)
    yield "blocked", str(leak.blast.blocked_sessions) if leak.blast and leak.blast.blocked_sessions else ""
    yield "leak", leak.id


def _end(event: LeakEvent) -> str:
    if isinstance(event, LeakResolved):
        return f"{event.outcome}{', going on with ' if event.resumed_with else ''}{event.resumed_with}"
    if not isinstance(event, LeakAbandoned):
        return ""
    busy = f", while running {event.running}" if event.running else ""
    return f"the client {_went.get(event.how, 'went away without ending it')}{busy}"


def _process(leak: Leak) -> str:
    process = leak.session.process
    return f"{process.executable} (pid {process.pid})".strip() if process else ""


def _notices(tally: Tally) -> Iterator[str]:
    notices = list(tally.notices.values())
    for notice in notices[:MAX_NOTICES]:
        times = f" ({notice.times} times)" if notice.times > 1 else ""
        yield f"pgleash: {notice.sentence}{times}\n"
    if len(notices) > MAX_NOTICES:
        yield f"pgleash: and {len(notices) - MAX_NOTICES} more warnings\n"
