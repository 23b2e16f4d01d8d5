"""What limit would fit a client, and what each limit would have done.

A limit that fits is twice the 99.9th percentile of honest holds, rounded up to a figure that a person would write.
"""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any, Final

from pydantic import TypeAdapter

from proxy.report.events import Client
from proxy.report.summary import who
from proxy.settings import duration_text

MINUTE: Final = 60.0
HOUR: Final = 60 * MINUTE

# The figures that are suggested: 1, 2 and 5 in each unit, as far as people write them (30 s and not 50 s). The floor is
# two seconds: what is held for less may be a slow network or a busy machine.
STEPS: Final = (
    *(2.0, 5.0, 10.0, 20.0, 30.0),
    *(minutes * MINUTE for minutes in (1, 2, 5, 10, 20, 30)),
    *(hours * HOUR for hours in (1, 2, 5, 12, 24, 48)),
)
TIMES: Final = 2.0
# A step has to leave this much room, or it would hang on the histogram's own error (1 %) whether 1 s makes 2 s or 5 s.
ROOM: Final = 1.05

TRIED: Final = (1.0, 5.0, 10.0, 30.0, MINUTE, 5 * MINUTE)  # the limits whose effect everybody is told, seconds
OWN_RULE_FROM: Final = MINUTE  # holds of minutes: a limit that fits them would let everybody else's leaks pass

# Of so many transactions the longest lies beyond the true 99.9th percentile with a certainty of 95 %:
# 1 - 0.999 ** 3000 = 0.95.
ENOUGH: Final = 3000


@dataclasses.dataclass(frozen=True, kw_only=True)
class Lengths:
    """How long something took, seconds: percentiles by nearest rank, within 1 %, and the longest."""

    p50: float
    p99: float
    p999: float
    longest: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Trial:
    """What a limit would have done.

    Attributes:
        limit_s: the limit, seconds.
        ended: transactions with a hold past it.
        committed: those of them that committed later by themselves: it would have ended them wrongly.
    """

    limit_s: float
    ended: int
    committed: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Advice:
    """What limit would fit a client.

    Attributes:
        client: whose.
        transactions: how many the advice rests on.
        holds: the longest hold of each of them.
        ages: their whole lengths.
        suggested_s: the limit that would fit, seconds.
        own_rule: whether it should be the limit of a rule of its own, because the client's holds are minutes.
        enough: whether there were enough transactions to speak of their 99.9th percentile.
        trials: what the suggested limit and some others would have done, the shortest limit first.
    """

    client: Client
    transactions: int
    holds: Lengths
    ages: Lengths
    suggested_s: float
    own_rule: bool
    enough: bool
    trials: tuple[Trial, ...]


LIMITS: Final = tuple(sorted({*TRIED, *STEPS}))  # those that it has to be known of what they would have done


def suggest(p999: float) -> float:
    """The limit for holds with this 99.9th percentile: 2 s for 200 ms, 5 s for 1 s, 20 s for 9 s.

    Args:
        p999: seconds.

    Returns:
        the first of STEPS that leaves some room above twice as much, seconds; the last one if none does.
    """
    return next((step for step in STEPS if step >= p999 * TIMES * ROOM), STEPS[-1])


def advise(client: Client, transactions: int, holds: Lengths, ages: Lengths, trials: Iterable[Trial]) -> Advice:
    """What follows from a client's habits; `trials` are those of all LIMITS."""
    suggested = suggest(holds.p999)
    return Advice(
        client=client,
        transactions=transactions,
        holds=holds,
        ages=ages,
        suggested_s=suggested,
        own_rule=holds.p999 >= OWN_RULE_FROM,
        enough=transactions >= ENOUGH,
        trials=tuple(trial for trial in trials if trial.limit_s in {*TRIED, suggested}),
    )


_list: Final = TypeAdapter(list[Advice])


def as_json(advice: Iterable[Advice]) -> list[dict[str, Any]]:
    """The same as what JSON is made of."""
    return [dataclasses.asdict(each) for each in advice]


