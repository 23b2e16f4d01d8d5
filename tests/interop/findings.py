"""What a run has found out about clients, as docs/compatibility.md shows it."""

import re
from pathlib import Path

from tests.compatibility import NOTHING, Section, Table
from tests.interop.catalogue import Client
from tests.interop.play import Line, Outcome
from tests.interop.stage import LIMIT, ROLL_BACK_LIMIT, Stage

DRIVER, HAS_NO, RAISES, SQLSTATE, TEXT = "driver", "has no", "its next statement raises", "SQLSTATE", "the text has"
TRANSPORTS = ("plain", "TLS")
PARTS = {  # of our FATAL
    "our message": "terminating connection due to idle-in-transaction timeout",
    "the figures": "The transaction was held for",
    "the leak's id": "The log of pgleash has more about leak",
}

clients = Table("", "client", [DRIVER, *TRANSPORTS, HAS_NO, RAISES, SQLSTATE, TEXT])
unhandled = Table(
    "Without a handler for what arrives between two statements", "client", ["when its leak is terminated"]
)
SAME = "the same connection goes on"
ROLLED_BACK = {
    "statement": "its next statement raises",
    "commit": "COMMIT after it",
    "commit at once": "COMMIT as the first",
}
rolled_back = Table(
    f"When a leak of {ROLL_BACK_LIMIT} was rolled back",
    "client",
    [*ROLLED_BACK.values(), SAME],
)
section = Section("drivers", Path(__file__).parent, clients, unhandled, rolled_back)
servers: set[str] = set()
_versions: dict[Client, dict[str, None]] = {}  # in the order in which they came


def record_run(stage: Stage, outcome: Outcome) -> None:
    """Record what a client has shown in a run that was as it should be."""
    driver = f"{outcome.driver} {outcome.version}"
    seen = _versions.setdefault(stage.client, {})
    seen[driver] = None
    row = stage.client.name
    clients.record(row, DRIVER, ", ".join(seen))
    if stage.tls and len(seen) > 1:
        clients.record(row, DRIVER, f"{next(iter(seen))}; with TLS {outcome.version}")
    clients.record(row, HAS_NO, ", ".join(outcome.unsupported()) or NOTHING)
    clients.record(row, RAISES, _raised(outcome.leak))
    clients.record(row, SQLSTATE, outcome.leak["sqlstate"] or NOTHING)
    if not stage.tls:
        clients.record(row, TEXT, _text(outcome.leak["text"]))


def record_without_a_handler(stage: Stage, outcome: Outcome) -> None:
    """Record what becomes of an application that handles no events."""
    column = "when its leak is terminated"
    if outcome.status == 0:
        unhandled.record(stage.client.name, column, "goes on; its next statement raises as above")
        return
    thrown = re.search(r"^\w*[Ee]rror: .*$", outcome.errors, re.MULTILINE)
    what = thrown[0] if thrown else outcome.errors.strip().splitlines()[-1]
    unhandled.record(stage.client.name, column, f"the process ends: `{what}`")


def record_rollback(stage: Stage, outcome: Outcome, *, kept: bool) -> None:
    """Record what a client sees of a transaction that was rolled back."""
    row = stage.client.name
    for name, column in ROLLED_BACK.items():
        line = outcome.steps[name]
        rolled_back.record(row, column, line.get("unsupported") or _told(line["result"]))
    gone_on = outcome.steps["go on"].get("unsupported") or ("yes" if kept else "no, it is closed")
    rolled_back.record(row, SAME, gone_on)


def heading() -> str:
    """What the table is about, with the versions of the servers that took part."""
    return (
        f"Through Postgres {', '.join(sorted(servers))}, and what a leak of {LIMIT} looks like when it was terminated"
    )


def _told(result: Line) -> str:
    """What raised, and its SQLSTATE."""
    if result["raised"] is None:
        return "nothing: it has rolled back by itself"
    return " ".join([_raised(result), result["sqlstate"] or ""]).strip()


def _raised(leak: Line) -> str:
    events = [f"event `{event}`" for event in leak.get("events", ())]
    public = ".".join(part for part in leak["raised"].split(".") if not part.startswith("_"))
    return "; ".join([f"`{public}`", *events])


def _text(text: str) -> str:
    """Which parts of ours it has; without any, what it is."""
    parts = [name for name, words in PARTS.items() if words in text]
    return ", ".join(parts) or f"`{' '.join(re.sub(r':[0-9]{2,5}', ':…', text).split())}`"
