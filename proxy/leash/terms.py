"""What all sessions of a proxy are judged by; a reload changes it for those that run, too."""

from typing import Final, NamedTuple

from proxy.leash.budget import Budget
from proxy.leash.policy import Limits
from proxy.settings import Mode, Settings

DEFAULT_RULE: Final = "default"  # the name of what applies where no rule does


class Ruling(NamedTuple):
    """What applies to a session.

    Attributes:
        rule: the name of the rule that it comes from.
        limits: what the session may do.
    """

    rule: str
    limits: Limits


class Terms:
    """The part of the configuration that judging needs.

    Args:
        settings: the configuration.

    Attributes:
        observing: whether nothing is done about it.
        budget: how much may be done.
        statements: how much of a statement's text may be told.
    """

    def __init__(self, settings: Settings) -> None:
        self.budget = Budget(settings.actions_per_minute)
        self.change(settings)

    def change(self, settings: Settings) -> None:
        """Judge by these settings from now on."""
        self._limits = Limits.of(settings)
        self.observing = settings.mode is Mode.OBSERVE
        self.budget.per_minute = settings.actions_per_minute
        self.statements = settings.log.statements

    @property
    def earliest(self) -> float:
        """The soonest that anything can be due after a transaction has begun."""
        return self._limits.earliest

    def ruling(self) -> Ruling:
        """What applies to a session."""
        return Ruling(DEFAULT_RULE, self._limits)
