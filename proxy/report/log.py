"""structlog's chain, and a writer that never blocks the loop.

Lines are handed to a thread through a bounded queue: a pipe that nobody empties costs log lines, which are counted and
told of as soon as lines go through again, and no latency.
"""

import contextlib
import io
import os
import queue
import sys
import threading
import urllib.parse
from collections.abc import Callable, Mapping, MutableMapping
from typing import Any, Final, TextIO

import structlog

from proxy.report.console import ConsoleRenderer
from proxy.report.event import Event
from proxy.report.events import LogDropped
from proxy.settings import Log as LogSettings
from proxy.settings import LogFormat, LogLevel

MAX_LINES: Final = 10_000  # waiting for the writer; some megabytes
CLOSE_TIMEOUT: Final = 2.0  # seconds for the last lines to go out

_levels: Final = {LogLevel.DEBUG: 10, LogLevel.INFO: 20, LogLevel.WARNING: 30, LogLevel.ERROR: 40}
_place: Final = {
    "POD_NAME": "k8s.pod.name",
    "POD_NAMESPACE": "k8s.namespace.name",
    "NODE_NAME": "k8s.node.name",
    "CONTAINER_NAME": "k8s.container.name",
}


class LineWriter:
    """Writes lines to a stream from a thread of its own.

    Attributes:
        dropped: lines that were lost since the last `take_dropped`.
    """

    def __init__(self, stream: TextIO, max_lines: int = MAX_LINES) -> None:
        self._put = _unbuffered(stream)
        self._lines: queue.Queue[str | None] = queue.Queue(max_lines)
        self.dropped = 0
        self._thread = threading.Thread(target=self._run, name="log", daemon=True)
        self._thread.start()

    def write(self, line: str) -> None:
        """Hand over one line; returns at once."""
        try:
            self._lines.put_nowait(line)
        except queue.Full:
            self.dropped += 1

    debug = info = warning = error = write  # structlog calls a method named like the level

    def take_dropped(self) -> int:
        """How many lines were lost, if there is room to tell; from now on counting starts again."""
        if not self.dropped or self._lines.full():
            return 0
        dropped, self.dropped = self.dropped, 0
        return dropped

    def close(self, timeout: float = CLOSE_TIMEOUT) -> None:
        """Let the lines that wait go out, as far as they do within `timeout` seconds."""
        with contextlib.suppress(queue.Full):
            self._lines.put(None, timeout=timeout)
        self._thread.join(timeout)

    def _run(self) -> None:
        while (line := self._lines.get()) is not None:
            try:
                self._put(line + "\n")
            except (OSError, ValueError):  # nobody reads any more, or the stream was closed
                self.dropped += 1


def _unbuffered(stream: TextIO) -> Callable[[str], object]:
    """How to write to a stream: past its buffer, whose lock a thread that waits for a pipe would hold at the exit."""
    try:
        descriptor = stream.fileno()
    except (OSError, ValueError):  # a stream in memory
        return stream.write

    def write(text: str) -> None:
        data = text.encode("utf-8", "backslashreplace")
        while data:
            data = data[os.write(descriptor, data) :]

    return write


class Log:
    """The log of the process.

    Args:
        settings: format, level.
        environment: where the process says which pod it runs in.
        stream: where lines go; standard output.
    """

    def __init__(self, settings: LogSettings, environment: Mapping[str, str], stream: TextIO | None = None) -> None:
        stream = stream or sys.stdout or io.StringIO()  # there is no stdout where it was closed before the start
        self._writer = LineWriter(stream)
        self._logger = structlog.wrap_logger(
            self._writer,
            processors=[
                structlog.processors.add_log_level,
                structlog.processors.TimeStamper(fmt="iso", utc=True),
                _Ordered(where_we_run(environment)),
                _renderer(settings.format, stream),
            ],
            wrapper_class=structlog.make_filtering_bound_logger(_levels[LogLevel.DEBUG]),  # `would_write` decides
        )
        self.change(settings)

    def change(self, settings: LogSettings) -> None:
        """Log from this level on; the format stays."""
        self._threshold = _levels[settings.level]

    def would_write(self, event: type[Event]) -> bool:
        """Whether events of this kind are logged at all."""
        return _levels[LogLevel(event.level)] >= self._threshold

    def write(self, event: Event) -> None:
        """Log one event, if its level is high enough."""
        self._line(event)
        dropped = self._writer.take_dropped()
        if dropped:
            self._line(LogDropped(lines=dropped))

    def close(self) -> None:
        """Write what waits to be written."""
        self._writer.close()

    def _line(self, event: Event) -> None:
        if self.would_write(type(event)):
            self._logger.log(_levels[LogLevel(event.level)], event.event, **event.fields())


class _Ordered:
    """Puts timestamp, level and event first, and where we run last."""

    def __init__(self, place: Mapping[str, str]) -> None:
        self._place = dict(place)

    def __call__(self, _logger: object, _method: str, record: MutableMapping[str, Any]) -> dict[str, Any]:
        first = {name: record.pop(name) for name in ("timestamp", "level", "event")}
        place = {name: value for name, value in self._place.items() if name not in first and name not in record}
        return {**first, **record, **place}


def where_we_run(environment: Mapping[str, str]) -> dict[str, str]:
    """What the environment says of this process: Kubernetes' downward API and OpenTelemetry's resource attributes."""
    found = {}
    for pair in environment.get("OTEL_RESOURCE_ATTRIBUTES", "").split(","):
        name, equals, value = pair.partition("=")
        if equals and name.strip():
            found[name.strip()] = urllib.parse.unquote(value.strip())
    if environment.get("OTEL_SERVICE_NAME"):
        found["service.name"] = environment["OTEL_SERVICE_NAME"]
    return found | {key: environment[name] for name, key in _place.items() if environment.get(name)}


def _renderer(log_format: LogFormat, stream: TextIO) -> structlog.typing.Processor:
    terminal = stream.isatty()
    if log_format is LogFormat.CONSOLE or (log_format is LogFormat.AUTO and terminal):
        return ConsoleRenderer(colour=terminal and "NO_COLOR" not in os.environ)
    return structlog.processors.JSONRenderer()
