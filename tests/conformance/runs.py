"""Runs of suites: directly, and through the program with limits; each with a server of its own."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from proxy.settings import Address
from tests.conformance.server import DebianPostgres, Target
from tests.conformance.suite import Outcomes, Suite, differing
from tests.life.support import Program, serve

# Nobody is ended, so nothing may differ; but with the second one every honest wait is judged as well.
LIMITS: Mapping[str, Mapping[str, str]] = {
    "through pgleash": {},
    "with flag_after 200ms": {"flag_after": "200ms", "flag_transaction_after": "400ms"},
}
# What pgleash says of itself when it has lost its way.
FAULTS = ("protocol.violation", "proxy.error")
# What Postgres logs in the same words when a test of lib/pq sends it.
DESERVED = "invalid length of startup packet"


@dataclass(frozen=True)
class Run:
    """What has become of a suite, and what pgleash has said meanwhile: lines of its log by event."""

    outcomes: Outcomes
    events: Counter[str]
    faults: list[str]


@dataclass(frozen=True)
class Comparison:
    """A suite through pgleash, beside the same suite without.

    Attributes:
        through: the first run through pgleash.
        lasting: the tests that differed, and differed again when both were repeated.
        passing: the tests that differed the first time alone.
    """

    direct: Run
    through: Run
    lasting: list[str]
    passing: list[str]


def run_directly(suite: Suite) -> Run:
    """Run a suite without pgleash."""
    with DebianPostgres(suite.settings) as server:
        return Run(suite.run(Target(server, Address(server.host, server.port))), Counter(), [])


def run_through(suite: Suite, limits: Mapping[str, str]) -> Run:
    """Run a suite through the program."""
    with DebianPostgres(suite.settings) as server, serve(server, **limits) as program:
        outcomes = suite.run(Target(server, program.address))
        program.tell()
        assert program.ended() == 0, program.errors
        return Run(outcomes, Counter(record["event"] for record in program.records), _faults(program))


def _faults(program: Program) -> list[str]:
    found = (record for record in program.records if record["event"] in FAULTS)
    return [str(record) for record in found if record.get("error.message") != DESERVED] + program.errors


class Runs:
    """What has been run directly is not run again for each set of limits."""

    def __init__(self) -> None:
        self._direct: dict[str, Run] = {}

    def compare(self, suite: Suite, limits: Mapping[str, str]) -> Comparison:
        """Run a suite both ways, and where that makes a difference, run it both ways again.

        Some tests depend on chance, be it only on how busy the machine is: those do not differ twice.
        """
        if suite.name not in self._direct:
            self._direct[suite.name] = run_directly(suite)
        direct, through = self._direct[suite.name], run_through(suite, limits)
        first = differing(direct.outcomes, through.outcomes)
        again = differing(run_directly(suite).outcomes, run_through(suite, limits).outcomes) if first else []
        lasting = [name for name in first if name in again]
        return Comparison(direct, through, lasting, [name for name in first if name not in again])
