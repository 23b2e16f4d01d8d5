"""`leaks`, `sessions`, `advise`: their flags, and what they print."""

import argparse
import json
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from proxy.ask.reach import Answer, Target, ask, configured, printable, read_target
from proxy.ask.tables import leaks_table, sessions_table
from proxy.errors import OperatorError
from proxy.report import advice
from proxy.report.events import Leak, LeakReport
from proxy.report.now import SessionNow
from proxy.report.restore import restore


class Command(NamedTuple):
    """A command that asks.

    Attributes:
        name: its name.
        help: what it does, one line.
        path: what it asks for.
        table: what a person reads of the answer.
    """

    name: str
    help: str
    path: str
    table: Callable[[Answer], str]


def _sessions(answer: Answer) -> str:
    return sessions_table([restore(SessionNow, fields) for fields in answer["sessions"]])


def _leaks(answer: Answer) -> str:
    return leaks_table([restore(Leak, fields) for fields in answer["open"]], ledger_of(answer))


def _advice(answer: Answer) -> str:
    return advice.advice_table(advice.from_json(answer["advice"]))


COMMANDS: Final = (
    Command("leaks", "who leaks: the leaks that are open now, and the ledger since the start", "/api/leaks", _leaks),
    Command("sessions", "every session: what it is doing and for how long", "/api/sessions", _sessions),
    Command("advise", "how long clients hold transactions, and what limit would fit them", "/api/advice", _advice),
)


def ledger_of(answer: Answer) -> list[LeakReport]:
    """The ledger in what `leaks --json` prints.

    Raises:
        ValueError, LookupError, TypeError, AttributeError: there is none.
    """
    return [restore(LeakReport, fields) for fields in answer["ledger"]]


def add_commands(commands: "argparse._SubParsersAction[Any]", run: object) -> None:
    """Add the commands to a command line; `run` is what becomes of them."""
    for command in COMMANDS:
        parser = commands.add_parser(command.name, help=command.help, description=command.help, allow_abbrev=False)
        parser.add_argument(
            "--admin",
            type=_target,
            metavar="URL",
            help="where the proxy's admin API is: a URL, host:port or a Unix socket "
            "(default: as admin.listen is configured here, else http://127.0.0.1:9433)",
        )
        parser.add_argument("--token-file", metavar="FILE", help="file with its token, which it wants off loopback")
        parser.add_argument("--json", action="store_true", help="print the API's answer instead of a table")
        flags = ["--admin", "--token-file", "--json"]
        if command.name == "leaks":
            parser.add_argument("--fail", action="store_true", help="exit with status 3 if anybody has leaked")
            flags.append("--fail")
        parser.set_defaults(run=run, command=command, flags=flags)


def _target(text: str) -> Target:
    try:
        return read_target(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def answered(asked: argparse.Namespace, environment: Mapping[str, str]) -> tuple[str, bool]:
    """What a command prints, and whether it fails because somebody has leaked.

    Raises:
        OperatorError: the admin side cannot be asked.
    """
    command: Command = asked.command
    target: Target = asked.admin or configured(environment)
    if asked.token_file is not None:
        target = target._replace(token_file=asked.token_file)
    answer = ask(target, command.path)
    try:
        text = json.dumps(answer, indent=2) if asked.json else command.table(printable(answer))
        leaked = getattr(asked, "fail", False) and any(report.leaks for report in ledger_of(answer))
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise OperatorError(f"the answer from {target.name} is not understood: is it another version?") from error
    return text, leaked
