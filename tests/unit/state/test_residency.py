"""Streams and snapshots in a real Valkey server: order, trimming, expiry, entries nobody understands, a restart."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import time
from array import array
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError

from cluster.core.lease import ReplicaId
from cluster.core.prefix import PrefixIndex, ResidencyUpdate
from cluster.sockets import free_port
from cluster.state import residency
from cluster.state.embedded import server_command, url, wait_until_ping
from cluster.state.residency import RESIDENCY_TTL_S, ResidencyReader, ResidencyWriter, connect_binary

R1, R2 = ReplicaId("r1"), ReplicaId("r2")
STREAM, SNAPSHOT = "longreach:{c1}:residency:r1", "longreach:{c1}:residency-snapshot:r1"


@contextlib.contextmanager
def serving(folder: Path, port: int) -> Iterator[str]:
    with subprocess.Popen(server_command(folder, port), stdout=subprocess.DEVNULL) as process:
        try:
            wait_until_ping(port)
            yield url(port)
        finally:
            process.terminate()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serving(tmp_path_factory.mktemp("valkey"), free_port()) as found:
        yield found


@pytest.fixture
async def redis(server: str) -> AsyncIterator[Redis]:
    client = connect_binary(server)
    await client.flushall()
    yield client
    await client.aclose()


@pytest.fixture
def writer(redis: Redis) -> ResidencyWriter:
    return ResidencyWriter(redis, "c1", R1)


@pytest.fixture
def reader(redis: Redis) -> ResidencyReader:
    return ResidencyReader(redis, "c1")


def update(seq: int, *, epoch: int = 7, adds: tuple[tuple[int, int], ...] = ()) -> ResidencyUpdate:
    return ResidencyUpdate(epoch=epoch, seq=seq, adds=list(adds), removes=[], is_cleared=False)


def columns(entries: dict[int, int]) -> tuple[array[int], array[int]]:
    return array("Q", entries), array("I", entries.values())


async def test_a_gateway_comes_to_what_the_replica_has(writer: ResidencyWriter, reader: ResidencyReader) -> None:
    await writer.snapshot(7, 0, *columns({1: 10}))
    await writer.publish(update(0))
    await writer.publish(update(1, adds=((2**64 - 1, 20),)))
    found = await reader.snapshot(R1)
    assert found is not None
    assert (found.epoch, found.seq, list(found.keys), list(found.tokens)) == (7, 0, [1], [10])
    news = await reader.read({R1: found.position}, 0)
    assert [(replica, said) for replica, _, said in news] == [(R1, update(1, adds=((2**64 - 1, 20),)))]
    assert await reader.read({R1: news[-1][1]}, 0) == []


async def test_a_snapshot_in_the_middle_leads_on(writer: ResidencyWriter, reader: ResidencyReader) -> None:
    for seq in range(5):
        await writer.publish(update(seq))
    await writer.snapshot(7, 2, *columns({}))
    found = await reader.snapshot(R1)
    assert found is not None
    assert [said.seq for _, _, said in await reader.read({R1: found.position}, 0) if said] == [3, 4]


async def test_news_wakes_a_reader(writer: ResidencyWriter, reader: ResidencyReader) -> None:
    reading = asyncio.create_task(reader.read({R1: "0-0", R2: "0-0"}, 5_000))
    await asyncio.sleep(0.05)
    assert not reading.done()
    await writer.publish(update(0))
    async with asyncio.timeout(2):
        ((replica, _, said),) = await reading
    assert (replica, said) == (R1, update(0))


async def test_no_news_is_an_empty_answer_in_time(reader: ResidencyReader) -> None:
    for positions in ({}, {R1: "0-0"}):
        began_s = time.monotonic()
        assert await reader.read(positions, 50) == []
        assert 0.04 < time.monotonic() - began_s < 2


async def test_epochs_follow_each_other_although_a_clock_goes_back(redis: Redis, reader: ResidencyReader) -> None:
    times = iter([1_000.0, 500.0, 2_000.0])
    writer = ResidencyWriter(redis, "c1", R1, clock=lambda: next(times))
    for epoch in (3, 2, 9):
        await writer.snapshot(epoch, 0, *columns({}))
        await writer.publish(update(0, epoch=epoch))
        await writer.publish(update(1, epoch=epoch))
    news = await reader.read({R1: "0-0"}, 0)
    assert [(said.epoch, said.seq) for _, _, said in news if said] == [(3, 0), (3, 1), (2, 0), (2, 1), (9, 0), (9, 1)]


async def test_an_update_that_was_written_already_is_refused(writer: ResidencyWriter) -> None:
    await writer.publish(update(0))
    with pytest.raises(ResponseError):
        await writer.publish(update(0))


async def test_who_follows_an_old_epoch_finds_the_new_ones_snapshot(
    writer: ResidencyWriter, reader: ResidencyReader
) -> None:
    index = PrefixIndex()
    await writer.snapshot(1, 0, *columns({1: 1}))
    found = await reader.snapshot(R1)
    assert found is not None
    index.snapshot(R1, found.epoch, found.seq, list(zip(found.keys, found.tokens, strict=True)))
    await writer.snapshot(2, 0, *columns({2: 5, 3: 6}))
    await writer.publish(update(0, epoch=2))
    await writer.publish(update(1, epoch=2, adds=((4, 7),)))
    ((_, _, first), _) = await reader.read({R1: found.position}, 0)
    assert first is not None
    assert not index.apply(R1, first)
    found = await reader.snapshot(R1)
    assert found is not None
    index.snapshot(R1, found.epoch, found.seq, list(zip(found.keys, found.tokens, strict=True)))
    for _, _, said in await reader.read({R1: found.position}, 0):
        assert said is not None
        assert index.apply(R1, said)
    assert (index.known(R1), len(index)) == ((2, 1), 3)


async def test_a_stream_is_trimmed_and_the_gap_is_seen(
    writer: ResidencyWriter, reader: ResidencyReader, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(residency, "STREAM_UPDATES_MAX", 100)
    await writer.snapshot(7, 0, *columns({}))
    for seq in range(500):
        await writer.publish(update(seq))
    assert await redis.xlen(STREAM) < 300
    index = PrefixIndex()
    index.snapshot(R1, 7, 0, [])
    found = await reader.snapshot(R1)
    assert found is not None
    ((_, _, said), *_) = await reader.read({R1: found.position}, 0)
    assert said is not None
    assert not index.apply(R1, said)


async def test_long_absences_are_caught_up_with_in_pieces(writer: ResidencyWriter, reader: ResidencyReader) -> None:
    for seq in range(residency.READ_UPDATES_MAX + 10):
        await writer.publish(update(seq))
    news = await reader.read({R1: "0-0"}, 0)
    assert len(news) == residency.READ_UPDATES_MAX
    assert len(await reader.read({R1: news[-1][1]}, 0)) == 10


async def test_both_expire_unless_renewed(writer: ResidencyWriter, redis: Redis) -> None:
    await writer.snapshot(7, 0, *columns({}))
    await writer.publish(update(0))
    for key in (STREAM, SNAPSHOT):
        assert RESIDENCY_TTL_S - 5 < await redis.ttl(key) <= RESIDENCY_TTL_S
        await redis.expire(key, 5)
    assert await writer.renew()
    for key in (STREAM, SNAPSHOT):
        assert await redis.ttl(key) > 5
    await redis.delete(SNAPSHOT)
    assert not await writer.renew()
    await writer.snapshot(7, 0, *columns({}))
    await writer.withdraw()
    assert await redis.keys("*") == []


@pytest.mark.parametrize("value", [b"", b"x", bytes(100), b"\xff" * 64])
async def test_what_cannot_be_read_is_told(
    writer: ResidencyWriter, reader: ResidencyReader, redis: Redis, value: bytes
) -> None:
    await redis.set(SNAPSHOT, value)
    assert await reader.snapshot(R1) is None
    await redis.xadd(STREAM, {b"u": value})
    await redis.xadd(STREAM, {b"other": b"1"})
    assert [said for _, _, said in await reader.read({R1: "0-0"}, 0)] == [None, None]


async def test_nothing_is_known_of_others(writer: ResidencyWriter, redis: Redis) -> None:
    await writer.snapshot(7, 0, *columns({1: 1}))
    await writer.publish(update(0))
    for reader in (ResidencyReader(redis, "c2"), ResidencyReader(redis, "c1")):
        replica = R1 if reader._cluster == "c2" else R2
        assert await reader.snapshot(replica) is None
        assert await reader.read({replica: "0-0"}, 0) == []


async def test_a_server_that_comes_back_empty(tmp_path: Path) -> None:
    port = free_port()
    client = connect_binary(url(port), wait_s=0)
    writer, reader = ResidencyWriter(client, "c1", R1), ResidencyReader(client, "c1")
    with serving(tmp_path, port):
        await writer.snapshot(7, 0, *columns({1: 1}))
        await writer.publish(update(0))
    began_s = time.monotonic()
    for call in (writer.publish(update(1)), writer.renew(), reader.read({R1: "0-0"}, 10)):
        with pytest.raises((RedisError, OSError)):
            await call
    assert time.monotonic() - began_s < 2
    with serving(tmp_path, port):
        with contextlib.suppress(RedisError, OSError):
            await writer.renew()
        assert not await writer.renew()
        await writer.publish(update(2))
        assert await reader.snapshot(R1) is None
        assert [said for _, _, said in await reader.read({R1: "0-0"}, 10)] == [update(2)]
    await client.aclose()
