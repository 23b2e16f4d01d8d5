"""The log: one line an event, whatever a client calls itself, and never a wait for whoever reads it."""

import contextlib
import dataclasses
import io
import json
import os
import time
from collections.abc import Iterator
from typing import Any, TextIO

import pytest

from proxy.report import events
from proxy.report.event import Event
from proxy.report.log import MAX_LINES, LineWriter, Log, where_we_run
from proxy.settings import Log as LogSettings
from proxy.settings import LogFormat, LogLevel
from tests.harness import until

PROMPT = 0.5  # seconds that what never blocks may take on a busy machine
LONG = "x" * 1000

# Line ends, a colour, a cleared screen, a title, a bell, a reversed direction of writing, and lone halves of a pair.
HOSTILE = "a\nb\r\nc\x1b[31md\x1b[2Je\x1b]0;f\x07g\u202eh\u2066i\u2028j\x85k\x9bl\udc80m\0n\to"


class Pipe:
    """A pipe whose reader decides when to read."""

    def __init__(self) -> None:
        reading, writing = os.pipe()
        self.reader = os.fdopen(reading, encoding="utf-8")
        self.writer: TextIO = os.fdopen(writing, "w", encoding="utf-8")
        self._line_writers: list[LineWriter] = []

    def line_writer(self, max_lines: int = MAX_LINES) -> LineWriter:
        self._line_writers.append(LineWriter(self.writer, max_lines))
        return self._line_writers[-1]

    def close(self) -> None:
        self.reader.close()
        for line_writer in self._line_writers:
            line_writer.close()
        with contextlib.suppress(BrokenPipeError):  # what nobody has read cannot be flushed any more
            self.writer.close()


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    both = Pipe()
    yield both
    both.close()


def settings(log_format: str = "json", level: str = "info") -> LogSettings:
    return LogSettings(format=LogFormat(log_format), level=LogLevel(level))


def session(name: str = "app", address: str = "10.0.0.1") -> events.Session:
    client = events.Client(user=name, database=name, application_name=name, address=address)
    return events.Session(client=client, id="s-1", port=1, backend_pid=2)


def flagged(name: str = "app") -> events.LeakFlagged:
    facts = events.Leak(
        id="abcdefgh",
        leak_class="open_read",
        hold="idle_in_transaction",
        held_s=10.0,
        limit_s=10.0,
        rule="default",
        session=session(name),
        transaction=events.TransactionFacts(age_s=11.5, idle_s=10.0, statements=2, opener=name, last=f"other {name}"),
    )
    return events.LeakFlagged(summary=f"{name} has been idle", leak=facts, flagged=True)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def lines_of(
    event: Event,
    log_format: str,
    environment: dict[str, str] | None = None,
    kind: type[io.StringIO] = io.StringIO,
) -> list[str]:
    """What the log says of an event, without the last line's end."""
    stream = kind()
    log = Log(settings(log_format, "debug"), environment or {}, stream)
    log.write(event)
    log.close()
    text = stream.getvalue()
    assert text.endswith("\n")
    return text[:-1].split("\n")


# A writer that never blocks.


def test_a_writer_never_waits_for_a_reader(pipe: Pipe) -> None:
    writer = pipe.line_writer(max_lines=100)
    began = time.monotonic()
    for _ in range(10_000):
        writer.write(LONG)
    assert time.monotonic() - began < PROMPT
    # One line is in the writer's hands, a hundred wait, and as many as fit are in the stream's buffer and in the pipe.
    assert 10_000 - 1 - 100 - 300 < writer.dropped <= 10_000 - 100

    def no_room() -> bool:
        for _ in range(101):
            writer.write(LONG)
        return writer.take_dropped() == 0

    until(no_room, what="there is always room to tell what was lost")


def test_closing_does_not_wait_for_a_reader_either(pipe: Pipe) -> None:
    writer = pipe.line_writer(max_lines=10)
    for _ in range(1000):
        writer.write(LONG)
    began = time.monotonic()
    writer.close(timeout=0.1)
    assert time.monotonic() - began < 0.2 + PROMPT


