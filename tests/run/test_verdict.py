"""What is told at the end: the figures, a paragraph for each culprit, what else went wrong."""

import dataclasses

from proxy.report import events
from proxy.report.event import Event
from proxy.report.reporter import Reporter
from proxy.run.tally import Tally
from proxy.run.verdict import MAX_NOTICES, MAX_PARAGRAPHS, Figures, leaked, verdict

LEAK = events.Leak(
    id="abcdefgh",
    leak_class="uncommitted_write",
    hold="idle_in_transaction",
    held_s=2.0,
    limit_s=2.0,
    rule="default",
    session=events.Session(
        client=events.Client(user="u", database="d", application_name="web", address="127.0.0.1"),
        process=events.Process(pid=17, executable="/usr/bin/node"),
        id="s-1",
        port=1,
    ),
    transaction=events.TransactionFacts(
        age_s=2.5, idle_s=2.25, statements=3, opener="UPDATE t", first_write="UPDATE t", last="SELECT ?",
        fingerprint="f", tags={"route": "/x", "job": "y"}, trace_id="5bd66ef5095369c7",
    ),
    blast=events.Blast(blocked_sessions=12),
)  # fmt: skip


def other(name: str = "web", leak_id: str = "other", fingerprint: str = "f") -> events.Leak:
    client = dataclasses.replace(LEAK.client, application_name=name)
    return dataclasses.replace(
        LEAK,
        id=leak_id,
        session=dataclasses.replace(LEAK.session, client=client),
        transaction=dataclasses.replace(LEAK.transaction, fingerprint=fingerprint),
    )


def flag(leak: events.Leak = LEAK) -> events.LeakFlagged:
    return events.LeakFlagged(summary="", leak=leak, flagged=True)


def abandon(leak: events.Leak = LEAK, *, flagged: bool, how: str = "eof") -> events.LeakAbandoned:
    return events.LeakAbandoned(summary="", leak=leak, flagged=flagged, how=how, running="SELECT pg_sleep(?)")


def told(*happened: Event, sessions: int = 3, blocks: int = 0) -> str:
    tally = Tally()
    reporter = Reporter(tally)
    for event in happened:
        reporter.emit(event)
    reports = reporter.ledger.reports()
    return verdict(Figures(leaked(reports), sessions, blocks), reports, tally)


def test_a_culprit_has_a_paragraph_and_a_row() -> None:
    assert (
        told(flag(), abandon(flagged=True))
        == """\
pgleash: 1 leak of 1 client in 3 sessions

web (u@d, node, pid 17)
  class       uncommitted_write
  count       1 transaction, held 2.0 s, 1 left open
  opened by   UPDATE t
  last        SELECT ?
  lasted      2.5 s with 3 statements, 2.2 s of it idle
  end         the client went away without ending it, while running SELECT pg_sleep(?)
  tags        route=/x job=y
  trace       5bd66ef5095369c7
  process     /usr/bin/node (pid 17)
  blocked     12
  leak        abcdefgh

client                leaks  open  resolved  false alarms  rolled back  terminated  abandoned  held  longest  opened by
web (u@d, 127.0.0.1)      1     0         0             0            0           0          1  2.0s     2.0s  UPDATE t
"""
    )


def test_a_transaction_counts_once_whether_it_was_flagged_or_not() -> None:
    assert told(flag(), abandon(flagged=True), abandon(other(), flagged=False)).startswith(
        "pgleash: 2 leaks of 1 client in 3 sessions\n"
    )
    assert "  count       2 transactions, held 4.0 s together, 2.0 s at most, 2 left open\n" in told(
        flag(), abandon(flagged=True), abandon(other(), flagged=False)
    )
    assert told(flag(), flag(other("jobs"))).startswith("pgleash: 2 leaks of 2 clients in 3 sessions\n")


def test_what_becomes_known_later_belongs_to_the_same_account() -> None:
    """What opened it may be known better when it ends; the ledger keeps the account that it began with."""
    ended = abandon(dataclasses.replace(other(fingerprint="g"), id=LEAK.id), flagged=True)
    assert "end         the client went away" in told(flag(), ended)


def test_who_has_only_read_and_says_goodbye_is_let_go() -> None:
    """As the ledger has it; also beside a leak of the same account."""
    left = events.LeakLeft(summary="", leak=other(), flagged=False, how="terminate", running="")
    assert told(left) == "pgleash: no leak in 3 sessions and 0 transaction blocks\n"
    assert told(abandon(flagged=False), left).startswith("pgleash: 1 leak of 1 client in 3 sessions\n")


def test_nothing_leaked() -> None:
    assert told(sessions=12, blocks=431) == "pgleash: no leak in 12 sessions and 431 transaction blocks\n"


def test_a_mistake_is_told_once_and_is_no_leak() -> None:
    mistake = events.SilentRollback(
        summary="web (u@d) committed a failed transaction", session=LEAK.session, transaction=LEAK.transaction
    )
    assert told(mistake, mistake, sessions=1, blocks=1) == (
        "pgleash: no leak in 1 session and 1 transaction block\n"
        "\n"
        "pgleash: client.silent_rollback: web (u@d) committed a failed transaction (2 times)\n"
    )


def test_the_end_is_short_however_much_went_wrong() -> None:
    leaks = [flag(other(f"client-{number}", f"leak-{number}")) for number in range(MAX_PARAGRAPHS + 5)]
    causes = [events.ProtocolViolation(reason=f"reason {number}") for number in range(MAX_NOTICES + 5)]
    said = told(*leaks, *causes)
    assert said.count("  class       ") == MAX_PARAGRAPHS
    assert said.count("(u@d, 127.0.0.1)") == MAX_PARAGRAPHS + 5
    assert said.count("protocol.violation") == MAX_NOTICES
    assert said.endswith("pgleash: and 5 more warnings\n")


def test_sessions_are_counted_and_everything_is_passed_on() -> None:
    class Log:
        def __init__(self) -> None:
            self.events: list[Event] = []

        def write(self, event: Event) -> None:
            self.events.append(event)

        def would_write(self, event: type[Event]) -> bool:
            return event is not events.SessionClosed

    log = Log()
    tally = Tally(log)
    opened, happened = events.SessionOpened(session=LEAK.session), flag()
    Reporter(tally).debug(events.SessionOpened, lambda: opened)
    Reporter(tally).emit(happened)
    assert (tally.sessions, log.events) == (1, [opened, happened])
    assert [tally.would_write(kind) for kind in (events.LeakFlagged, events.SessionClosed)] == [True, False]
    assert not Tally().would_write(events.LeakFlagged)
