"""The commands; the only place that exits.

Exit status: 0 fine, 1 failed at run time, 2 wrong usage, 3 leaks found, 78 wrong configuration; `run` has another's.
"""

import argparse
import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, NoReturn, TypeAlias

import uvloop

from proxy import __version__
from proxy.admin import access
from proxy.ask.commands import add_commands, answered
from proxy.check import EXAMPLE, Who, explanation, read_who
from proxy.compare import compare
from proxy.errors import OperatorError, SettingsError
from proxy.leash import witnesses
from proxy.reload import Reload
from proxy.report.events import ConfigWarning
from proxy.report.log import Log
from proxy.report.reporter import Reporter
from proxy.run.command import DEFAULTS, Asked, run
from proxy.server import Server
from proxy.settings import Loaded, as_yaml, did_you_mean, load, options
from proxy.tls import contexts

Commands: TypeAlias = "argparse._SubParsersAction[Any]"  # noqa: SLF001 - it has no public name

FINE: Final = 0
FAILED: Final = 1
WRONG_USAGE: Final = 2
STDERR: Final = 2
LEAKED: Final = 3
WRONG_CONFIGURATION: Final = 78  # EX_CONFIG, sysexits.h


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command that the command line names, and exit."""
    _open_standard_descriptors()
    parser = _parser()
    words, command = _split(list(sys.argv[1:] if arguments is None else arguments))
    asked, unknown = parser.parse_known_args(words)
    asked.words = command
    if hasattr(asked, "ledger") and not command:
        parser.error("write -- and the command: pgleash run [OPTIONS] -- COMMAND ...")
    if unknown:
        parser.error(_unknown(unknown[0], asked))
    try:
        status = asked.run(asked)
    except SettingsError as error:
        print(*error.problems, sep="\n", file=sys.stderr)
        status = WRONG_CONFIGURATION
    except OperatorError as error:
        print(f"pgleash: {error}", file=sys.stderr)
        status = FAILED
    except KeyboardInterrupt:
        status = 128 + signal.SIGINT
    sys.exit(status)


def _open_standard_descriptors() -> None:
    """Keep the numbers of those that were closed before the start from sockets, which libuv refuses to close there."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= STDERR:
        pass
    os.close(descriptor)


