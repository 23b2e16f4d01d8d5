"""Proxies with an admin side."""

import contextlib
from collections.abc import Iterator

import pytest

from tests.admin.support import Asked, StartAdmin, admin_of
from tests.conftest import StartProxy


@pytest.fixture
def start_admin(start_proxy: StartProxy) -> Iterator[StartAdmin]:
    """Starts a proxy with its admin side on a free port, or where `admin__listen` says; options as flags."""
    with contextlib.ExitStack() as running:

        def start(**options: str) -> Asked:
            proxy = start_proxy(**({"admin__listen": "127.0.0.1:0"} | options))
            return running.enter_context(admin_of(proxy))

        yield start
