"""docs/ci.md: its workflows are YAML, its commands exist, and what it shows is what is shown."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

from proxy.cli import _parser, _split
from tests.life.support import ROOT

PAGE = (ROOT / "docs/ci.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


def commands_of(tree: Any) -> list[str]:
    """The lines that a workflow runs with pgleash."""
    if isinstance(tree, dict):
        tree = list(tree.values())
    if isinstance(tree, list):
        return [command for part in tree for command in commands_of(part)]
    return [tree] if str(tree).startswith("pgleash ") else []


def test_the_workflows_run_the_suite_in_front_of_a_service() -> None:
    github, gitlab = map(yaml.safe_load, blocks("yaml"))
    assert "postgres" in github["jobs"]["tests"]["services"]
    assert github["jobs"]["tests"]["env"]["DATABASE_URL"].endswith("@localhost:5432/postgres")
    assert gitlab["tests"]["services"][0]["alias"] in gitlab["tests"]["variables"]["DATABASE_URL"]
    assert commands_of(github) == commands_of(gitlab) == ["pgleash run --fail --ledger leaks.json -- pytest"]


SHOWN = [
    line.removeprefix("$ ") for block in blocks("console") for line in block.splitlines() if line[:10] == "$ pgleash "
]


@pytest.mark.parametrize("shown", [*SHOWN, *commands_of([yaml.safe_load(block) for block in blocks("yaml")])])
def test_its_commands_are_understood(shown: str) -> None:
    words, command = _split(shlex.split(shown)[1:])
    asked, unknown = _parser().parse_known_args(words)
    assert (unknown, bool(command)) == ([], words[0] == "run")
    assert asked.run


def test_its_links_lead_somewhere() -> None:
    assert [link for link in re.findall(r"\]\(([\w.]+)\)", PAGE) if not Path(ROOT, "docs", link).exists()] == []
