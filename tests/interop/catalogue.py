"""The clients: what there is, and which of them a run asks for."""

from collections.abc import Collection
from dataclasses import dataclass


@dataclass(frozen=True)
class Client:
    """A client and its program below clients/.

    Attributes:
        name: as in `make interop CLIENTS="..."`; also the program's name.
        kit: how its program is made to run; the directory below clients/ that it lies in.
        first: it is in the first tier, which every run has.
        has_events: it emits events, and so there is the question what becomes of one that nobody handles.
    """

    name: str
    kit: str
    first: bool = False
    has_events: bool = False

    def __str__(self) -> str:
        return self.name

    @property
    def application_name(self) -> str:
        """What its sessions are called."""
        return f"interop-{self.name}"


CLIENTS = (
    Client("psycopg3", "python", first=True),
    Client("psycopg2", "python", first=True),
    Client("asyncpg", "python", first=True),
    Client("pg8000", "python", first=True),
    Client("sqlalchemy", "python", first=True),
    Client("sqlalchemy_asyncio", "python", first=True),
    Client("django", "python", first=True),
    Client("psql", "python", first=True),
    Client("pgbench", "python", first=True),
    Client("pg", "node", first=True, has_events=True),
    Client("postgres", "node", first=True, has_events=True),
    Client("knex", "node", has_events=True),
    Client("sequelize", "node", has_events=True),
    Client("typeorm", "node", has_events=True),
    Client("jdbc", "java"),
    Client("jdbc_simple", "java"),
    Client("hikari", "java"),
    Client("pq", "go"),
    Client("pgx", "go"),
    Client("dbd_pg", "perl"),
    Client("ruby_pg", "ruby"),
    Client("php_pgsql", "php"),
    Client("odbc", "python"),
)


def wanted(names: Collection[str]) -> list[Client]:
    """The clients of these names; `first` is the name of the first tier; without any name all.

    Raises:
        ValueError: there is no client of a name.
    """
    unknown = set(names) - {client.name for client in CLIENTS} - {"first"}
    if unknown:
        raise ValueError(f"no such client: {sorted(unknown)}; there are {[client.name for client in CLIENTS]}")
    return [client for client in CLIENTS if not names or client.name in names or (client.first and "first" in names)]