def test_lost_lines_are_counted_and_told_once_there_is_room(pipe: Pipe) -> None:
    log = Log(settings(), {}, pipe.writer)
    asked = MAX_LINES + 2000
    began = time.monotonic()
    for number in range(asked):
        log.write(events.ConfigWarning(reason=f"{number} {LONG}"))
    assert time.monotonic() - began < 10 * PROMPT  # twelve thousand lines are made, none is waited for

    arrived = [json.loads(pipe.reader.readline()) for _ in range(100)]  # now there is room
    log.write(events.ConfigWarning(reason="the last one"))
    while arrived[-1]["event"] != "log.dropped":
        arrived.append(json.loads(pipe.reader.readline()))
    told = arrived.pop()
    assert told["level"] == "warning"
    assert arrived[-1]["error.message"] == "the last one"
    assert len(arrived) + told["log.lines"] == asked + 1

    log.write(events.ConfigWarning(reason="nothing is lost any more"))
    log.close()
    pipe.writer.close()
    assert [json.loads(line)["event"] for line in pipe.reader] == ["config.warning"]


def test_a_reader_that_is_gone_harms_nobody(pipe: Pipe) -> None:
    pipe.reader.close()
    writer = pipe.line_writer()
    for _ in range(100):
        writer.write(LONG)
    until(lambda: writer.dropped > 0, what="nobody noticed")
    writer.write("more")
    writer.close()


def test_a_stream_that_was_closed_harms_nobody() -> None:
    stream = io.StringIO()
    writer = LineWriter(stream)
    stream.close()
    writer.write("lost")
    until(lambda: writer.dropped == 1, what="nobody noticed")
    assert writer.take_dropped() == 1
    assert writer.take_dropped() == 0
    writer.close()


def test_the_last_lines_go_out_at_the_end(pipe: Pipe) -> None:
    writer = pipe.line_writer()
    for number in range(50):
        writer.write(str(number))
    writer.close()
    pipe.writer.close()
    assert pipe.reader.read().split() == [str(number) for number in range(50)]


# One line stays one line.


@pytest.mark.parametrize(
    "event",
    [
        events.SessionOpened(session=session(HOSTILE)),
        events.ProtocolViolation(reason=HOSTILE, session=session(HOSTILE)),
        events.ConfigWarning(reason=HOSTILE),
        events.ConfigRejected(reason=HOSTILE),
        events.ProxyStarted(
            version=HOSTILE, listen=(HOSTILE, HOSTILE), upstream=HOSTILE, client_tls="allow", upstream_tls="prefer"
        ),
    ],
    ids=lambda event: event.event,
)
def test_what_a_client_calls_itself_cannot_break_a_line_for_people(event: Event) -> None:
    (line,) = lines_of(event, "console", {"POD_NAME": HOSTILE})
    assert line.isprintable()


def test_what_a_client_calls_itself_cannot_break_the_two_lines_of_a_leak() -> None:
    sentence, about = lines_of(flagged(HOSTILE), "console", {"POD_NAME": HOSTILE})
    assert sentence.isprintable()
    assert about.isprintable()
    assert "has been idle" in sentence
    assert "leak abcdefgh" in about
    assert about.startswith(" " * 13)


def test_what_a_client_calls_itself_cannot_break_a_json_line() -> None:
    for event in (flagged(HOSTILE), events.SessionOpened(session=session(HOSTILE))):
        (line,) = lines_of(event, "json", {"POD_NAME": HOSTILE})
        assert line.isprintable()
        assert json.loads(line)["client.application_name"] == HOSTILE
        assert json.loads(line)["k8s.pod.name"] == HOSTILE


# What a line says.


def test_a_json_line_begins_with_when_how_bad_and_what() -> None:
    (line,) = lines_of(flagged(), "json", {"POD_NAME": "billing-1"})
    record: dict[str, Any] = json.loads(line)
    assert list(record)[:4] == ["timestamp", "level", "event", "leak.summary"]
    assert list(record)[-1] == "k8s.pod.name"
    assert (record["level"], record["event"]) == ("warning", "leak.flagged")
    when = time.strptime(record["timestamp"].partition(".")[0], "%Y-%m-%dT%H:%M:%S")
    assert abs(time.mktime(when) - time.mktime(time.gmtime())) < 60
    assert record["timestamp"].endswith("Z")
    assert record["db.system.name"] == "postgresql"
    assert record["transaction.age_s"] == 11.5
    assert all(value not in ("", None) for value in record.values())
    assert not any(isinstance(value, dict) for value in record.values())


