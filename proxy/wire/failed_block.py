"""A block that pgleash has rolled back and whose client does not know: what both directions have to know of it."""

import enum


class Round(enum.Enum):
    """What is expected of the request that is under way, until its ReadyForQuery."""

    FAILS = "fails"  # nothing in it can end the block
    TURNS = "turns"  # it may commit, so its CommandComplete becomes our error
    TURNED = "turned"  # that has happened
    ROLLS_BACK = "rolls back"  # and then the block is over


class FailedBlock:
    """One such block.

    Attributes:
        round: what is expected of the request that is under way.
        failed: whether an error has come in this round: up to Sync nothing more is answered.
        waiting: whether what the client says next has to wait for a ReadyForQuery.
        rounds: how many ReadyForQuery messages have come.
        failed_before: whether an error came in the round before this one.
        over: whether the block is over, or the session.
        doubt: why nobody can be sure any more, or "".
    """

    __slots__ = ("doubt", "failed", "failed_before", "over", "round", "rounds", "waiting")

    def __init__(self) -> None:
        self.failed = False
        self.rounds = -1
        self.next_round()
        self.over = False
        self.doubt = ""

    def next_round(self) -> None:
        """ReadyForQuery has come, and the block goes on."""
        self.rounds += 1
        self.round = Round.FAILS
        self.failed_before, self.failed = self.failed, False
        self.waiting = False