def _split(words: list[str]) -> tuple[list[str], list[str]]:
    """Our words, and those of the command that `run` is to run."""
    end = words.index("--") if words[:1] == ["run"] and "--" in words else len(words)
    return words[:end], words[end + 1 :]


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line; the options of `serve` fill two screens."""

    def error(self, message: str) -> NoReturn:
        """Say what is wrong with the command line, and exit."""
        self.exit(WRONG_USAGE, f"{self.prog}: {message}; see {self.prog} --help\n")


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="pgleash",
        description="A Postgres sidecar that says who is sitting on an open transaction, and ends it if told to.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"pgleash {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    serve = _add(commands, "serve", _serve, "run the proxy until SIGTERM or SIGINT; SIGHUP reloads")
    serve.set_defaults(flags=_add_options(serve))
    check = _add(commands, "check-config", _check_config, "print the effective configuration, or what is wrong with it")
    check.add_argument("--as", dest="client", type=_client, metavar="WHO", help=f"which rule applies to {EXAMPLE}, why")
    check.set_defaults(flags=[*_add_options(check), "--as"])
    _add_run(commands)
    compare = _add(commands, "compare", _compare, "which statements leak in one of two environments only, or more")
    compare.add_argument("files", nargs=2, metavar="FILE", help="from leaks --json, run --ledger, or a log in JSON")
    compare.add_argument("--json", action="store_true", help="for programs")
    compare.add_argument("--fail", action="store_true", help="exit with 3 if the second leaks what the first does not")
    compare.set_defaults(flags=["--json", "--fail"])
    add_commands(commands, _ask)
    demo = _add(commands, "demo", _demo, "see it work on a throw-away Postgres, with an application that leaks")
    demo.add_argument("--seconds", type=_seconds, default=12.0, metavar="N", help="how long to watch (default 12)")
    demo.set_defaults(flags=["--seconds"])
    _add(commands, "version", _version, "print the version")
    return parser


def _add(commands: Commands, name: str, run: Callable[[argparse.Namespace], int], does: str) -> Parser:
    description = f"{does[0].upper()}{does[1:]}."
    command: Parser = commands.add_parser(name, help=does, description=description, allow_abbrev=False)
    command.set_defaults(run=run)
    return command


def _add_run(commands: Commands) -> None:
    does = "a leak sanitizer: run a command, such as a test suite, through the proxy, and tell who leaked"
    run = _add(commands, "run", _run, does)
    run.usage = "pgleash run [--fail] [--ledger FILE] [--any-option VALUE] -- COMMAND ..."
    run.epilog = (
        "COMMAND finds the proxy by PGHOST, PGPORT and, where it is set, DATABASE_URL. The exit status is its own, "
        "128 and the signal's number if a signal ended it, or 3 with --fail if it succeeded and something leaked."
    )
    run.add_argument("--fail", action="store_true", help="exit with 3 if the command succeeded and something leaked")
    run.add_argument("--ledger", metavar="FILE", help="write the ledger as JSON, for pgleash compare")
    run.set_defaults(flags=[*_add_options(run, DEFAULTS), "--fail", "--ledger"])


def _unknown(word: str, asked: argparse.Namespace) -> str:
    """What is wrong with a word that no command knows, and what was probably meant."""
    return f"unrecognized argument {word}{did_you_mean(word.partition('=')[0], getattr(asked, 'flags', []))}"


def _add_options(command: argparse.ArgumentParser, defaults: Mapping[str, str] | None = None) -> list[str]:
    """Add every option of the configuration; returns their flags.

    Args:
        command: what takes them.
        defaults: by key, those that the command has defaults of its own for.
    """
    command.add_argument("--config", metavar="FILE", help="a YAML file; also PGLEASH_CONFIG")
    for option in options():
        default = (defaults or {}).get(option.key, option.default)
        command.add_argument(
            option.flag,
            dest=f"option {option.key}",
            default=argparse.SUPPRESS,
            metavar="VALUE",
            help=f"{option.description} (default {default}; also {option.variable})".replace("%", "%%"),
        )
    return ["--config", *(option.flag for option in options())]


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 5 <= seconds <= 3600:  # noqa: PLR2004 - less shows nothing, more is no demo
        raise argparse.ArgumentTypeError("between 5 and 3600")
    return seconds


def _client(text: str) -> Who:
    try:
        return read_who(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _flags(asked: argparse.Namespace) -> dict[str, str]:
    return {name.removeprefix("option "): value for name, value in vars(asked).items() if name.startswith("option ")}


def _load(asked: argparse.Namespace) -> Loaded:
    loaded = load(asked.config, os.environ, _flags(asked))
    contexts.check(loaded.settings)
    witnesses.check(loaded.settings)
    access.check(loaded.settings.admin)
    return loaded


def _check_config(asked: argparse.Namespace) -> int:
    loaded = _load(asked)
    for warning in loaded.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    settings = loaded.settings
    print(explanation(settings, asked.client) if asked.client else as_yaml(settings), end="")
    return FINE


def _version(_asked: argparse.Namespace) -> int:
    print(f"pgleash {__version__}")
    return FINE


def _demo(asked: argparse.Namespace) -> int:
    from proxy.demo.show import show  # noqa: PLC0415 - needs the extra `demo`, which the image does not have

    show(asked.seconds)
    return FINE


def _ask(asked: argparse.Namespace) -> int:
    text, leaked = answered(asked, os.environ)
    try:
        print(text, flush=True)
    except BrokenPipeError:  # whoever reads has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return LEAKED if leaked else FINE


def _run(asked: argparse.Namespace) -> int:
    return run(Asked(asked.config, _flags(asked), asked.words, asked.fail, asked.ledger), os.environ)


def _compare(asked: argparse.Namespace) -> int:
    text, worse = compare(*asked.files, as_json=asked.json)
    print(text, end="")
    return LEAKED if asked.fail and worse else FINE


def _serve(asked: argparse.Namespace) -> int:
    from proxy.admin.listener import Admin  # noqa: PLC0415 - aiohttp takes longer to import than `version` to run

    loaded = _load(asked)
    log = Log(loaded.settings.log, os.environ)
    reporter = Reporter(log)
    for warning in loaded.warnings:
        reporter.emit(ConfigWarning(reason=warning))
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            server = Server(loaded.settings, reporter)
            reload = Reload(lambda: _load(asked), loaded, server, log, reporter)
            admin = Admin(loaded.settings, server, reporter, os.environ)

            async def run() -> None:
                try:
                    await _until_told_to_stop(server, reload, admin.start)
                finally:
                    await admin.stop()  # last: one can ask what it is that does not end

            runner.run(run())
    finally:
        log.close()
    return FINE


async def _until_told_to_stop(server: Server, reload: Reload, admin: Callable[[], Awaitable[str]]) -> None:
    """Serve; the first signal drains, a second one ends at once. SIGHUP, or a changed file, reloads."""
    told = asyncio.Event()
    stop_now = asyncio.Event()

    def stop() -> None:
        if told.is_set():
            stop_now.set()
        told.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    loop.add_signal_handler(signal.SIGHUP, reload.reload)
    await server.start(admin)
    following = asyncio.create_task(reload.follow())
    await told.wait()
    following.cancel()
    draining = asyncio.create_task(server.drain())
    waiting = asyncio.create_task(stop_now.wait())
    await asyncio.wait({draining, waiting}, return_when=asyncio.FIRST_COMPLETED)
    if not draining.done():
        draining.cancel()
        await asyncio.gather(draining, return_exceptions=True)
        await server.stop(at_once=True)
    waiting.cancel()
    if not draining.cancelled():
        draining.result()  # a drain that failed is a failure
