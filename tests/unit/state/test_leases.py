"""Leases and reports in a real Valkey server."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import logging
import subprocess
import time
from collections.abc import AsyncIterator, Iterator

import pytest
from redis.asyncio import Redis
from redis.exceptions import RedisError

from cluster.core.lease import (
    LEASE_TTL_S,
    Lease,
    PoolName,
    ReplicaId,
    ReplicaPhase,
    ReplicaReport,
    ReplicaState,
)
from cluster.sockets import free_port
from cluster.state import leases
from cluster.state.embedded import server_command, url, wait_until_ping
from cluster.state.leases import REPORT_TTL_S, LeaseStore, connect

LEASE = Lease(
    replica_id=ReplicaId("r1"),
    pool=PoolName("short"),
    model="tiny",
    url="http://127.0.0.1:30000/short",
    state=ReplicaState.READY,
    context_tokens=4096,
    running=3,
    waiting=1,
    kv_use_ratio=0.25,
    step_age_s=0.1,
    max_running=8,
    max_waiting=24,
    prefill_tokens=70_000,
    adapters=("sql", "poem"),
    prefix={"format": 1, "adapters": {"sql": "ab"}},
)
REPORT = ReplicaReport(
    replica_id=ReplicaId("r1"),
    pool=PoolName("short"),
    phase=ReplicaPhase.FAILED,
    detail="did not start",
    pid=42,
    node="127.0.0.1",
    phase_s=1.5,
    written_s=1_790_000_000.25,
    last_error="ValueError: größer \u2028",
)
KEY = "longreach:{c1}:"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a server with nothing in it."""
    port = free_port()
    command = server_command(tmp_path_factory.mktemp("valkey"), port)
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        try:
            wait_until_ping(port)
            yield url(port)
        finally:
            process.terminate()


@pytest.fixture
async def redis(server: str) -> AsyncIterator[Redis]:
    client = connect(server)
    await client.flushall()
    yield client
    await client.aclose()


@pytest.fixture
def store(redis: Redis) -> LeaseStore:
    return LeaseStore(redis, "c1")


def other(lease: Lease, name: str, **changes: object) -> Lease:
    return dataclasses.replace(lease, replica_id=ReplicaId(name), **changes)  # type: ignore[arg-type]


async def test_leases_come_back_as_they_were(store: LeaseStore) -> None:
    draining = other(LEASE, "r0", state=ReplicaState.DRAINING, kv_use_ratio=1.0)
    await store.put_lease(LEASE)
    await store.put_lease(draining)
    found = await store.leases()
    assert found == (draining, LEASE)
    assert [type(lease.state) for lease in found] == [ReplicaState, ReplicaState]


async def test_reports_come_back_as_they_were(store: LeaseStore) -> None:
    await store.put_report(REPORT)
    (found,) = await store.reports()
    assert found == REPORT
    assert type(found.phase) is ReplicaPhase


ADDED_LATER = {"max_running", "max_waiting", "prefill_tokens", "adapters", "prefix"}
"""To the lease, after its first version."""


async def test_a_lease_of_an_older_replica_is_read(store: LeaseStore, redis: Redis) -> None:
    await store.put_lease(LEASE)
    old = {name: value for name, value in dataclasses.asdict(LEASE).items() if name not in ADDED_LATER}
    await redis.set(KEY + "lease:r1", json.dumps(old))
    (found,) = await store.leases()
    assert found == dataclasses.replace(LEASE, max_running=0, max_waiting=0, prefill_tokens=0, adapters=(), prefix=None)


async def test_what_a_newer_replica_says_beyond_us_is_ignored(store: LeaseStore, redis: Redis) -> None:
    await store.put_lease(LEASE)
    await store.put_report(REPORT)
    await redis.set(KEY + "lease:r1", json.dumps(dataclasses.asdict(LEASE) | {"colour": "red"}))
    await redis.set(KEY + "report:r1", json.dumps(dataclasses.asdict(REPORT) | {"weather": {"rain": True}}))
    assert await store.leases() == (LEASE,)
    assert await store.reports() == (REPORT,)


async def test_a_report_without_its_optional_part_is_read(store: LeaseStore, redis: Redis) -> None:
    await store.put_report(REPORT)
    short = {name: value for name, value in dataclasses.asdict(REPORT).items() if name != "last_error"}
    await redis.set(KEY + "report:r1", json.dumps(short))
    assert await store.reports() == (dataclasses.replace(REPORT, last_error=""),)


