"""The common script, as every Python client runs it: its steps, and what it prints of them."""

import asyncio
import inspect
import json
import os
import ssl
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

STEPS = ("connect", "parameters", "prepared", "commit", "rollback", "savepoint", "copy", "large", "cancel", "notify")
ROLLED_BACK = os.environ.get("INTEROP_SCRIPT") == "rolled back"
COPIED = 100_000  # rows
LARGE_ROWS = "SELECT g, repeat('x', 100) FROM generate_series(1, 100000) AS g"


class Unsupported(Exception):  # noqa: N818 — not an error
    """The client has nothing for this step."""


class Script:
    """What a client has to do, in its own words; a method may be a coroutine function.

    A step returns what it found, which is the same for every client; `begin_leak` leaves a transaction open with a
    write in it, `use_leaked` is the next statement of an application that knows nothing, and `again` is what it does
    to go on: what comes out of the pool, or a new connection. `commit_leaked` is its COMMIT, and `go_on` what it does
    after one that failed: a transaction with a write in it ("after"), on the same connection or on what comes out of
    the pool; returns the process id of the backend.
    """

    driver: str
    version: str

    connect: Callable[[], Any]
    parameters: Callable[[], Any]
    prepared: Callable[[], Any]
    commit: Callable[[], Any]
    rollback: Callable[[], Any]
    savepoint: Callable[[], Any]
    large: Callable[[], Any]
    begin_leak: Callable[[], Any]
    use_leaked: Callable[[], Any]
    commit_leaked: Callable[[], Any]
    again: Callable[[], Any]
    go_on: Callable[[], Any]
    close: Callable[[], Any]

    def copy(self) -> Any:
        raise Unsupported("it has no COPY")

    def cancel(self) -> Any:
        raise Unsupported("it cannot cancel")

    def notify(self) -> Any:
        raise Unsupported("it has no LISTEN")

    def sqlstate(self, error: BaseException) -> str | None:
        """The SQLSTATE that an application can read from this exception."""
        return getattr(error, "sqlstate", None)

    def name_of(self, error: BaseException) -> str:
        """What an application sees raised."""
        return class_of(error)


def say(**line: Any) -> None:
    print(json.dumps(line), flush=True)  # noqa: T201 — its output is what the runner reads


def main(script: Script) -> None:
    """Run the whole script, or that of leaks that are rolled back."""
    with asyncio.Runner() as runner:
        performance = _Performance(script, runner)
        if ROLLED_BACK:
            performance.run_rolled_back()
        else:
            performance.run()


class _Performance:
    """One run of a script; the event loop runs for coroutines only, since Django's ORM refuses to work beside one."""

    def __init__(self, script: Script, runner: asyncio.Runner) -> None:
        self._script = script
        self._runner = runner

    def run(self) -> None:
        say(driver=self._script.driver, version=self._script.version)
        for step in STEPS:
            self._step(step)
        self._leak()
        self._step("again")
        self._step("close")

    def run_rolled_back(self) -> None:
        script = self._script
        say(driver=script.driver, version=script.version)
        self._step("connect")
        self._hold()
        self._step("statement", lambda: self._attempt(script.use_leaked))
        self._step("commit", lambda: self._attempt(script.commit_leaked))
        self._step("go on", script.go_on)
        self._hold()
        self._step("commit at once", lambda: self._attempt(script.commit_leaked))
        self._step("go on again", script.go_on)
        self._step("close")

    def _step(self, name: str, work: Callable[[], Any] | None = None) -> None:
        try:
            say(step=name, ok=True, result=self._done((work or getattr(self._script, name))()))
        except Unsupported as reason:
            say(step=name, unsupported=str(reason))
        except Exception as error:  # noqa: BLE001 — whatever it is, the runner shows it
            traceback.print_exc()
            say(step=name, ok=False, error=f"{class_of(error)}: {error}")

    def _leak(self) -> None:
        self._hold()
        say(step="leak", **self._attempt(self._script.use_leaked))

    def _hold(self) -> None:
        began = self._script.begin_leak()
        is_asynchronous = inspect.isawaitable(began)
        self._done(began)
        say(step="leaking")
        # The runner answers when pgleash has acted; an event loop would go on in the meantime, so ours does.
        self._done(asyncio.to_thread(sys.stdin.readline) if is_asynchronous else sys.stdin.readline())

    def _attempt(self, work: Callable[[], Any]) -> dict[str, Any]:
        """What this raises."""
        try:
            self._done(work())
        except Unsupported:
            raise
        except Exception as error:  # noqa: BLE001 — which one it is, is the question
            return {"raised": self._script.name_of(error), "sqlstate": self._script.sqlstate(error), "text": str(error)}
        return {"raised": None}

    def _done(self, result: Any) -> Any:
        async def wait() -> Any:
            return await result

        return self._runner.run(wait()) if inspect.isawaitable(result) else result


def class_of(error: BaseException) -> str:
    kind = type(error)
    return f"{kind.__module__.removeprefix('builtins.')}.{kind.__name__}"


def environment(name: str) -> str:
    """One of libpq's variables; the runner sets them all."""
    return os.environ[name]


def tls_context() -> ssl.SSLContext | None:
    """What PGSSLMODE and PGSSLROOTCERT say, for the drivers that do not read them themselves."""
    if os.environ.get("PGSSLMODE", "disable") == "disable":
        return None
    return ssl.create_default_context(cafile=Path(environment("PGSSLROOTCERT")))
