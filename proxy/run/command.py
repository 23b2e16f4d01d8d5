"""`pgleash run`: the proxy, a command that is led through it, and a verdict on standard error."""

import contextlib
import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from proxy.admin import access
from proxy.errors import OperatorError
from proxy.leash import witnesses
from proxy.report.document import ledger_document
from proxy.report.events import ConfigWarning, LeakReport
from proxy.report.ledger import utc_now
from proxy.report.log import Log, where_we_run
from proxy.report.reporter import Reporter
from proxy.run.aim import Aim, Given, led_through, take_aim
from proxy.run.background import Background
from proxy.run.child import CommandError, Signals
from proxy.run.tally import Tally
from proxy.run.verdict import Figures, leaked, verdict
from proxy.settings import Loaded, load, options
from proxy.tls import contexts

LEAKS_FOUND: Final = 3
# What only a flag sets: the configuration's word for it is meant for `serve`.
BY_FLAG: Final = {"listen": "127.0.0.1:0", "admin.listen": "none", "drain_timeout": "1s"}
# Tests hold transactions for milliseconds: ten seconds would find nothing. See docs/ci.md.
FLAG_AFTER: Final = "2s"
DEFAULTS: Final = {**BY_FLAG, "listen": "a free port of 127.0.0.1", "flag_after": FLAG_AFTER}  # as `--help` says them
COERCED: Final = ("C.UTF-8", "C.utf8", "UTF-8")
LOGGED_IF: Final = ("log.format", "log.level")


class Asked(NamedTuple):
    """What the command line says.

    Attributes:
        config: the configuration file, if one is named.
        flags: options, by key.
        command: the command and its arguments.
        fail: whether leaks are a failure.
        ledger: where to write the ledger, if anywhere.
    """

    config: str | None
    flags: Mapping[str, str]
    command: Sequence[str]
    fail: bool = False
    ledger: str | None = None


class Seen(NamedTuple):
    """What has become of it.

    Attributes:
        status: the command's exit status.
        blocks: transaction blocks that have ended by themselves.
        reports: the ledger.
        tally: what happened.
    """

    status: int
    blocks: int
    reports: list[LeakReport]
    tally: Tally


def run(asked: Asked, environment: Mapping[str, str]) -> int:
    """Run a command through the proxy; returns the exit status.

    Raises:
        SettingsError: the configuration is wrong; the command has not run.
        OperatorError: the proxy cannot be started, or the command's environment leads nowhere, and it has not run; or
            the ledger cannot be written.
    """
    plain = load(asked.config, environment, asked.flags)
    aim = take_aim(environment, _given(asked, plain), Path(environment.get("HOME") or "/"))
    loaded = _load(asked, plain, environment, aim)
    ledger = Path(asked.ledger) if asked.ledger else None
    if ledger:
        _check_writable(ledger)
    _tell("".join(f"pgleash: {note}\n" for note in aim.notes))
    since = utc_now()
    try:
        with Signals() as signals:  # first: a thread from before would take what the command is to have
            seen = _watch(signals, asked, environment, aim, loaded)
    except CommandError as error:
        _tell(f"pgleash: {error}\n")
        return error.status
    figures = Figures(leaked(seen.reports), seen.tally.sessions, seen.blocks)
    _tell(verdict(figures, seen.reports, seen.tally))
    if ledger:
        _write(ledger, ledger_document(seen.reports, [], where_we_run(environment), utc_now(), since))
    return seen.status or (LEAKS_FOUND if asked.fail and figures.leaked else 0)


def _watch(signals: Signals, asked: Asked, environment: Mapping[str, str], aim: Aim, loaded: Loaded) -> Seen:
    """Run the command while the proxy runs."""
    log = _log(asked, loaded, environment)
    tally = Tally(log)
    reporter = Reporter(tally)
    for warning in loaded.warnings:
        reporter.emit(ConfigWarning(reason=warning))
    background = Background(loaded.settings, reporter, environment)
    try:
        status = signals.run(asked.command, led_through(_as_found(environment), aim, background.start()))
    finally:
        blocks = background.finish()
        if log is not None:
            log.close()
    return Seen(status, blocks, reporter.ledger.reports(), tally)


def _as_found(environment: Mapping[str, str]) -> dict[str, str]:
    """Without the LC_CTYPE that Python writes into its environment where there is no locale (PEP 538)."""
    found = dict(environment)
    with contextlib.suppress(OSError):  # /proc is Linux's
        if found.get("LC_CTYPE") in COERCED and b"LC_CTYPE=" not in Path("/proc/self/environ").read_bytes():
            del found["LC_CTYPE"]
    return found


def _given(asked: Asked, plain: Loaded) -> Given:
    settings, by_flag = plain.settings, "upstream" in asked.flags
    named = settings.upstream if "upstream" in settings.model_fields_set else None
    return Given(
        flag=named if by_flag else None,
        configured=None if by_flag else named,
        tls=settings.upstream_tls,
        tls_by_flag="upstream_tls.mode" in asked.flags,
    )


def _load(asked: Asked, plain: Loaded, environment: Mapping[str, str], aim: Aim) -> Loaded:
    flags = {**BY_FLAG, **aim.options, **asked.flags}
    if "flag_after" not in plain.settings.model_fields_set:
        flags["flag_after"] = FLAG_AFTER
    loaded = load(asked.config, environment, flags)
    contexts.check(loaded.settings)
    witnesses.check(loaded.settings)
    access.check(loaded.settings.admin)
    return loaded


def _log(asked: Asked, loaded: Loaded, environment: Mapping[str, str]) -> Log | None:
    """The log, if somebody has asked for it: a file's word is meant for `serve`."""
    variables = {option.variable for option in options() if option.key in LOGGED_IF}
    if not asked.flags.keys() & LOGGED_IF and not environment.keys() & variables:
        return None
    return Log(loaded.settings.log, environment, sys.stderr)


def _check_writable(ledger: Path) -> None:
    """Before the command runs, which may take an hour."""
    place = ledger if ledger.exists() else ledger.parent
    if ledger.is_dir() or not place.exists() or not os.access(place, os.W_OK):
        raise OperatorError(f"--ledger: {ledger} cannot be written")


def _write(ledger: Path, document: Mapping[str, Any]) -> None:
    try:
        ledger.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise OperatorError(f"--ledger: {ledger} cannot be written: {error.strerror}") from error


def _tell(text: str) -> None:
    """Write to standard error, which may be closed."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        sys.stderr.write(text)
        sys.stderr.flush()
