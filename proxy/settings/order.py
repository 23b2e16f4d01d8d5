"""Limits that can never pass, because another one ends before what they wait for."""

from proxy.settings.model import Settings
from proxy.settings.rules import Rule
from proxy.settings.values import NEVER, duration_text


def out_of_order(settings: Settings) -> list[str]:
    """One line for each rollback that a termination always comes before."""
    above = _said(settings.rollback_after, settings.terminate_after, "")
    own = (_of_rule(settings, rule) for rule in settings.rules)
    return [line for line in (above, *own) if line]


def _of_rule(settings: Settings, rule: Rule) -> str:
    rollback, terminate = rule.rollback_after, rule.terminate_after
    if rollback is None and terminate is None:  # it has both from above
        return ""
    return _said(
        settings.rollback_after if rollback is None else rollback,
        settings.terminate_after if terminate is None else terminate,
        f" of rule {rule.name}",
    )


def _said(rollback: float, terminate: float, whose: str) -> str:
    if rollback == NEVER or rollback < terminate:
        return ""
    before = f"terminate_after ({duration_text(terminate)}) ends every session before"
    return f"rollback_after ({duration_text(rollback)}){whose} never passes: {before}"
