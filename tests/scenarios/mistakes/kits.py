"""How a program of the catalogue is started."""

import sys
from pathlib import Path

from tests.kits import languages
from tests.scenarios.mistakes.catalogue import Mistake

PROGRAMS = Path(__file__).parent
PLACE = "mistakes"
LANGUAGES = ("node", "python", "go", "java")
GO_PACKAGE = "github.com/lib/pq"


def command(mistake: Mistake) -> list[str]:
    """How to start it; fetches and builds what that takes.

    Raises:
        Unavailable: it cannot be had here.
    """
    directory = PROGRAMS / mistake.language
    match mistake.language:
        case "node":
            return languages.node(directory, PLACE, mistake.stem)
        case "go":
            return languages.go((directory / "application.go", PROGRAMS / mistake.program), PLACE, GO_PACKAGE)
        case "java":
            return languages.java(directory, PLACE, mistake.stem)
        case _:
            return [sys.executable, "-m", f"tests.scenarios.mistakes.{mistake.language}.{mistake.stem}"]