@pytest.mark.parametrize(
    "text",
    ["", "[]", "3", "null", '"x"', "{}", json.dumps(dataclasses.asdict(LEASE) | {"state": "warming"})],
    ids=["empty", "list", "number", "null", "string", "nothing", "a state of tomorrow"],
)
async def test_what_cannot_be_read_hides_nobody_else(
    store: LeaseStore, redis: Redis, caplog: pytest.LogCaptureFixture, text: str
) -> None:
    await store.put_lease(LEASE)
    await store.put_lease(other(LEASE, "r2"))
    await redis.set(KEY + "lease:r1", text)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            assert [lease.replica_id for lease in await store.leases()] == ["r2"]
    assert len(caplog.records) == 1


async def test_an_empty_store_has_nothing(store: LeaseStore) -> None:
    assert await store.leases() == ()
    assert await store.reports() == ()


async def test_a_lease_expires_by_itself_unless_renewed(store: LeaseStore, redis: Redis) -> None:
    await store.put_lease(LEASE)
    assert 0 < await redis.pttl(KEY + "lease:r1") <= LEASE_TTL_S * 1000
    await redis.pexpire(KEY + "lease:r1", 100)
    await store.put_lease(other(LEASE, "r1", running=9))
    assert 100 < await redis.pttl(KEY + "lease:r1") <= LEASE_TTL_S * 1000
    assert [lease.running for lease in await store.leases()] == [9]


async def test_an_expired_lease_is_gone(store: LeaseStore, redis: Redis) -> None:
    await store.put_lease(LEASE)
    await redis.pexpireat(KEY + "lease:r1", 1)
    assert await store.leases() == ()


async def test_a_report_is_kept_for_a_day(store: LeaseStore, redis: Redis) -> None:
    await store.put_report(REPORT)
    assert REPORT_TTL_S - 60 < await redis.ttl(KEY + "report:r1") <= REPORT_TTL_S


async def test_the_report_of_a_living_replica_does_not_age(store: LeaseStore, redis: Redis) -> None:
    await store.put_report(REPORT)
    await redis.expire(KEY + "report:r1", 60)
    await store.put_lease(LEASE)
    assert await redis.ttl(KEY + "report:r1") > REPORT_TTL_S - 60


async def test_a_dropped_lease_leaves_its_report(store: LeaseStore) -> None:
    await store.put_lease(LEASE)
    await store.put_report(REPORT)
    await store.drop_lease(LEASE.replica_id)
    assert await store.leases() == ()
    assert await store.reports() == (REPORT,)
    await store.drop_lease(LEASE.replica_id)


async def test_forgotten_ids_are_removed(store: LeaseStore, redis: Redis) -> None:
    await store.put_report(REPORT)
    await store.put_report(dataclasses.replace(REPORT, replica_id=ReplicaId("r2")))
    await redis.delete(KEY + "report:r1")
    assert [report.replica_id for report in await store.reports()] == ["r2"]
    assert await redis.smembers(KEY + "replicas") == {"r2"}


async def test_looking_at_reports_takes_no_living_replica_away(store: LeaseStore) -> None:
    await store.put_lease(LEASE)
    assert await store.reports() == ()
    assert await store.leases() == (LEASE,)


async def test_clusters_do_not_see_each_other(store: LeaseStore, redis: Redis) -> None:
    await store.put_lease(LEASE)
    await store.put_report(REPORT)
    neighbour = LeaseStore(redis, "c2")
    assert await neighbour.leases() == ()
    assert await neighbour.reports() == ()


async def test_concurrent_renewals_lose_nothing(store: LeaseStore) -> None:
    names = [f"r{number:02}" for number in range(40)]
    await asyncio.gather(*(store.put_lease(other(LEASE, name)) for name in names))
    assert [lease.replica_id for lease in await store.leases()] == names


async def test_every_key_has_the_clusters_hash_tag(store: LeaseStore, redis: Redis) -> None:
    await store.put_lease(LEASE)
    await store.put_report(REPORT)
    assert set(await redis.keys("*")) == {KEY + "replicas", KEY + "lease:r1", KEY + "report:r1"}


async def test_no_server_is_an_error_at_once() -> None:
    store = LeaseStore(connect(url(free_port())), "c1")
    for call in (store.leases, store.reports, lambda: store.put_lease(LEASE), lambda: store.put_report(REPORT)):
        started_s = time.monotonic()
        with pytest.raises((RedisError, OSError)):
            await call()
        assert time.monotonic() - started_s < leases.CONNECT_TIMEOUT_S + leases.COMMAND_TIMEOUT_S


async def test_a_deaf_server_is_an_error_in_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "COMMAND_TIMEOUT_S", 0.05)

    async def deaf(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(-1)
        writer.close()

    async with await asyncio.start_server(deaf, "127.0.0.1", 0) as listening:
        client = connect(url(listening.sockets[0].getsockname()[1]))
        started_s = time.monotonic()
        with pytest.raises((RedisError, OSError)):
            await LeaseStore(client, "c1").leases()
        assert time.monotonic() - started_s < 5
        await client.aclose()
