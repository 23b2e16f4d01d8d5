"""Identical flags are counted, not repeated; what was done about a leak is always told."""

from collections.abc import Iterable

import pytest

from proxy.report import events
from proxy.report.event import Event
from proxy.report.folding import LINES, MAX_KINDS, MINUTE, Folding
from proxy.report.reporter import Reporter
from tests.report.leaks import client, flagged, leak, resolved


def flag(number: int, name: str = "app", fingerprint: str = "f0") -> events.LeakFlagged:
    return flagged(leak(name, id=f"{name}{number}", fingerprint=fingerprint))


def end(number: int) -> events.LeakResolved:
    return resolved(leak(id=f"app{number}"))


def begin_twice(name: str = "app", fingerprint: str = "f0") -> events.DirtyCheckout:
    facts = leak(name, fingerprint=fingerprint)
    return events.DirtyCheckout(summary="", session=facts.session, transaction=facts.transaction)


def silent(name: str = "app") -> events.SilentRollback:
    facts = leak(name)
    return events.SilentRollback(summary="", session=facts.session, transaction=facts.transaction)


def folded(count: int, now: float = 0.0) -> Folding:
    """So many flags of the same, at one time."""
    folding = Folding()
    for number in range(count):
        folding.take(flag(number), now)
    return folding


def told(folding: Folding, happened: Iterable[Event], now: float = 0.0) -> int:
    """How many lines these make."""
    return sum(len(folding.take(event, now)) for event in happened)


def counted(lines: Iterable[Event]) -> list[int | None]:
    """What the lines say of those that had none."""
    return [line.repeated for line in lines if isinstance(line, events.LeakFlagged | events.ClientMistake)]


# A minute of the same.


def test_the_first_ten_have_a_line_each_and_no_other() -> None:
    folding = Folding()
    lines = [folding.take(flag(number), 0.5 * number) for number in range(100)]
    assert lines[:LINES] == [[flag(number)] for number in range(LINES)]
    assert lines[LINES:] == [[]] * 90
    assert LINES == 10


def test_the_next_minute_tells_how_many_there_were_and_begins_anew() -> None:
    folding = folded(15)
    count, first = folding.take(flag(15), MINUTE)
    assert isinstance(count, events.LeakFlagged)
    assert (count.leak.id, count.repeated) == ("app14", 5)
    assert count.fields()["leak.repeated"] == 5
    assert first == flag(15)
    assert told(folding, map(flag, range(16, 30)), MINUTE + 1) == LINES - 1


def test_what_has_a_line_counts_nothing() -> None:
    folding = folded(LINES)
    assert list(folding.over(MINUTE)) == []
    assert "leak.repeated" not in flag(0).fields()


def test_a_minute_that_is_over_is_told_of_though_nothing_more_comes() -> None:
    folding = folded(12, now=100.0)
    assert list(folding.over(100.0 + MINUTE - 0.1)) == []
    assert counted(folding.over(100.0 + MINUTE)) == [2]
    assert list(folding.over(1000.0)) == []


def test_the_rest_is_told_at_the_end() -> None:
    folding = folded(13)
    told(folding, [flag(number, "other") for number in range(11)])
    assert counted(folding.rest()) == [3, 1]
    assert list(folding.rest()) == []


def test_no_flag_is_lost_and_none_is_counted_twice() -> None:
    folding, lines = Folding(), list[Event]()
    for number in range(1000):
        lines += folding.take(flag(number), 0.77 * number)
        if number % 7 == 0:
            lines += folding.over(0.77 * number)
    lines += folding.rest()
    assert sum(count or 1 for count in counted(lines)) == 1000
    assert len(lines) <= (LINES + 1) * (770 / MINUTE + 1)


# What is the same.


def test_what_is_not_the_same_does_not_hide_behind_it() -> None:
    folding = folded(50)
    others = [flag(0, "other"), flag(1, fingerprint="f1"), begin_twice(), silent(), begin_twice("other")]
    for other in others:
        assert folding.take(other, 1.0) == [other]


def test_mistakes_are_counted_too() -> None:
    folding = Folding()
    assert told(folding, [begin_twice() for _ in range(30)]) == LINES
    assert told(folding, [silent() for _ in range(11)]) == LINES
    first, second = folding.rest()
    assert isinstance(first, events.DirtyCheckout)
    assert first.fields()["client.repeated"] == 20
    assert isinstance(second, events.SilentRollback)
    assert second.repeated == 1


# What becomes of a flag without a line.


def test_a_leak_without_a_line_ends_without_one() -> None:
    folding = folded(12)
    assert folding.take(end(9), 1.0) == [end(9)]
    assert folding.take(end(11), 1.0) == []


def spared(number: int) -> events.LeakSpared:
    return events.LeakSpared(summary="", leak=leak(id=f"app{number}"), flagged=True, action="rollback", reason="budget")


