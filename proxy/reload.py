"""Takes over a changed configuration while clients are served.

It is read on SIGHUP, and when the file has changed: a ConfigMap swaps a link, an editor may write it in two goes. What
cannot be used changes nothing. Addresses stay what they were: they need a restart.
"""

import asyncio
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from proxy.errors import OperatorError, SettingsError
from proxy.report.events import ConfigRejected, ConfigReloaded, ConfigWarning, InternalError
from proxy.report.log import Log
from proxy.report.reporter import Reporter
from proxy.server import Server
from proxy.settings import Loaded, Settings, keeping, stamp

LOOK_EVERY: Final = 1.0  # seconds between two looks at the file; it is read when two looks have found it the same
AT_THE_START: Final = ("listen", "upstream", "admin.listen", "admin.token_file", "log.format")


class Reload:
    """Keeps a proxy at what its configuration says.

    Args:
        load: reads the configuration; raises SettingsError.
        loaded: what it said at the start.
        server: the proxy.
        log: its log.
        reporter: takes events.
    """

    def __init__(
        self, load: Callable[[], Loaded], loaded: Loaded, server: Server, log: Log, reporter: Reporter
    ) -> None:
        self._load = load
        self._known = loaded.stamp
        self._loaded = loaded
        self._server = server
        self._log = log
        self._reporter = reporter

    def reload(self, *, asked: bool = True) -> None:
        """Read it again and take it over.

        Args:
            asked: somebody wants to know, even if nothing has changed.
        """
        file = self._loaded.file
        self._known = stamp(file) if file else None
        try:
            self._take_over(self._load(), asked=asked)
        except SettingsError as error:
            self._reporter.emit(ConfigRejected(reason="; ".join(error.problems)))
        except OperatorError as error:
            self._reporter.emit(ConfigRejected(reason=str(error)))
        except Exception as error:  # noqa: BLE001 - whatever a file makes of us, the next one is to be read
            self._reporter.emit(InternalError.of(error))

    def _take_over(self, loaded: Loaded, *, asked: bool) -> None:
        running = self._loaded
        settings = keeping(loaded.settings, running.settings)
        changed = tuple(_changed(running.settings, loaded.settings))
        self._server.change(settings)
        self._log.change(settings.log)
        self._loaded = loaded._replace(settings=settings)
        for warning in loaded.warnings:
            if warning not in running.warnings:
                self._reporter.emit(ConfigWarning(reason=warning))
        if changed or asked:
            left = tuple(key for key in changed if key in AT_THE_START)
            taken = tuple(key for key in changed if key not in left)
            self._reporter.emit(ConfigReloaded(changed=taken, needs_restart=left))

    async def follow(self) -> None:
        """Take the file over whenever it has changed."""
        file, before = self._loaded.file, self._known
        while file:
            await asyncio.sleep(LOOK_EVERY)
            now = stamp(file)
            if now == before and now != self._known:
                self.reload(asked=False)
            before = now


def _changed(before: Settings, after: Settings) -> Iterator[str]:
    """The keys that differ."""
    old, new = dict(_flat(before.model_dump())), dict(_flat(after.model_dump()))
    yield from (key for key in old if old[key] != new[key])


def _flat(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value
