"""Where a command is led: whose word counts, what is told, and what becomes of TLS."""

from pathlib import Path
from typing import Any

import pytest

from proxy.errors import OperatorError
from proxy.run.aim import Aim, Given, led_through, take_aim
from proxy.settings import Address, UpstreamTls, UpstreamTlsMode

HOME = Path("/nowhere")
HERE = Address("127.0.0.1", 4711)
HERE_TEXT = {"PGHOST": "127.0.0.1", "PGPORT": "4711"}


def aim(environment: dict[str, str], home: Path = HOME, **given: Any) -> Aim:
    return take_aim(environment, Given(**{"flag": None, "configured": None, "tls": UpstreamTls()} | given), home)


def led(environment: dict[str, str], listening: Address = HERE, **given: Any) -> dict[str, str]:
    return led_through(environment, aim(environment, **given), listening)


# Whose word counts.

URL = {"DATABASE_URL": "postgresql://u:p@url:1/shop"}
PG = {"PGHOST": "env", "PGPORT": "2"}
FLAG = {"flag": Address("flag", 3)}
CONFIGURED = {"configured": Address("file", 4)}
ORDER: list[tuple[dict[str, str], dict[str, Any], str]] = [
    (URL | PG, FLAG, "flag:3"),
    (URL | PG, CONFIGURED, "url:1"),
    (URL, {}, "url:1"),
    (PG, CONFIGURED, "file:4"),
    (PG, {}, "env:2"),
    ({}, CONFIGURED, "file:4"),
    ({}, {}, "127.0.0.1:5432"),
    ({"PGPORT": "2"}, {}, "127.0.0.1:2"),
    ({"PGHOST": "a,b", "PGPORT": "1,2"}, {}, "a:1"),
    ({"PGHOST": "", "PGPORT": ""}, {}, "127.0.0.1:5432"),
    ({"PGHOST": "/run/postgresql"}, {}, "/run/postgresql:5432"),
    ({"PGHOST": "name", "PGHOSTADDR": "10.0.0.1"}, {}, "10.0.0.1:5432"),
    ({"PGHOST": "name", "PGHOSTADDR": "10.0.0.1", "PGSSLMODE": "verify-full"}, {}, "name:5432"),
    ({"DATABASE_URL": "postgresql://url/shop", "PGPORT": "2"}, {}, "url:2"),
    ({"DATABASE_URL": "postgresql:///shop"} | PG, {}, "env:2"),
    ({"DATABASE_URL": "postgresql:///shop?host=/run/postgresql"}, {}, "/run/postgresql:5432"),
    ({"DATABASE_URL": "sqlite:///file"}, {}, "127.0.0.1:5432"),
]


@pytest.mark.parametrize(("environment", "given", "upstream"), ORDER)
def test_upstream_is_where_the_command_would_have_gone(
    environment: dict[str, str], given: dict[str, Any], upstream: str
) -> None:
    assert aim(environment, **given).options["upstream"] == upstream


def test_everything_that_names_the_server_leads_through_us() -> None:
    environment = {"PGHOST": "url", "PGPORT": "1", "PGHOSTADDR": "10.0.0.1", "PGUSER": "u", "LANG": "C"} | URL
    assert led(environment) == HERE_TEXT | {
        "PGUSER": "u",
        "LANG": "C",
        "DATABASE_URL": "postgresql://u:p@127.0.0.1:4711/shop",
    }
    assert aim(environment).notes == []


def test_a_listener_for_everybody_is_reached_at_loopback() -> None:
    assert led({}, Address("0.0.0.0", 4711)) == HERE_TEXT  # noqa: S104 - nothing listens
    assert led({}, Address("::", 4711))["PGHOST"] == "::1"


def test_another_server_than_that_of_the_url_is_not_led_through_us_and_told() -> None:
    environment = URL | PG | {"PGSSLMODE": "require", "PGHOSTADDR": "10.0.0.1"}
    other = {name: value for name, value in environment.items() if name.startswith("PG")}
    assert led(environment).items() >= other.items()
    assert led(environment)["DATABASE_URL"] == "postgresql://u:p@127.0.0.1:4711/shop?sslmode=disable"
    assert aim(environment).notes == [
        "PGHOST and PGPORT name env:2, DATABASE_URL url:1: only what uses DATABASE_URL is watched"
    ]


@pytest.mark.parametrize(
    ("environment", "given", "note"),
    [
        (URL, FLAG, "DATABASE_URL names url:1, but --upstream is flag:3: that is where the command is led"),
        (PG, FLAG, "PGHOST and PGPORT name env:2, but --upstream is flag:3: that is where the command is led"),
        (PG, CONFIGURED, "PGHOST and PGPORT name env:2, but upstream is file:4: that is where the command is led"),
        (
            {"DATABASE_URL": "mysql://db"},
            {},
            "DATABASE_URL is no URL of Postgres (postgresql://...) and stays as it is",
        ),
        ({"DATABASE_URL": "postgresql://a,b/x"}, {}, "DATABASE_URL has 2 hosts; only the first one is used"),
        ({"PGHOST": "a,b"}, {}, "PGHOST has several hosts; only the first one is used"),
        ({"PGSERVICE": "x"}, {}, "PGSERVICE is set"),
        ({"PGCHANNELBINDING": "require"}, {}, "channel binding, which PGCHANNELBINDING require"),
    ],
)
def test_what_a_user_would_not_expect_is_told(environment: dict[str, str], given: dict[str, Any], note: str) -> None:
    (told,) = aim(environment, **given).notes
    assert told.startswith(note)