def test_it_is_spared_without_one_too_and_not_forgotten() -> None:
    folding = folded(12)
    assert folding.take(spared(9), 1.0) == [spared(9)]
    assert told(folding, [spared(11), spared(11), end(11)], 1.0) == 0


def rolled_back(facts: events.Leak) -> Event:
    return events.LeakRolledBack(summary="", leak=facts, flagged=True)


def terminated(facts: events.Leak) -> Event:
    return events.LeakTerminated(summary="", leak=facts, flagged=True)


def abandoned(facts: events.Leak) -> Event:
    return events.LeakAbandoned(summary="", leak=facts, flagged=True, how="eof", running="")


def test_farewells_are_counted_like_flags_and_apart_from_them() -> None:
    folding = folded(12)
    told = [line for number in range(30) for line in folding.take(abandoned(leak(id=f"app{number}")), 1.0)]
    assert told == [abandoned(leak(id=f"app{number}")) for number in range(LINES)]
    counts = {
        type(event): event.repeated
        for event in folding.rest()
        if isinstance(event, events.LeakFlagged | events.LeakAbandoned)
    }
    assert counts == {events.LeakFlagged: 2, events.LeakAbandoned: 20}


@pytest.mark.parametrize("act", [rolled_back, terminated])
def test_what_was_done_is_always_told(act: object) -> None:
    assert callable(act)
    folding = folded(100)
    for number in range(100):
        event = act(leak(id=f"app{number}"))
        assert folding.take(event, 1.0) == [event]


def test_and_so_is_what_the_client_came_back_with() -> None:
    folding = folded(12)
    back = events.LeakReturned(
        summary="", leak=leak(id="app11"), flagged=False, returned_with="COMMIT", would_commit=True
    )
    for event in (rolled_back(leak(id="app11")), back):
        assert folding.take(event, 1.0) == [event]


def test_what_is_told_with_a_count_ends_with_a_line() -> None:
    """The line that counts has a leak's id: who looks for its end finds it."""
    folding = folded(12)
    assert counted(folding.over(MINUTE)) == [2]
    assert folding.take(end(11), MINUTE + 1) == [end(11)]
    assert folding.take(end(10), MINUTE + 1) == []


def test_what_is_no_flag_passes() -> None:
    folding = folded(50)
    event = events.ConfigWarning(reason="")
    assert told(folding, [event] * 50) == 50


# Bounds.


def test_of_too_many_kinds_the_one_that_began_first_is_told_of_and_forgotten() -> None:
    folding = folded(12)
    for number in range(MAX_KINDS - 1):
        assert told(folding, [flag(0, f"client {number}")], 1.0) == 1
    count, line = folding.take(flag(0, "one too many"), 2.0)
    assert counted([count, line]) == [None, 2] or counted([count, line]) == [2, None]
    assert told(folding, [flag(20)], 3.0) == 1  # from here on it is a new one
    assert len(list(folding.rest())) == 0


def test_nothing_is_kept_of_what_is_over() -> None:
    folding = Folding()
    for number in range(1000):
        folding.take(flag(number), 0.0)
    for number in range(1000):
        folding.take(end(number), 1.0)
    list(folding.over(MINUTE))
    assert vars(folding) == vars(Folding())


# Through the reporter.


class Lines:
    """A log, with a clock beside it."""

    def __init__(self) -> None:
        self.now = 0.0
        self.written: list[Event] = []
        self.reporter = Reporter(self, lambda: self.now)

    def write(self, event: Event) -> None:
        self.written.append(event)

    def would_write(self, event: type[Event]) -> bool:
        return bool(event)


def test_what_is_not_told_is_counted_in_the_ledger_all_the_same() -> None:
    lines = Lines()
    for number in range(30):
        lines.reporter.emit(flag(number))
        lines.now += 0.1
    for number in range(30):
        lines.reporter.emit(end(number))
    ((_, account),) = lines.reporter.ledger
    assert (account.leaks, account.open, account.resolved) == (30, 0, 30)
    assert [line.event for line in lines.written] == ["leak.flagged"] * LINES + ["leak.resolved"] * LINES


def test_a_count_is_written_when_its_minute_is_over_and_not_counted_again() -> None:
    lines = Lines()
    for number in range(30):
        lines.reporter.emit(flag(number))
    lines.reporter.unfold()
    assert len(lines.written) == LINES
    lines.now = MINUTE
    lines.reporter.unfold()
    assert counted(lines.written) == [None] * LINES + [20]
    ((whose, account),) = lines.reporter.ledger
    assert (whose.client, account.leaks) == (client(), 30)


def test_the_last_counts_are_written_when_nothing_more_comes() -> None:
    lines = Lines()
    for number in range(11):
        lines.reporter.emit(flag(number))
    lines.reporter.close()
    assert counted(lines.written)[-1] == 1