def test_a_line_for_people_says_when_and_has_no_colour_where_there_is_no_terminal() -> None:
    (line,) = lines_of(events.ConfigWarning(reason="beware"), "console")
    when, level, event, rest = line.split(maxsplit=3)
    assert time.strptime(when.partition(".")[0], "%H:%M:%S")
    assert (level, event, rest) == ("warning", "config.warning", "error.message=beware")
    assert "\x1b" not in line


def test_auto_is_for_people_on_a_terminal_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    (line,) = lines_of(events.ConfigWarning(reason="beware"), "auto")
    assert json.loads(line)["error.message"] == "beware"

    monkeypatch.delenv("NO_COLOR", raising=False)
    (line,) = lines_of(events.ConfigWarning(reason="beware"), "auto", kind=Terminal)
    assert "\x1b[33mwarning" in line
    monkeypatch.setenv("NO_COLOR", "1")
    (line,) = lines_of(events.ConfigWarning(reason="beware"), "auto", kind=Terminal)
    assert line.isprintable()


@pytest.mark.parametrize(
    ("level", "written"),
    [
        ("debug", ["debug", "info", "warning", "error"]),
        ("info", ["info", "warning", "error"]),
        ("warning", ["warning", "error"]),
        ("error", ["error"]),
    ],
)
def test_only_what_is_bad_enough_is_written(level: str, written: list[str]) -> None:
    of_each_level = {
        "debug": events.SessionOpened(session=session()),
        "info": events.ProxyStopped(cut=0),
        "warning": events.ConfigWarning(reason="beware"),
        "error": events.UpstreamUnreachable(upstream="db:5432", reason="no route", failures=1),
    }
    stream = io.StringIO()
    log = Log(settings(level=level), {}, stream)
    assert [name for name, event in of_each_level.items() if log.would_write(type(event))] == written
    for event in of_each_level.values():
        log.write(event)
    log.close()
    assert [json.loads(line)["level"] for line in stream.getvalue().splitlines()] == written


# Where we run.


@pytest.mark.parametrize(
    ("environment", "place"),
    [
        ({}, {}),
        ({"POD_NAME": "", "OTEL_SERVICE_NAME": "", "OTEL_RESOURCE_ATTRIBUTES": "", "HOSTNAME": "h"}, {}),
        (
            {"POD_NAME": "p", "POD_NAMESPACE": "ns", "NODE_NAME": "n", "CONTAINER_NAME": "c"},
            {
                "k8s.pod.name": "p",
                "k8s.namespace.name": "ns",
                "k8s.node.name": "n",
                "k8s.container.name": "c",
            },
        ),
        (
            {"OTEL_RESOURCE_ATTRIBUTES": "service.name=shop, deployment.environment.name = prod%2Ceu ,,=x,nothing"},
            {"service.name": "shop", "deployment.environment.name": "prod,eu"},
        ),
        (  # the variable of its own wins (OpenTelemetry, "SDK environment variables")
            {"OTEL_RESOURCE_ATTRIBUTES": "service.name=shop,k8s.pod.name=other", "OTEL_SERVICE_NAME": "billing"}
            | {"POD_NAME": "p"},
            {"service.name": "billing", "k8s.pod.name": "p"},
        ),
    ],
)
def test_where_we_run_comes_from_the_environment(environment: dict[str, str], place: dict[str, str]) -> None:
    assert where_we_run(environment) == place


def test_where_we_run_cannot_take_the_place_of_what_happened() -> None:
    (line,) = lines_of(
        events.ConfigWarning(reason="beware"), "json", {"OTEL_RESOURCE_ATTRIBUTES": "event=x,level=y,timestamp=z,a=b"}
    )
    record = json.loads(line)
    assert (record["event"], record["level"], record["a"]) == ("config.warning", "warning", "b")
    assert record["timestamp"] != "z"


def test_a_statement_that_the_sentence_has_is_not_written_out_again() -> None:
    event = flagged()
    opener = "UPDATE invoices SET status = ?"
    transaction = dataclasses.replace(event.leak.transaction, opener=opener, first_write=opener, last="SELECT ?")
    leak = dataclasses.replace(event.leak, transaction=transaction)
    _, details = lines_of(dataclasses.replace(event, leak=leak), "console")
    assert "first write the same · last SELECT ? · " in details
