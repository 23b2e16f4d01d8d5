"""What limit would fit a client, and what each limit would have done.

A limit that fits is twice the 99.9th percentile of honest holds, rounded up to a figure that a person would write.
"""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any, Final

from pydantic import TypeAdapter

from proxy.report.events import Client
from proxy.report.summary import who
from proxy.report.table import HOUR, MAX_ROWS, MINUTE, columns, left_out, length_text, shortened
from proxy.settings import duration_text

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

_head: Final = ("client", "transactions", "length of", "p50", "p99", "p99.9", "longest", "limit")
_words: Final = frozenset({0, 2})  # the columns that are no numbers


def advice_table(advice: Iterable[Advice]) -> str:
    """How long each client holds and what would fit it, then what limits would have done; who holds longest first."""
    ranked = sorted(advice, key=lambda each: each.holds.p999, reverse=True)
    if not ranked:
        return NOTHING
    first = ranked[:MAX_ROWS]
    rows = [row for each in first for row in _rows(each)]
    trials = (line for each in first for line in _trials(each))
    return "\n".join([*columns([_head, *rows], _words), *left_out(len(ranked)), "", TRIALS_HEAD, *trials])


def _rows(advice: Advice) -> tuple[Sequence[str], Sequence[str]]:
    client, count = shortened(who(advice.client)), f"{advice.transactions:,}"
    limit = duration_text(advice.suggested_s) + ("" if advice.enough else "?")
    return (
        (client, count, "holds", *_lengths(advice.holds), limit),
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
    return [*lines, *columns(rows, frozenset({0}))]


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
