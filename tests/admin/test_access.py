"""Who may ask."""

from pathlib import Path

import pytest

from proxy.admin.access import Access, check, read_token
from proxy.errors import SettingsError
from proxy.settings import Address, Admin

LOOPBACK = Address("127.0.0.1", 9433)
ANYWHERE = Address("0.0.0.0", 9433)  # noqa: S104 - nobody listens


@pytest.mark.parametrize(
    "host",
    ["localhost", "LocalHost:9433", "127.0.0.1", "127.0.0.1:18080", "[::1]", "[::1]:9433", "localhost:"],
)
def test_this_machine_may_ask_on_loopback(host: str) -> None:
    assert Access(LOOPBACK, None).refusal(host, "") is None


@pytest.mark.parametrize(
    "host",
    [
        "",
        "evil.example",
        "evil.example:9433",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "localhost@evil.example",
        "localhost:9433:80",
        "[::1",
        "::1",
        "10.1.2.3",
    ],
)
def test_a_name_that_leads_here_is_not_this_machine(host: str) -> None:
    refusal = Access(LOOPBACK, None).refusal(host, "Bearer whatever")
    assert refusal is not None
    assert refusal.status == 403


def test_the_address_that_is_listened_on_is_this_machine() -> None:
    assert Access(Address("127.0.0.2", 9433), None).refusal("127.0.0.2:9433", "") is None
    assert Access(Address("::1", 9433), None).refusal("[::1]:9433", "") is None


def test_no_browser_reaches_a_unix_socket() -> None:
    assert Access(Address("/run/pgleash", 9433), None).refusal("whatever", "") is None


@pytest.mark.parametrize("host", ["pgleash.shop.svc:9433", "localhost:9433", ""])
@pytest.mark.parametrize("authorization", ["Bearer t0ken", "bearer  t0ken "])
def test_who_has_the_token_may_call_us_anything(host: str, authorization: str) -> None:
    assert Access(ANYWHERE, lambda: "t0ken").refusal(host, authorization) is None


@pytest.mark.parametrize(
    ("authorization", "told"),
    [
        ("", "is needed"),
        ("t0ken", "is needed"),
        ("Basic t0ken", "is needed"),
        ("Bearer", "is needed"),
        ("Bearer t0ken t0ken", "is needed"),
        ("Bearer t0ke", "not the token"),
        ("Bearer t0kenn", "not the token"),
        ("Bearer T0KEN", "not the token"),
        ("Bearer t\udcf6ken", "not the token"),
    ],
)
def test_without_the_token_nobody_may_ask(authorization: str, told: str) -> None:
    refusal = Access(ANYWHERE, lambda: "t0ken").refusal("localhost", authorization)
    assert refusal is not None
    assert refusal.status == 401
    assert told in refusal.reason
    assert "t0ken" not in refusal.reason


def test_the_white_space_around_a_token_is_no_part_of_it(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("  t0ken \n")
    assert read_token(str(file)) == "t0ken"


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (None, "cannot be read: No such file or directory"),
        (b"", "is empty"),
        (b" \n", "is empty"),
        (b"two words", "has more than one word"),
        (b"a" * 5000, "has more than one word, or a very long one"),
        ("schlüssel".encode(), "is not ASCII"),
    ],
)
def test_a_file_without_a_token_says_what_would_be_right(tmp_path: Path, content: bytes | None, told: str) -> None:
    file = tmp_path / "token"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(SettingsError) as raised:
        check(Admin(listen=ANYWHERE, token_file=str(file)))
    (problem,) = raised.value.problems
    assert problem.startswith(f"admin.token_file: {file} {told}")
    assert problem.endswith("such as what `openssl rand -hex 32` prints")


def test_on_loopback_no_token_is_read() -> None:
    check(Admin(listen=LOOPBACK, token_file="/nowhere"))
    check(Admin.model_validate({"listen": "none"}))
