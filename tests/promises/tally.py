"""What happened, counted, so that a person sees that each path was really taken."""

from collections import Counter
from collections.abc import Iterable, Iterator

from tests.life.support import Program
from tests.promises.drivers import Lost, Told
from tests.promises.ledger import Broken, Ticket

FAULTS = ("proxy.error", "protocol.violation")
# What these clients bring upon themselves: a division by zero and what follows it, a savepoint of a transaction that is
# gone, a conflict, a cancelled statement, a session that was terminated; and what drivers have for one that is
# gone.
EXPECTED = frozenset(("22012", "25P02", "3B001", "40001", "57014", "25P03", "08003", ""))
TOLD = "told of a rollback"
REFUSED = "COMMIT refused by pgleash"


class Tally:
    """Counts.

    Attributes:
        counts: by what is counted.
        each: by driver, or whatever else a line of the table is about, and what is counted.
        broken: the promises that were not kept.
    """

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.each: Counter[tuple[str, str]] = Counter()
        self.broken: list[Broken] = []

    def count(self, what: str) -> None:
        """Something happened."""
        self.counts[what] += 1

    def count_for(self, one: str, what: str) -> None:
        """Something happened to one of many."""
        self.counts[what] += 1
        self.each[one, what] += 1

    def broke(self, promise: str, proof: str) -> None:
        """A promise was not kept."""
        self.broken.append(Broken(promise, proof))

    def fate(self, driver: str, ticket: Ticket) -> None:
        """A transaction is over."""
        self.count("transactions")
        self.count_for(driver, ticket.fate.value)

    def told(self, driver: str, error: Told) -> None:
        """A client was told of an error."""
        kind = "connection lost" if isinstance(error, Lost) else "error"
        code = "25P03 of a rollback" if error.ours else error.sqlstate or "without a code"
        self.count(f"{kind}: {code}")
        if error.ours:
            self.count_for(driver, TOLD)
        elif error.sqlstate not in EXPECTED:
            self.broke("a client was told of something else", f"{driver}: {error}")

    def drain(self, program: Program) -> None:
        """Count what the program has logged since the last time, and let it be forgotten."""
        records = program.records[:]
        del program.records[: len(records)]
        for record in records:
            reason = record.get("leak.reason")
            self.count(f"{record['event']}{f', {reason}' if reason else ''}")
            if record["event"] in FAULTS or (record["event"] == "leak.terminated" and "leak.detail" in record):
                self.broke(record["event"], str(record))

    def missing(self, paths: Iterable[str], ones: Iterable[str] = (), each: Iterable[str] = ()) -> list[str]:
        """What never happened: of these, and of those for each one."""
        columns = list(each)
        lacking = [f"{one}: {what}" for one in ones for what in columns if not self.each[one, what]]
        return [*(path for path in paths if not self.counts[path]), *lacking]

    def table(self) -> Iterator[str]:
        """Everything that was counted; at the end the broken promises, each kind with one proof."""
        yield from self._matrix()
        width = max(map(len, self.counts), default=0)
        for what, count in sorted(self.counts.items()):
            yield f"{what.ljust(width)}  {count:>9,}"
        yield f"{'broken promises'.ljust(width)}  {len(self.broken):>9,}"
        proofs = {broken.promise: broken.proof for broken in reversed(self.broken)}
        for promise, count in Counter(broken.promise for broken in self.broken).items():
            yield f"{count:>9,} times: {promise}: {proofs[promise]}"

    def _matrix(self) -> Iterator[str]:
        ones, columns = sorted({one for one, _ in self.each}), sorted({what for _, what in self.each})
        if ones:
            width = max(map(len, ones))
            yield f"{' ' * width}  {'  '.join(columns)}"
            for one in ones:
                figures = (f"{self.each[one, what]:,}".rjust(len(what)) for what in columns)
                yield f"{one.ljust(width)}  {'  '.join(figures)}"
            yield ""
