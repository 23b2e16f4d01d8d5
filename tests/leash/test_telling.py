"""What is told waits for what is asked, in order; whatever becomes of the question, nothing is lost."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import cast

import psycopg
import pytest

from proxy.demo.postgres import Postgres
from proxy.leash.telling import Telling
from proxy.leash.witnesses import Witnesses
from proxy.report import events, summary
from proxy.report.event import Event
from proxy.report.reporter import Reporter
from tests.harness import Proxy, dsn, settings_for, until
from tests.life.support import FakeServer, never_answers
from tests.report.leaks import leak

PROCESS = events.Process(pid=17, executable="/usr/bin/node")
BLAST = events.Blast(locks=("RowExclusiveLock on t",), blocked_sessions=12, oldest_wait_s=1.5)
TRANSPORT = cast("asyncio.Transport", object())


class FakeWitnesses:
    """Witnesses that answer when they are told to.

    Attributes:
        known: whether there is anybody to ask.
        asked: the leaks that were asked about.
    """

    def __init__(self) -> None:
        self.known = True
        self.asked: list[str | None] = []
        self.answers = asyncio.get_running_loop().create_future()
        self.found: tuple[events.Process | None, events.Blast | None] = (PROCESS, BLAST)
        self.tasks: list[asyncio.Task[None]] = []

    def may_know(self, transport: object, leak: events.Leak | None) -> bool:
        return self.known and (transport is not None or leak is not None)

    def spawn(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        self.tasks.append(asyncio.get_running_loop().create_task(work))
        return self.tasks[-1]

    async def process(self, transport: object) -> events.Process | None:
        await self.answers
        return self.found[0] if transport else None

    async def blast(self, leak: events.Leak | None, _holds: Callable[[], bool]) -> events.Blast | None:
        self.asked.append(leak.id if leak else None)
        await self.answers
        return self.found[1] if leak else None

    async def answer(self) -> None:
        self.answers.set_result(None)
        await self.ended()
        self.answers = asyncio.get_running_loop().create_future()

    async def ended(self) -> None:
        await asyncio.gather(*self.tasks, return_exceptions=True)
        await asyncio.sleep(0)


class Client:
    """A session's connection, and its log."""

    def __init__(self, witnesses: FakeWitnesses) -> None:
        self.transport: asyncio.Transport | None = TRANSPORT
        self.told: list[Event] = []
        self.reporter = Reporter(self)
        self.witnesses = witnesses
        self.telling = Telling(cast("Witnesses", witnesses), self.reporter, self)

    def client_transport(self) -> asyncio.Transport | None:
        return self.transport

    def write(self, event: Event) -> None:
        self.told.append(event)

    def would_write(self, event: type[Event]) -> bool:
        return bool(event)

    # What is told in the tests.

    def flag(self, facts: events.Leak) -> None:
        self.telling.ask(facts)
        self.telling.tell(
            facts, lambda leak: events.LeakFlagged(summary=summary.flagged(leak), leak=leak, flagged=True)
        )

    def resolve(self, facts: events.Leak) -> None:
        self.telling.tell(
            facts,
            lambda leak: events.LeakResolved(summary="", leak=leak, flagged=True, outcome="commit", resumed_with=""),
        )

    def begin_twice(self) -> None:
        facts = leak()
        self.telling.tell_of(
            facts.session,
            lambda session: events.DirtyCheckout(summary="", session=session, transaction=facts.transaction),
        )

    def names(self) -> list[str]:
        return [event.event for event in self.told]

    def leaks(self) -> list[tuple[str, bool]]:
        """Of which leaks it was told, and whether with a blast."""
        return [(event.leak.id, event.leak.blast is not None) for event in self.told if hasattr(event, "leak")]


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    client = Client(FakeWitnesses())
    yield client
    for task in client.witnesses.tasks:
        task.cancel()
    await client.witnesses.ended()


async def test_what_is_told_waits_for_the_answer_and_has_it(client: Client) -> None:
    client.flag(leak())
    await asyncio.sleep(0)
    assert client.told == []
    await client.witnesses.answer()
    (event,) = client.told
    fields = event.fields()
    assert (fields["client.process.pid"], fields["client.process.executable"]) == (17, "/usr/bin/node")
    assert fields["blast.locks"] == ("RowExclusiveLock on t",)
    assert (fields["blast.blocked_sessions"], fields["blast.oldest_wait_s"]) == (12, 1.5)
    assert fields["leak.summary"] == (
        "app (u@d, node, pid 17) has been idle for 1.0 s in a transaction opened by SELECT ?; 12 sessions wait for it"
    )


async def test_without_anybody_to_ask_it_is_told_at_once(client: Client) -> None:
    client.witnesses.known = False
    client.flag(leak())
    assert client.names() == ["leak.flagged"]
    assert client.witnesses.tasks == []
    assert "blast.blocked_sessions" not in client.told[0].fields()


