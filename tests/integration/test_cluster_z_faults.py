"""What a fault costs: `kill -9` of a replica, of its EngineCore, and a frozen EngineCore, under traffic.

Two requests a second go to each pool: short ones, which the larger pool can hold too, and documents that only the
long pool holds. These tests replace replicas, so they run after the others.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import httpx
import psutil
import pytest
from redis.exceptions import RedisError

from cluster.local.rundir import RunDir
from cluster.state import embedded
from tests.cluster_harness import Cluster, engine_core, settled, until, waiting_worker

pytestmark = pytest.mark.integration

PERIOD_S = 0.5
SETTLE_S = 5.0
HEAL_TIMEOUT_S = 240.0
_REVIVED: list[psutil.Popen] = []
"""Processes that outlive their test: `longreach down` ends them by their mark."""
FAIL_FAST_S = 8.0
"""A frozen engine is noticed two seconds after its last step; the rest is room for a loaded machine."""
BEFORE_FIRST_BYTE = 502
QUEUE_S = 30.0
"""gateway.limits.queue_s: so long a cut stream waits for the replica that Serve starts instead."""


@dataclass
class Asked:
    kind: str
    began_s: float
    ended_s: float = 0.0
    status: int = 0
    """0: the stream broke; 502: it broke before its first byte."""
    pool: str = ""
    retry_after: str = ""


@dataclass
class Traffic:
    """Open loop: a request every `PERIOD_S` of each kind, whatever becomes of the others."""

    http: httpx.AsyncClient
    asked: list[Asked] = field(default_factory=list)
    tasks: list[asyncio.Task[None]] = field(default_factory=list)

    async def run(self) -> None:
        while True:
            for kind in ("short", "document"):
                self.tasks.append(asyncio.create_task(self.ask(kind)))
            await asyncio.sleep(PERIOD_S)

    async def ask(self, kind: str) -> None:
        entry = Asked(kind=kind, began_s=time.monotonic())
        self.asked.append(entry)
        prompt = [100] * (5000 if kind == "document" else 50)
        body = {"model": "tiny", "prompt": prompt, "max_tokens": 24, "ignore_eos": True, "stream": True}
        try:
            async with self.http.stream("POST", "/v1/completions", json=body) as answer:
                entry.pool = answer.headers.get("x-longreach-pool", "")
                entry.retry_after = answer.headers.get("retry-after", "")
                text = (await answer.aread()).decode()
                complete = answer.status_code != 200 or text.rstrip().endswith("data: [DONE]")
                entry.status = answer.status_code if complete else 0
        except httpx.HTTPError:
            entry.status = 0
        entry.ended_s = time.monotonic()


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "fault", ["replica", pytest.param("engine core", marks=pytest.mark.slow), "frozen engine core"]
)
async def test_fault_of_the_long_pool(
    cluster: Cluster, http: httpx.AsyncClient, fault: str, capsys: pytest.CaptureFixture[str]
) -> None:
    lease = (await settled(cluster, "short", "long"))["long"]
    victim = (await cluster.reports())[lease.replica_id].pid
    core = engine_core(victim).pid
    traffic = Traffic(http)
    running = asyncio.create_task(traffic.run())
    try:
        await asyncio.sleep(SETTLE_S)
        fault_s = time.monotonic()
        target, sent = {
            "replica": (victim, signal.SIGKILL),
            "engine core": (core, signal.SIGKILL),
            "frozen engine core": (core, signal.SIGSTOP),
        }[fault]
        os.kill(target, sent)

        async def is_replaced() -> bool:
            with contextlib.suppress(RedisError, OSError):
                now = (await cluster.leases()).get("long")
                return now is not None and now.replica_id != lease.replica_id
            return False

        await until(is_replaced, timeout_s=HEAL_TIMEOUT_S, what="Serve replaced the replica")
        healed_s = time.monotonic()
        await asyncio.sleep(SETTLE_S)
    finally:
        running.cancel()
    await asyncio.gather(*traffic.tasks)

    short = [entry for entry in traffic.asked if entry.kind == "short"]
    documents = [entry for entry in traffic.asked if entry.kind == "document"]
    lost = [entry for entry in documents if entry.status in {0, 502}]
    refused = [entry for entry in documents if entry.status not in {0, 502, 200}]
    slowest_s = max((entry.ended_s - max(entry.began_s, fault_s) for entry in lost), default=0.0)
    with capsys.disabled():
        print(  # noqa: T201 - the figures are the point
            f"\nfault: {fault}: {len(short)} short, {len(documents)} documents; lost in flight {len(lost)}, refused "
            f"with 503 {len(refused)}, slowest failure {slowest_s:.1f} s, healed after {healed_s - fault_s:.1f} s"
        )
    assert {entry.status for entry in short} == {200}, "the other pool was touched"
    assert {entry.pool for entry in short} == {"short"}
    assert {entry.status for entry in refused} <= {503}
    assert all(entry.retry_after for entry in refused), "503 without Retry-After"
    failed = [entry for entry in lost if entry.status == BEFORE_FIRST_BYTE]
    assert all(fault_s <= entry.ended_s <= fault_s + FAIL_FAST_S for entry in failed), "lost without being in flight"
    cut = [entry for entry in lost if entry.status != BEFORE_FIRST_BYTE]
    assert not cut or healed_s - fault_s > QUEUE_S - FAIL_FAST_S, "a stream ended though a replica came in time"
    assert {entry.status for entry in documents if entry.ended_s < fault_s} <= {200}
    assert {entry.status for entry in documents if entry.began_s > healed_s + 1} == {200}
    assert not _runs(core), "the dead replica's engine is still there"


def _runs(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() not in {psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD}
    except psutil.NoSuchProcess:
        return False


async def test_short_requests_use_the_larger_pool_meanwhile(cluster: Cluster, http: httpx.AsyncClient) -> None:
    lease = (await settled(cluster, "short", "long"))["short"]
    victim = (await cluster.reports())[lease.replica_id].pid
    os.kill(victim, signal.SIGKILL)

    async def ask() -> httpx.Response:
        return await http.post("/v1/completions", json={"model": "tiny", "prompt": "hello", "max_tokens": 2})

    answer = await ask()
    assert answer.status_code == 200
    assert answer.headers["x-longreach-pool"] == "long"
    # The first request finds out by itself; once the lease is gone, the reason says so.
    assert "long holds them too" in answer.headers["x-longreach-reason"]

    async def is_told() -> bool:
        return "short has no healthy replica" in (await ask()).headers["x-longreach-reason"]

    await until(is_told, timeout_s=15, what="the gateway knows that the replica is gone")

    async def is_back() -> bool:
        return (await ask()).headers["x-longreach-pool"] == "short"

    await until(is_back, timeout_s=HEAL_TIMEOUT_S, what="the short pool is back")


async def test_redis_gone_and_back(cluster: Cluster, http: httpx.AsyncClient) -> None:
    """The gateway goes on with what it knew, and follows again once the store is back, empty as it is."""
    await settled(cluster, "short", "long", "tp")
    port = int(cluster.state_url.rsplit(":", 1)[1].split("/")[0])
    command = embedded.server_command(RunDir(root=cluster.run_dir).valkey, port)
    valkey = psutil.Process(cluster.pid("redis"))
    env = valkey.environ()
    valkey.kill()
    await asyncio.to_thread(valkey.wait, 10)
    for _ in range(12):
        answer = await http.post("/v1/completions", json={"model": "tiny", "prompt": "hello", "max_tokens": 1})
        assert answer.status_code == 200
        await asyncio.sleep(PERIOD_S)
    with (RunDir(root=cluster.run_dir).logs / "redis.log").open("ab") as log:
        back = psutil.Popen(command, env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    _REVIVED.append(back)

    async def is_followed() -> bool:
        assert back.poll() is None, "Valkey did not start again"
        ready = await http.get("/ready")
        with contextlib.suppress(RedisError, OSError):
            return ready.status_code == 200 and len(await cluster.leases()) == 3
        return False

    await until(is_followed, timeout_s=30, what="leases are written and read again")
    answer = await http.post("/v1/completions", json={"model": "tiny", "prompt": "hello", "max_tokens": 1})
    assert answer.status_code == 200


@pytest.mark.timeout(300)
async def test_zz_drain_under_traffic(cluster: Cluster, http: httpx.AsyncClient, tmp_path: Path) -> None:
    """Serve takes the pool away: its stream ends well, new work is refused at once, the replica goes.

    Last of all, because nothing brings this pool back.
    """
    lease = (await settled(cluster, "tp"))["tp"]
    body = {"model": "tiny-tp", "prompt": "x", "max_tokens": 2000, "ignore_eos": True, "stream": True}
    one = {"model": "tiny-tp", "prompt": "x", "max_tokens": 1}

    async def long_stream() -> str:
        async with http.stream("POST", "/v1/completions", json=body) as answer:
            return (await answer.aread()).decode()

    async def ask() -> httpx.Response:
        return await http.post("/v1/completions", json=one)

    base = lease.url.rsplit("/", 1)[0]
    async with waiting_worker(cluster, "serve.delete('pool-tp', _blocking=False)", tmp_path) as delete:
        stream = asyncio.create_task(long_stream())
        await asyncio.sleep(1)
        delete()
        statuses: set[int] = set()

        async def is_refused() -> bool:
            # Continuous new work: without the replica's refusals, Serve's drain would never end.
            answer = await ask()
            statuses.add(answer.status_code)
            return answer.status_code == 503 and "retry-after" in answer.headers

        await until(is_refused, timeout_s=60, what="the gateway refuses what no replica takes")
        # By the time this process hears of it, the replica may have gone already.
        with contextlib.suppress(httpx.ConnectError):
            direct = await http.post(f"{lease.url}/v1/completions", json=one, headers=cluster.credential)
            assert direct.status_code == 503
            assert direct.headers["x-longreach-refusal"] == "draining"
        assert (await stream).rstrip().endswith("data: [DONE]"), "the drain cut the stream"

        async def is_gone() -> bool:
            try:
                await http.get(f"{base}/-/healthz")
            except httpx.TransportError:
                with contextlib.suppress(RedisError, OSError):
                    return "tp" not in await cluster.leases()
            return False

        await until(is_gone, timeout_s=60, what="the drained replica ends")
        assert statuses <= {200, 503}
    noticed_s, in_flight = notice_of(cluster, lease.replica_id)
    assert noticed_s < 1.0
    assert in_flight >= 1, "the stream was over before the drain began"


def notice_of(cluster: Cluster, replica_id: str) -> tuple[float, int]:
    """Seconds from Serve's decision to the replica's notice, and the requests it then had, by their own logs.

    This process may be starved meanwhile.
    """
    serve_logs = RunDir(root=cluster.run_dir).ray / "session_latest" / "logs" / "serve"
    told, _ = _logged(serve_logs.glob("controller_*.log"), f"Stopping Replica(id='{replica_id}'")
    noticed, line = _logged((cluster.run_dir / "logs").glob("pool-tp-*.log"), f"replica={replica_id} drains")
    in_flight = re.search(r"drains, (\d+) requests", line)
    assert in_flight is not None
    return (noticed - told).total_seconds(), int(in_flight.group(1))


def _logged(files: Iterable[Path], text: str) -> tuple[datetime, str]:
    """When and how the first line with `text` was logged."""
    line = next(line for file in files for line in file.read_text(encoding="utf-8").splitlines() if text in line)
    found = re.search(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3}", line)
    assert found is not None
    when = datetime.strptime(found.group(), "%Y-%m-%d %H:%M:%S,%f")  # noqa: DTZ007 - both logs are local time
    return when, line
