"""A ground for each version of the server."""

from collections.abc import Iterator

import pytest

from tests.differential.ground import Ground, grounded


@pytest.fixture(scope="session", params=[18, 16])
def ground(request: pytest.FixtureRequest) -> Iterator[Ground]:
    with grounded(request.param, flag_after="never") as ground:
        yield ground
