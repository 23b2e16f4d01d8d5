"""A ground for each version of the server, and for TLS."""

from collections.abc import Iterator

import pytest

from tests.differential.ground import Ground, grounded


@pytest.fixture(scope="session", params=[(18, False), (18, True), (16, False)], ids=["18", "18-TLS", "16"])
def ground(request: pytest.FixtureRequest) -> Iterator[Ground]:
    version, tls = request.param
    # Of one client after the other on one proxy, the process is looked for after a rest, and what is told waits for it.
    with grounded(version, tls=tls, flag_after="never", attribution__processes="false") as ground:
        yield ground
