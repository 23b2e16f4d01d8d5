"""What all sessions of a proxy are judged by; a reload changes it for those that run, too."""

from collections.abc import Callable, Mapping

from proxy.leash.budget import Budget
from proxy.leash.rules import Rulebook, Ruling
from proxy.report.events import Client
from proxy.settings import Mode, Settings

NO_TAGS: Mapping[str, str] = {}


class Terms:
    """The part of the configuration that judging needs.

    Args:
        settings: the configuration.

    Attributes:
        observing: whether nothing is done about it.
        budget: how much may be done.
        statements: how much of a statement's text may be told.
        tags: the names of tags that may be told besides the well-known ones, as globs.
    """

    def __init__(self, settings: Settings) -> None:
        self.budget = Budget(settings.actions_per_minute)
        self.change(settings)

    def change(self, settings: Settings) -> None:
        """Judge by these settings from now on."""
        self._rules = Rulebook(settings)
        self.observing = settings.mode is Mode.OBSERVE
        self.budget.per_minute = settings.actions_per_minute
        self.statements = settings.log.statements
        self.tags = settings.attribution.tags

    @property
    def earliest(self) -> float:
        """The soonest that anything can be due after a transaction has begun."""
        return self._rules.earliest

    def ruling(self, client: Client, tags: Callable[[], Mapping[str, str]]) -> Ruling:
        """What applies to a client now; its tags are asked for only if they matter."""
        return self._rules.ruling(client, tags() if self._rules.uses_tags else NO_TAGS)
