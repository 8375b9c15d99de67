"""The client of the server that a test runs against."""

from collections.abc import Iterator

import pytest

from tests.conformance.nomad import Nomad
from tests.support.servers import Stack


@pytest.fixture
def nomad(stack: Stack, unique: str) -> Iterator[Nomad]:
    """A client; jobs whose ID begins with the test's unique name are purged afterwards."""
    client = Nomad(stack)
    yield client
    for stub in client.api.get("/v1/jobs", prefix=unique).expect(200).json():
        client.purge(stub["ID"])
