"""What docs/mistakes.md shows of the log: its lines are held against those of real runs."""

import json
import re
from pathlib import Path

from tests.life.support import ROOT, Record
from tests.scenarios.mistakes.catalogue import Mistake

DOCUMENT = ROOT / "docs" / "mistakes.md"
BLOCKS = re.compile(r"^```json\n(.*?)^```", re.MULTILINE | re.DOTALL)
MEASURED = ("_s", ".pid", ".executable")


def shown(mistake: Mistake, event: str) -> Record:
    """The fields that the document shows of this event, if it does, without those that are measured."""
    for line in map(json.loads, BLOCKS.findall(DOCUMENT.read_text())):
        if (line["client.application_name"], line["event"]) == (mistake.application_name, event):
            return {key: value for key, value in line.items() if not key.endswith(MEASURED)}
    return {}


def programs() -> set[Path]:
    """The programs that the document leads to."""
    text = DOCUMENT.read_text()
    return {(DOCUMENT.parent / link).resolve() for link in re.findall(r"\]\((\.\./tests/[^)]+)\)", text)}