def test_other_words_for_the_same_server_are_not_told() -> None:
    assert aim({"DATABASE_URL": "postgresql://localhost:5432/x", "PGHOST": "127.0.0.1"}).notes == []


@pytest.mark.parametrize(
    "environment",
    [
        {"DATABASE_URL": "postgresql://u:s3cret@db:x/y"},
        {"DATABASE_URL": "postgresql://u:s3cret@db/y?sslmode=maybe"},
        {"PGPORT": "x"},
        {"PGSSLMODE": "maybe"},
    ],
)
def test_what_leads_nowhere_is_told(environment: dict[str, str]) -> None:
    with pytest.raises(OperatorError, match="cannot be used") as error:
        aim(environment)
    assert "s3cret" not in str(error.value)


# TLS: the leg to us has none, so the server's leg gets what was demanded.

FULL = "sslmode=verify-full&sslrootcert=/ca.pem&sslcert=/c.pem&sslkey=/k.pem"
FULL_OPTIONS = {"mode": "verify-full", "ca_file": "/ca.pem", "cert_file": "/c.pem", "key_file": "/k.pem"}
DEMANDS: list[tuple[dict[str, str], dict[str, str]]] = [
    ({}, {"mode": "prefer"}),
    ({"PGSSLMODE": "disable"}, {"mode": "disable"}),
    ({"PGSSLMODE": "require"}, {"mode": "require"}),
    ({"PGREQUIRESSL": "1"}, {"mode": "require"}),
    ({"PGSSLROOTCERT": "system"}, {"mode": "verify-full", "ca_file": "system"}),
    ({"PGSSLMODE": "verify-ca", "PGSSLROOTCERT": "/ca.pem"}, {"mode": "verify-ca", "ca_file": "/ca.pem"}),
    ({"DATABASE_URL": f"postgresql://db/x?{FULL}"}, FULL_OPTIONS),
    ({"DATABASE_URL": "postgresql://db/x?ssl=require"}, {"mode": "require"}),
    ({"DATABASE_URL": "postgresql://db/x?ssl=true"}, {"mode": "require"}),
    ({"DATABASE_URL": "postgresql://db/x?sslmode=no-verify"}, {"mode": "require"}),
    ({"DATABASE_URL": "postgresql://db/x?sslmode=prefer", "PGSSLMODE": "require"}, {"mode": "require"}),
    ({"DATABASE_URL": "postgresql://db/x", "PGSSLMODE": "allow"}, {"mode": "allow"}),
    ({"PGHOST": "/run", "PGSSLMODE": "require"}, {}),
]


@pytest.mark.parametrize(("environment", "expected"), DEMANDS)
def test_what_is_demanded_of_tls_is_demanded_of_the_server(
    environment: dict[str, str], expected: dict[str, str]
) -> None:
    options = aim(environment).options
    assert {key: value for key, value in options.items() if key != "upstream"} == {
        f"upstream_tls.{name}": value for name, value in expected.items()
    }
    after = led(environment)
    assert not [name for name in after if name.startswith("PGSSL") and name != "PGSSLMODE"]
    assert after.get("PGSSLMODE", "disable") == "disable"
    assert "require" not in after.get("DATABASE_URL", "")


@pytest.mark.parametrize(
    ("configured", "mode"),
    [
        (UpstreamTlsMode.AUTO, "require"),
        (UpstreamTlsMode.DISABLE, "require"),
        (UpstreamTlsMode.PREFER, "require"),
        (UpstreamTlsMode.VERIFY_FULL, "verify-full"),
    ],
)
def test_of_two_demands_the_stronger_one_counts(configured: UpstreamTlsMode, mode: str) -> None:
    tls = UpstreamTls(mode=configured, ca_file="/configured.pem")
    options = aim({"PGSSLMODE": "require", "PGSSLROOTCERT": "/ca.pem"}, tls=tls).options
    assert options == {"upstream": "127.0.0.1:5432", "upstream_tls.mode": mode}  # the CA stays the configured one


def test_a_flag_for_tls_is_the_last_word() -> None:
    assert aim({"PGSSLMODE": "require"}, tls_by_flag=True).options == {"upstream": "127.0.0.1:5432"}


def test_libpqs_default_files_count(tmp_path: Path) -> None:
    files = tmp_path / ".postgresql"
    files.mkdir()
    (files / "postgresql.key").touch()
    assert aim({}, tmp_path).options.keys() == {"upstream", "upstream_tls.mode"}  # a key alone proves nothing
    (files / "postgresql.crt").touch()
    (files / "root.crt").touch()
    assert aim({"PGSSLMODE": "verify-full", "PGSSLCERT": "/mine.crt"}, tmp_path).options == {
        "upstream": "127.0.0.1:5432",
        "upstream_tls.mode": "verify-full",
        "upstream_tls.ca_file": str(files / "root.crt"),
        "upstream_tls.cert_file": "/mine.crt",
        "upstream_tls.key_file": str(files / "postgresql.key"),
    }


def test_channel_binding_cannot_pass_us() -> None:
    environment = {
        "DATABASE_URL": "postgresql://db/x?channel_binding=require&a=b",
        "PGHOST": "db",
        "PGCHANNELBINDING": "require",
    }
    assert led(environment) == HERE_TEXT | {"DATABASE_URL": "postgresql://127.0.0.1:4711/x?a=b"}
    (note,) = aim(environment).notes
    assert note.startswith("channel binding, which DATABASE_URL and PGCHANNELBINDING require, cannot pass a proxy")
