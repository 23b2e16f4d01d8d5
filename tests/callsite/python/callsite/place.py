"""Where in the code a statement comes from, and what the program is doing, as comments in SQL."""

import functools
import inspect
from collections.abc import Mapping
from contextvars import ContextVar
from pathlib import Path
from types import FrameType
from urllib.parse import quote

import psycopg
from psycopg.pq import TransactionStatus

HERE = Path(__file__).parent
APPLICATION = HERE.parent  # the directory of your own code

# The route or the job, and what differs from request to request: {"route": "/hooks/partner", "traceparent": "00-..."}.
doing: ContextVar[dict[str, str]] = ContextVar("doing")


def place(frame: FrameType | None = None) -> dict[str, str]:
    """The innermost frame of the application's own code, from here or from this frame on."""
    frame = frame or inspect.currentframe()
    while frame:
        if file := _own(frame.f_code.co_filename):
            return {"source_location": f"{file}:{frame.f_lineno}", "function": frame.f_code.co_qualname}
        frame = frame.f_back
    return {}


@functools.cache
def _own(file: str) -> str | None:
    """A file's name within the application; None for libraries, and for the files of this directory."""
    path = Path(file)
    if "site-packages" in path.parts or HERE in path.parents or APPLICATION not in path.parents:
        return None
    return path.relative_to(APPLICATION).as_posix()


def commented(statement: str, tags: Mapping[str, str]) -> str:
    """A statement with its tags in front of it, where nothing that cuts off long texts loses them."""
    # %% because drivers take % for the beginning of a parameter.
    pairs = (f"{name}='{quote(value, safe='/:')}'".replace("%", "%%") for name, value in tags.items())
    return f"/*{','.join(pairs)}*/ {statement}" if tags else statement


def begin(driver: psycopg.Connection) -> None:
    """Send the BEGIN that psycopg would send in front of the next statement, and say in it what we are doing."""
    tags = doing.get({})
    if driver.autocommit or not tags or driver.info.transaction_status != TransactionStatus.IDLE:
        return
    words = ["BEGIN"]
    if driver.isolation_level is not None:
        words += ["ISOLATION LEVEL", driver.isolation_level.name.replace("_", " ")]
    if driver.read_only is not None:
        words.append("READ ONLY" if driver.read_only else "READ WRITE")
    if driver.deferrable is not None:
        words.append("DEFERRABLE" if driver.deferrable else "NOT DEFERRABLE")
    driver.pgconn.exec_(commented(" ".join(words), tags).encode())