async def test_what_nobody_knew_costs_fields_and_no_event(client: Client) -> None:
    client.witnesses.found = (None, None)
    client.flag(leak())
    await client.witnesses.answer()
    fields = client.told[0].fields()
    assert not [name for name in fields if name.startswith(("client.process", "blast."))]


async def test_the_order_is_kept_while_somebody_is_asked(client: Client) -> None:
    client.flag(leak())
    client.resolve(leak())
    client.begin_twice()
    client.telling.count(events.ConfigWarning(reason=""))
    client.flag(leak(id="other"))
    await asyncio.sleep(0)
    assert client.told == []
    await client.witnesses.answer()
    assert client.names() == ["leak.flagged", "leak.resolved", "client.dirty_checkout", "leak.flagged"]
    client.resolve(leak(id="other"))
    assert client.names()[-1] == "leak.resolved"


async def test_what_is_counted_is_counted_in_its_turn(client: Client) -> None:
    client.flag(leak())
    spared = events.LeakSpared(summary="", leak=leak(), flagged=True, action="rollback", reason="budget")
    client.telling.count(spared)
    assert list(client.reporter.ledger) == []
    await client.witnesses.answer()
    ((_, account),) = client.reporter.ledger
    assert (account.leaks, account.spared) == (1, 1)
    assert client.names() == ["leak.flagged"]


async def test_all_events_of_a_leak_have_its_blast_and_those_of_another_one_have_not(client: Client) -> None:
    client.flag(leak(id="first"))
    await client.witnesses.answer()
    client.resolve(leak(id="first"))
    client.resolve(leak(id="second"))
    assert client.leaks() == [("first", True), ("first", True), ("second", False)]


async def test_a_leak_that_is_flagged_while_another_one_is_asked_about_does_not_get_its_blast(client: Client) -> None:
    client.flag(leak(id="first"))
    client.resolve(leak(id="first"))
    client.flag(leak(id="second"))
    await client.witnesses.answer()
    assert client.leaks()[:2] == [("first", True), ("first", True)]
    assert client.leaks()[2] == ("second", "second" in client.witnesses.asked)


async def test_the_next_leak_is_asked_about_anew(client: Client) -> None:
    client.flag(leak(id="first"))
    await client.witnesses.answer()
    client.flag(leak(id="second"))
    await client.witnesses.answer()
    client.resolve(leak(id="first"))
    assert client.leaks() == [("first", True), ("second", True), ("first", False)]


async def test_a_process_does_not_change_and_is_kept(client: Client) -> None:
    client.flag(leak(id="first"))
    await client.witnesses.answer()
    client.witnesses.found = (None, BLAST)
    client.flag(leak(id="second"))
    await client.witnesses.answer()
    client.begin_twice()
    assert [event.fields()["client.process.pid"] for event in client.told] == [17] * 3


async def test_a_mistake_that_is_no_leak_has_its_process_too(client: Client) -> None:
    client.begin_twice()
    await client.witnesses.answer()
    assert client.told[0].fields()["client.process.pid"] == 17
    assert "blast.blocked_sessions" not in client.told[0].fields()


async def test_an_event_that_cannot_be_made_does_not_keep_the_others_back(client: Client) -> None:
    def fail(_leak: events.Leak) -> Event:
        raise ValueError("a secret")

    client.flag(leak())
    client.telling.tell(leak(), fail)
    client.resolve(leak())
    await client.witnesses.answer()
    assert client.names() == ["leak.flagged", "proxy.error", "leak.resolved"]
    assert "a secret" not in str(client.told[1].fields())


@pytest.mark.parametrize("turns", [0, 1, 2])
async def test_what_waits_is_told_though_the_question_is_given_up(client: Client, turns: int) -> None:
    """A proxy that stops cancels its tasks, some before their first step."""
    client.flag(leak())
    client.resolve(leak())
    for _ in range(turns):
        await asyncio.sleep(0)
    client.witnesses.tasks[0].cancel()
    await client.witnesses.ended()
    assert client.names() == ["leak.flagged", "leak.resolved"]
    client.resolve(leak(id="other"))
    assert len(client.told) == 3


def test_a_proxy_that_stops_while_it_asks_tells_what_it_knows(postgres: Postgres) -> None:
    with FakeServer(never_answers) as witness:
        options = {"flag_after": "20ms", "attribution__blast_radius_dsn": f"postgresql://a@{witness.address}/b"}
        with Proxy(settings_for(f"{postgres.host}:{postgres.port}", **options)) as proxy:
            connection = psycopg.connect(dsn(proxy, postgres))
            connection.execute("SELECT 1")
            until(lambda: witness.accepted > 0, what="nobody asks")
    connection.close()
    (event,) = proxy.recorder.of(events.LeakFlagged)
    assert event.leak.blast is None
