"""Limits that another one makes useless are warned about."""

from collections.abc import Mapping
from typing import Any

import pytest

from proxy.settings import Settings
from proxy.settings.order import out_of_order


def told(rule: Mapping[str, str] | None = None, /, **limits: str) -> list[str]:
    rules: list[dict[str, Any]] = [{"name": "etl", "match": {"user": "etl"}} | dict(rule)] if rule else []
    return out_of_order(Settings.model_validate({**limits, "rules": rules}))


@pytest.mark.parametrize(
    "limits",
    [
        {},
        {"rollback_after": "5s"},
        {"terminate_after": "5s"},
        {"rollback_after": "5s", "terminate_after": "6s"},
        {"flag_after": "1h", "rollback_after": "5s", "terminate_after": "6s"},
    ],
)
def test_what_can_pass_is_not_mentioned(limits: dict[str, str]) -> None:
    assert told(**limits) == []


@pytest.mark.parametrize("terminate_after", ["3s", "5s"])
def test_a_rollback_behind_the_end_never_comes(terminate_after: str) -> None:
    ends = f"terminate_after ({terminate_after}) ends every session before"
    assert told(rollback_after="5s", terminate_after=terminate_after) == [f"rollback_after (5s) never passes: {ends}"]


def test_a_rule_is_held_against_what_it_inherits() -> None:
    ends = "never passes: terminate_after (1m) ends every session before".replace("1m", "60s")
    assert told({"rollback_after": "2m"}, terminate_after="60s") == [f"rollback_after (2m) of rule etl {ends}"]
    assert told({"terminate_after": "never"}, rollback_after="2m", terminate_after="3m") == []
    assert told({"flag_after": "1s"}, rollback_after="2m", terminate_after="60s") == [f"rollback_after (2m) {ends}"]
