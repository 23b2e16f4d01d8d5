"""DATABASE_URL: where it leads, and the same by way of another address."""

from urllib.parse import quote

import pytest
import sqlalchemy
from hypothesis import given
from hypothesis import strategies as st
from psycopg.conninfo import conninfo_to_dict

from proxy.run.url import TLS, Target, read_url

NOWHERE = Target()


def through(text: str, **parameters: str) -> str:
    url = read_url(text)
    assert url
    return url.through("127.0.0.1", 4711, parameters, TLS)


US = "127.0.0.1:4711"
# The URL, where it leads, and the same through 127.0.0.1:4711.
URLS = {
    "postgresql://db": ([Target("db")], f"postgresql://{US}"),
    "postgresql://": ([NOWHERE], f"postgresql://{US}"),
    "postgresql:///shop": ([NOWHERE], f"postgresql://{US}/shop"),
    "postgres://db:5433/shop": ([Target("db", 5433)], f"postgres://{US}/shop"),
    "POSTGRES://db:/shop": ([Target("db")], f"POSTGRES://{US}/shop"),
    "postgis://db/shop": ([Target("db")], f"postgis://{US}/shop"),
    "postgresql+psycopg://u:p@db/shop": ([Target("db")], f"postgresql+psycopg://u:p@{US}/shop"),
    "postgresql+asyncpg://u:p@db/shop?ssl=require": ([Target("db")], f"postgresql+asyncpg://u:p@{US}/shop"),
    "postgresql://u%40x:p%2F%3A%25@db:1/s%20h?application_name=a%26b": (
        [Target("db", 1)],
        f"postgresql://u%40x:p%2F%3A%25@{US}/s%20h?application_name=a%26b",
    ),
    "postgresql://u:p@ss:w@db:1/shop": ([Target("db", 1)], f"postgresql://u:p@ss:w@{US}/shop"),
    "postgresql://u:p/s?s@db:1/shop?a=b": ([Target("db", 1)], f"postgresql://u:p/s?s@{US}/shop?a=b"),
    "postgresql://u:p#s@db:1/shop": ([Target("db", 1)], f"postgresql://u:p#s@{US}/shop"),
    "postgresql://u@/shop": ([NOWHERE], f"postgresql://u@{US}/shop"),
    "postgresql://:5433/shop": ([Target(None, 5433)], f"postgresql://{US}/shop"),
    "postgresql://db:5433/shop?email=a@b": ([Target("db", 5433)], f"postgresql://{US}/shop?email=a@b"),
    "postgresql://[::1]:5433/shop": ([Target("::1", 5433)], f"postgresql://{US}/shop"),
    "postgresql://u:p@[fe80::1%25eth0]/shop": ([Target("fe80::1%eth0")], f"postgresql://u:p@{US}/shop"),
    "postgresql://a:1,b:2/shop?target_session_attrs=any": (
        [Target("a", 1), Target("b", 2)],
        f"postgresql://{US}/shop?target_session_attrs=any",
    ),
    "postgresql://u@a,b/shop": ([Target("a"), Target("b")], f"postgresql://u@{US}/shop"),
    "postgresql://%2Fvar%2Frun%2Fpostgresql/shop": ([Target("/var/run/postgresql")], f"postgresql://{US}/shop"),
    "postgresql:///shop?host=/var/run/postgresql&port=5433&user=u": (
        [Target("/var/run/postgresql", 5433)],
        f"postgresql://{US}/shop?user=u",
    ),
    "postgresql://db:1/shop?host=other": ([Target("other", 1)], f"postgresql://{US}/shop"),
    "postgresql:///shop?host=a,b&port=1,2": ([Target("a", 1), Target("b", 2)], f"postgresql://{US}/shop"),
    "postgresql:///shop?host=a%2Cb&port=1": ([Target("a", 1), Target("b", 1)], f"postgresql://{US}/shop"),
    "postgresql+psycopg2:///shop?host=a:1&host=b:2": (
        [Target("a", 1), Target("b", 2)],
        f"postgresql+psycopg2://{US}/shop",
    ),
    "postgresql:///shop?host=::1": ([Target("::1")], f"postgresql://{US}/shop"),
    "postgresql:///shop?hostaddr=10.0.0.1": ([Target("10.0.0.1")], f"postgresql://{US}/shop"),
    "postgresql://db/shop?hostaddr=10.0.0.1&connect_timeout=3": (
        [Target("10.0.0.1")],
        f"postgresql://{US}/shop?connect_timeout=3",
    ),
    "postgresql://db/shop?sslmode=verify-full&sslrootcert=/ca.pem&sslnegotiation=direct&options=-c%20a%3Db": (
        [Target("db")],
        f"postgresql://{US}/shop?options=-c%20a%3Db",
    ),
}


@pytest.mark.parametrize(("text", "expected"), URLS.items(), ids=URLS)
def test_a_url_leads_through_us(text: str, expected: tuple[list[Target], str]) -> None:
    url = read_url(text)
    assert url
    assert (list(url.targets), through(text)) == expected


@pytest.mark.parametrize(
    "text", ["", "mysql://db/shop", "sqlite:///file", "host=db dbname=shop", "jdbc:postgresql://db"]
)
def test_what_is_no_url_of_postgres_is_left_alone(text: str) -> None:
    assert read_url(text) is None


@pytest.mark.parametrize(
    "text",
    [
        "postgresql://u:s3cret@db:port/shop",
        "postgresql://s3cret:x:y/shop",
        "postgresql://u:s3cret@a,b,c/shop?port=1,2",
        "postgresql://u:s3cret@db/shop?port=x",
        "postgresql://u:s3/cret",
    ],
)
def test_a_url_that_cannot_be_read_is_told_without_its_password(text: str) -> None:
    with pytest.raises(ValueError, match="it has ") as error:
        read_url(text)
    assert "s3" not in str(error.value)


def test_what_is_added_takes_the_place_of_what_was_there() -> None:
    text = through("postgresql://db/shop?sslmode=require&a=b", sslmode="disable")
    assert text == f"postgresql://{US}/shop?a=b&sslmode=disable"


def test_an_address_of_any_kind_can_stand_in_a_url() -> None:
    url = read_url("postgresql://db/shop")
    assert url
    assert url.through("::1", 1, {}, TLS) == "postgresql://[::1]:1/shop"
    assert conninfo_to_dict(url.through("/tmp", 1, {}, TLS))["host"] == "/tmp"  # noqa: S108 - a name


WORDS = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=12)


@given(user=WORDS, password=WORDS, database=WORDS, name=WORDS)
def test_nothing_but_the_address_is_another_one(user: str, password: str, database: str, name: str) -> None:
    """As two readers see it that are not ours: SQLAlchemy's and libpq's."""
    words = [quote(word, safe="") for word in (user, password, database, name)]
    before = "postgresql://{}:{}@db:5433/{}?application_name={}".format(*words)
    after = through(before)
    assert sqlalchemy.make_url(after) == sqlalchemy.make_url(before).set(host="127.0.0.1", port=4711)
    assert conninfo_to_dict(after) == conninfo_to_dict(before) | {"host": "127.0.0.1", "port": "4711"}
