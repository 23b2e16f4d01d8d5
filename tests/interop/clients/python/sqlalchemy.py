"""SQLAlchemy's ORM on psycopg, with its pool."""

import psycopg
import sqlalchemy
from sqlalchemy import create_engine, func, select, text
from sqlalchemy.exc import DataError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from tests.interop.clients.python.script import LARGE_ROWS, Script, main


class Base(DeclarativeBase):
    """The mapping's registry."""


class Item(Base):
    """A row of items."""

    __tablename__ = "items"
    id: Mapped[int] = mapped_column(primary_key=True)
    step: Mapped[str]


class Sqlalchemy(Script):
    driver = "SQLAlchemy"
    version = f"{sqlalchemy.__version__} (psycopg {psycopg.__version__})"

    def connect(self) -> object:
        # libpq reads the environment; every statement is prepared at its first use.
        self.engine = create_engine("postgresql+psycopg://", connect_args={"prepare_threshold": 0})
        return self._one("SELECT current_setting('application_name')")

    def _one(self, query: str, **arguments: object) -> object:
        with self.engine.connect() as connection:
            row = connection.execute(text(query), arguments).one()
            return row[0] if len(row) == 1 else list(row)

    def _count(self, step: str) -> object:
        with Session(self.engine) as session:
            return session.scalar(select(func.count()).where(Item.step == step))

    def parameters(self) -> object:
        query = "SELECT CAST(:number AS int) + 1, CAST(:text AS text)"
        return self._one(query, number=41, text="naïve 'quoted'")

    def prepared(self) -> object:
        return [self._one("SELECT CAST(:number AS int) * 2", number=number) for number in (21, 4)]

    def commit(self) -> object:
        with Session(self.engine) as session, session.begin():
            session.add(Item(step="commit"))
        return self._count("commit")

    def rollback(self) -> object:
        try:
            with Session(self.engine) as session, session.begin():
                session.add(Item(step="rollback"))
                session.flush()
                session.execute(text("SELECT 1 / 0"))
        except DataError as error:
            return [self.sqlstate(error), self._count("rollback")]
        return None

    def savepoint(self) -> object:
        with Session(self.engine) as session, session.begin():
            session.add(Item(step="savepoint"))
            try:
                with session.begin_nested():
                    session.add(Item(step="savepoint"))
                    session.flush()
                    session.execute(text("SELECT 1 / 0"))
            except DataError:
                pass
        return self._count("savepoint")

    def large(self) -> object:
        with self.engine.connect() as connection:
            result = connection.execution_options(yield_per=1000).execute(text(LARGE_ROWS))
            return sum(1 for _ in result)

    def sqlstate(self, error: BaseException) -> str | None:
        return getattr(getattr(error, "orig", None), "sqlstate", None)

    def begin_leak(self) -> None:
        self.session = Session(self.engine)
        self.session.add(Item(step="leak"))
        self.session.flush()

    def use_leaked(self) -> None:
        self.session.execute(text("SELECT 1"))

    def commit_leaked(self) -> None:
        self.session.commit()

    def again(self) -> object:
        self.session.close()
        return self._one("SELECT 1")

    def go_on(self) -> object:
        self.session.close()
        with Session(self.engine) as session, session.begin():
            session.add(Item(step="after"))
            session.flush()
            return session.scalar(text("SELECT pg_backend_pid()"))

    def close(self) -> None:
        self.engine.dispose()


if __name__ == "__main__":
    main(Sqlalchemy())
