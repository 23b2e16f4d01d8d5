"""Random requests to a transaction that was rolled back are answered as by one that Postgres itself has failed.

Both get the same bytes. What may differ is the first error, and that a COMMIT raises; nothing else, nor afterwards.
"""

import random
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from tests import messages as m
from tests.drivers.support import INSERT, OURS, Ground
from tests.drivers.test_statements import show
from tests.rawclient import Message, RawClient

COMMITS = ("COMMIT", "end", "/* now */ commit work")
ENDS = ("ROLLBACK", "abort transaction", "ROLLBACK AND CHAIN")
OTHERS = (
    "SELECT 1", INSERT, "BEGIN", "SAVEPOINT a", "ROLLBACK TO a", "RELEASE a", "SELEC", "", "COMMIT PREPARED 'nothing'",
    "SET LOCAL work_mem TO '1MB'", "DECLARE c CURSOR FOR SELECT 1", "FETCH c", "DEALLOCATE named",
    "PREPARE p AS SELECT 1",
)  # fmt: skip
SEVERAL = ("SELECT 1; COMMIT", "ROLLBACK; SELECT 1", "ROLLBACK; BEGIN; SELECT 1", "; ;", f"ROLLBACK; {INSERT}; SELEC")
PREPARED = {"commit": "COMMIT", "rollback": "ROLLBACK", "select": "SELECT 1", "begin": "BEGIN", "named": INSERT}
SQLSTATE = re.compile("[0-9A-Z]{5}")
SEEDS = 40


@dataclass
class Request:
    """What is answered by one ReadyForQuery; what may commit stands last."""

    data: bytes
    commits: bool = False


@dataclass
class Author:
    """Makes requests up."""

    random: random.Random
    names: list[str] = field(default_factory=lambda: [*PREPARED])

    def request(self) -> Request:
        return self._query() if self.random.random() < 0.4 else self._series()

    def _query(self) -> Request:
        text = self._text((COMMITS, 2), (ENDS, 1), (OTHERS, 4), (SEVERAL, 1))
        return Request(self.random.choice((b"", b"", m.close("nothing"))) + m.query(text), text in COMMITS)

    def _text(self, *kinds: tuple[tuple[str, ...], int]) -> str:
        (kind,) = self.random.choices([kind for kind, _ in kinds], [weight for _, weight in kinds])
        return self.random.choice(kind)

    def _series(self) -> Request:
        parts = [self._part() for _ in range(self.random.randint(0, 3))]
        commits = self.random.random() < 0.3
        if commits:
            named = m.bind("commit", "here") + m.execute("here")
            parts.append(named if self.random.random() < 0.5 else m.run(self.random.choice(COMMITS)))
        return Request(b"".join(parts) + self.random.choice((b"", m.FLUSH)) + m.SYNC, commits)

    def _part(self) -> bytes:
        name = self.random.choice([name for name in self.names if name != "commit"])
        ways = (
            m.run(self._text((ENDS, 1), (OTHERS, 5))),
            m.bind(name) + m.execute(),
            m.bind(name, "portal") + m.describe("portal", "P") + m.execute("portal", 1),
            m.describe(name),
            self._parse(),
            m.close(self.random.choice(("portal", "nothing")), "P"),
            m.execute("nowhere"),
            m.FLUSH,
        )
        return self.random.choice(ways)

    def _parse(self) -> bytes:
        self.names.append(f"statement {len(self.names)}")
        # What ends a block is prepared before: in a series that fails nobody knows what was, and then it raises.
        return m.parse(self.random.choice(OTHERS), self.names[-1]) + self.random.choice((b"", m.FLUSH))


def begin(client: RawClient) -> None:
    client.send(b"".join(m.parse(text, name) for name, text in PREPARED.items()) + m.SYNC)
    client.receive_until("Z")
    client.query("BEGIN")
    client.query(INSERT)


def answers(client: RawClient, requests: list[Request]) -> Iterator[list[Message]]:
    for _ in requests:
        yield [message for message in client.receive_until("Z") if message.kind not in "NS"]


def due(requests: list[Request], directly: list[list[str]]) -> list[list[str]]:
    """What is due to a client of ours, by what a failed transaction of Postgres's own has answered."""
    owed, told = True, False
    answers: list[list[str]] = []
    for request, seen in zip(requests, directly, strict=True):
        answer = list(seen)
        if owed:
            if request.commits and answer[-2:] == ["ROLLBACK", "I"] and answer.count("ROLLBACK") == 1:
                answer[-2] = OURS
            ended = answer.index("ROLLBACK") if "ROLLBACK" in answer else len(answer)
            errors = [at for at, one in enumerate(answer[:ended]) if SQLSTATE.fullmatch(one)]
            if errors and not told:
                answer[errors[0]] = OURS
            told = told or bool(errors)
            owed = answer[-1] == "E" and "ROLLBACK" not in answer
        answers.append(answer)
    return answers


def cut(data: bytes, dice: random.Random) -> Iterator[bytes]:
    while data:
        size = dice.choice((1, 4, 7, 50, 1000))
        yield data[:size]
        data = data[size:]


@pytest.mark.parametrize("seed", range(SEEDS))
def test_random_requests(ground: Ground, seed: int) -> None:
    dice = random.Random(seed)  # noqa: S311 - requests are no secret
    author = Author(dice)
    requests = [author.request() for _ in range(dice.randint(1, 8))]
    data = b"".join(request.data for request in requests)

    with RawClient(ground.directly) as client:
        begin(client)
        client.query("SELECT 1 / 0")
        client.send(data)
        directly = [[show(one) for one in answer] for answer in answers(client, requests)]
    with RawClient(ground.through) as client:
        begin(client)
        ground.roll_back(client.backend_pid)
        for piece in cut(data, dice):
            client.send(piece)
        seen = [[show(one) for one in answer] for answer in answers(client, requests)]

    assert seen == due(requests, directly), data
