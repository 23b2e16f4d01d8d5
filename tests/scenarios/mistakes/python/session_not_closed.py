"""Invoices are sent by a pool of threads, and the partner refuses one."""

from concurrent.futures import Future, ThreadPoolExecutor

import sqlalchemy
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from tests.scenarios.mistakes.python.application import FIXED, call_partner, rest


class Base(DeclarativeBase):
    """All models."""


class Invoice(Base):
    """A row of invoices."""

    __tablename__ = "invoices"
    id: Mapped[int] = mapped_column(primary_key=True)
    status: Mapped[str]


engine = sqlalchemy.create_engine("postgresql+psycopg://")


def send(number: int) -> None:
    session = Session(engine)
    session.get_one(Invoice, number).status = "sent"
    session.flush()
    call_partner("/refuses")
    session.commit()
    # The mistake: an exception goes past this line. Whoever keeps it, keeps its frames, and the session in them.
    session.close()


def send_in_context(number: int) -> None:
    with Session(engine) as session, session.begin():
        session.get_one(Invoice, number).status = "sent"
        session.flush()
        call_partner("/refuses")


with ThreadPoolExecutor(1) as executor:
    results: list[Future[None]] = [executor.submit(send_in_context if FIXED else send, 1)]
rest()  # until the results are looked at, at the end of the day