def from_json(raw: object) -> list[Advice]:
    """What `as_json` was made from; keys that are not known are left out.

    Raises:
        ValueError: this is not advice.
    """
    return _list.validate_python(raw)


# For a person.

NOTHING: Final = "no transaction has ended yet"
TRIALS_HEAD: Final = (
    "What a limit would have ended, and how much of that committed later by itself; [] is the limit that would fit."
)
MAX_NAME: Final = 48  # characters: the table should fit a terminal of 120

_head: Final = ("client", "transactions", "length of", "p50", "p99", "p99.9", "longest", "limit")
_words: Final = frozenset({0, 2})  # the columns that are no numbers


def advice_table(advice: Iterable[Advice]) -> str:
    """How long each client holds and what would fit it, then what limits would have done; who holds longest first."""
    ranked = sorted(advice, key=lambda each: each.holds.p999, reverse=True)
    if not ranked:
        return NOTHING
    rows = [row for each in ranked for row in _rows(each)]
    return "\n".join(
        [*_align([_head, *rows], _words), "", TRIALS_HEAD, *(line for each in ranked for line in _trials(each))]
    )


def _rows(advice: Advice) -> tuple[Sequence[str], Sequence[str]]:
    name = who(advice.client)
    short = name if len(name) <= MAX_NAME else name[: MAX_NAME - 1] + "…"
    limit = duration_text(advice.suggested_s)
    return (
        (short, f"{advice.transactions:,}", "holds", *_lengths(advice.holds), limit if advice.enough else f"{limit}?"),
        ("", "", "transactions", *_lengths(advice.ages), ""),
    )


def _lengths(lengths: Lengths) -> list[str]:
    return [length_text(length) for length in (lengths.p50, lengths.p99, lengths.p999, lengths.longest)]


def _trials(advice: Advice) -> list[str]:
    lines = ["", who(advice.client), *(f"  {note}" for note in _notes(advice))]
    if not any(trial.ended for trial in advice.trials):
        return [*lines, f"  no limit from {duration_text(TRIED[0])} on would have ended anything"]
    rows = [
        ("  limit", *(_marked(trial.limit_s, advice.suggested_s) for trial in advice.trials)),
        ("  ended", *(f"{trial.ended:,}" for trial in advice.trials)),
        ("  committed later", *(f"{trial.committed:,}" for trial in advice.trials)),
    ]
    return [*lines, *_align(rows, frozenset({0}))]


def _marked(limit: float, suggested: float) -> str:
    return f"[{duration_text(limit)}]" if limit == suggested else duration_text(limit)


def _notes(advice: Advice) -> list[str]:
    notes = []
    if not advice.enough:
        few = "one transaction says" if advice.transactions == 1 else f"{advice.transactions:,} transactions say"
        notes.append(f"{few} little: a 99.9th percentile needs {ENOUGH:,} of them, so the limit is a guess")
    if advice.own_rule:
        notes.append("its holds are minutes: give it a rule of its own, and everybody else a shorter limit")
    return notes


def _align(rows: Sequence[Sequence[str]], words: frozenset[int]) -> list[str]:
    """Columns of words begin below each other, columns of numbers end so."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if number in words else cell.rjust(width)
            for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def length_text(seconds: float) -> str:
    """A measured length with as many digits as matter: `<1ms`, `84ms`, `1.4s`, `31s`, `2m10s`, `1h05m`."""
    milliseconds = round(seconds * 1000)
    if milliseconds < 1:
        return "<1ms"
    if milliseconds < 1000:  # noqa: PLR2004 - a second
        return f"{milliseconds}ms"
    if milliseconds < 9950:  # noqa: PLR2004 - what rounds to 10 s needs no tenths
        return f"{milliseconds / 1000:.1f}s"
    whole = round(seconds)
    minutes = round(seconds / MINUTE)
    if whole < 2 * MINUTE:
        return f"{whole}s"
    if whole < HOUR:
        return f"{whole // 60}m{whole % 60:02}s"
    return f"{minutes // 60}h{minutes % 60:02}m"
