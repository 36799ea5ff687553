"""A real replica dies under real streams, and their clients get what they would have got: over REST and gRPC.

The short pool's replica is killed, or its engine core is; the long pool goes on. These tests replace replicas, so they
run after the others.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
from typing import Any

import httpx
import pytest

from cluster.local.rundir import RunDir
from services.grpc.client import AsyncClient
from tests.cluster_harness import Cluster, engine_core, settled, until
from tests.resume_engine import Stream, is_numbered, same
from tests.resume_kinds import KINDS

pytestmark = pytest.mark.integration

NAMES = (
    "plain", "chinese", "penalties", "seeded", "json", "tool", "choices", "completion", "messages", "responses",
    "responses_json", "responses_tool",
)  # fmt: skip
LONGER = ("plain", "chinese", "penalties", "seeded", "completion", "messages", "responses")
LONGER_TOKENS = 200
"""Of output: the fault comes under way."""
HEAL_TIMEOUT_S = 240.0
IDS = frozenset({"id", "item_id", "call_id"})


class Reading:
    """One stream, and when its first events were here."""

    def __init__(self, http: httpx.AsyncClient, name: str) -> None:
        self._http = http
        self._path, body = KINDS[name]
        field = "max_output_tokens" if "max_output_tokens" in body else "max_tokens"
        limit = {field: LONGER_TOKENS} if name in LONGER else {}
        self._body = {"model": "tiny", "stream": True, **body, **limit}
        self.content = b""
        self.has_begun = asyncio.Event()

    async def read(self) -> list[Any]:
        async with self._http.stream("POST", self._path, json=self._body) as answer:
            async for part in answer.aiter_raw():
                self.content += part
                if self.content.count(b"\n\n") > 3:
                    self.has_begun.set()
        self.has_begun.set()
        events = Stream(self.content).events
        assert is_numbered(events)
        return renamed(same(self._path, events), {})


def renamed(value: Any, names: dict[str, int]) -> Any:
    """With ids, which are each request's own, told by the order in which they came, and no fingerprint of an engine."""
    if isinstance(value, dict):
        return {
            key: names.setdefault(one, len(names)) if key in IDS and isinstance(one, str) else renamed(one, names)
            for key, one in value.items()
            if key != "system_fingerprint"
        }
    return [renamed(one, names) for one in value] if isinstance(value, list) else value


async def grpc_text(address: str, begun: asyncio.Event) -> str:
    text = ""
    async with AsyncClient(address) as client:
        messages = [{"role": "user", "content": "Tell me of the sea."}]
        options = {"max_completion_tokens": LONGER_TOKENS, "temperature": 0.0, "ignore_eos": True}
        async for message in client.chat_stream(model="tiny", messages=messages, **options):
            text += "".join(delta.content for delta in message.deltas)
            begun.set()
    return text


@pytest.mark.timeout(600)
@pytest.mark.parametrize("fault", ["replica", "engine core"])
async def test_streams_outlive_their_replica(cluster: Cluster, http: httpx.AsyncClient, fault: str) -> None:
    lease = (await settled(cluster, "short", "long"))["short"]
    expected = [await Reading(http, name).read() for name in NAMES]
    expected_text = await grpc_text(cluster.grpc_address, asyncio.Event())
    victim = (await cluster.reports())[lease.replica_id].pid
    target = victim if fault == "replica" else engine_core(victim).pid
    readings = [Reading(http, name) for name in NAMES]
    tasks = [asyncio.create_task(reading.read()) for reading in readings]
    has_begun = asyncio.Event()
    over_grpc = asyncio.create_task(grpc_text(cluster.grpc_address, has_begun))
    await asyncio.gather(*(reading.has_begun.wait() for reading in readings), has_begun.wait())
    before = resumes(await gateway_metrics(cluster, http))
    os.kill(target, signal.SIGKILL)
    found = await asyncio.gather(*tasks)
    assert await over_grpc == expected_text
    for name, one, other in zip(NAMES, found, expected, strict=True):
        assert one == other, name
    assert resumes(await gateway_metrics(cluster, http)) > before

    async def is_back() -> bool:
        now = (await cluster.leases()).get("short")
        return now is not None and now.replica_id != lease.replica_id

    await until(is_back, timeout_s=HEAL_TIMEOUT_S, what="Serve replaced the replica")


async def gateway_metrics(cluster: Cluster, http: httpx.AsyncClient) -> str:
    told = json.loads(RunDir(root=cluster.run_dir).gateway_ready.read_text(encoding="utf-8"))
    return (await http.get(f"http://127.0.0.1:{told['admin_port']}/metrics")).text


def resumes(metrics: str) -> float:
    """Streams that went on, so far."""
    lines = [line for line in metrics.splitlines() if line.startswith("longreach_resumes_total{")]
    return sum(float(line.split()[-1]) for line in lines if 'result="append"' in line or 'result="replay"' in line)
