"""A gateway of several worker processes: one port, one sum of metrics, and a death that costs nobody else anything."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

import grpc
import httpx
import psutil
import pytest

from cluster.environment import PARENT_VARIABLE
from services.gateway.admin_relay import PARENT_HEADER, SNAPSHOT_PATH
from services.grpc.generated.longreach.v1 import chat_pb2, inference_pb2_grpc
from tests.cluster_harness import until
from tests.fake_engine import FakeEngine, serve
from tests.gateway_process import gateway_process

pytestmark = pytest.mark.integration

CHAT = {"model": "tiny", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 3}
REQUESTS = 40


def config(engine: FakeEngine) -> dict[str, Any]:
    return {
        "models": [{"id": "tiny"}],
        "pools": [{"name": "short", "model": "tiny", "context_tokens": 4000, "endpoints": [{"url": engine.url}]}],
        "gateway": {"port": 0, "workers": 2, "limits": {"drain_s": 5}},
    }


async def test_two_workers_share_a_port_and_one_may_die(tmp_path: Path) -> None:
    async with (
        serve(FakeEngine()) as engine,
        gateway_process(tmp_path, config(engine), LONGREACH_STATE=str(tmp_path)) as gateway,
    ):
        parent = psutil.Process(gateway.process.pid)
        workers = parent.children()
        assert len(workers) == 2

        async def ask() -> int:
            async with httpx.AsyncClient(base_url=gateway.url, timeout=30) as client:
                return (await client.post("/v1/chat/completions", json=CHAT)).status_code

        async def ask_by_grpc() -> int:
            # A connection of its own each time: the kernel gives it to either worker.
            options = [("grpc.use_local_subchannel_pool", 1)]
            async with grpc.aio.insecure_channel(f"127.0.0.1:{gateway.grpc_port}", options=options) as channel:
                message = chat_pb2.ChatMessage(role="user", content="hi")
                request = chat_pb2.ChatRequest(model="tiny", messages=[message])
                answer = await inference_pb2_grpc.InferenceStub(channel).Chat(request, timeout=30)
                return len(answer.choices)

        assert set(await asyncio.gather(*(ask_by_grpc() for _ in range(REQUESTS)))) == {1}
        assert set(await asyncio.gather(*(ask() for _ in range(REQUESTS)))) == {200}
        assert all(worker.cpu_times().user > 0 for worker in workers)
        served = 'longreach_requests_total{outcome="ok",pool="short",route="chat/completions"}'
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{gateway.admin_port}", timeout=30) as admin:
            assert f"{served} {2 * REQUESTS}.0" in (await admin.get("/metrics")).text
            assert (await admin.get("/sd/replicas")).json() == []
            assert (await admin.get("/replicas/gone/metrics")).status_code == 404
            explained = (await admin.post("/debug/route", json=CHAT)).json()
            assert explained["choices"][0]["pool"] == "short"
            os.kill(workers[0].pid, signal.SIGKILL)
            await asyncio.to_thread(workers[0].wait, 10)
            assert [await ask() for _ in range(10)] == [200] * 10
            await until(lambda: len(parent.children()) == 2, timeout_s=30, what="the dead worker is replaced")

            async def both_answer() -> bool:
                return f"{served} {2 * REQUESTS + 10}.0" in (await admin.get("/metrics")).text

            await until(both_answer, timeout_s=30, what="counts of before and after the death are one sum")
        parent.terminate()
        assert await gateway.process.wait() == 0
        assert not any(worker.is_running() for worker in workers)


async def test_workers_know_their_parent_where_keys_are_set(tmp_path: Path) -> None:
    """Who that is, a worker was told alone: its counts are remembered without a scrape's key."""
    keys = tmp_path / "keys.yaml"
    keys.write_text("keys: []\n")
    keys.chmod(0o600)
    async with serve(FakeEngine()) as engine:
        settings = config(engine)
        settings["gateway"]["auth"] = {"keys_file": str(keys)}
        async with gateway_process(tmp_path, settings, LONGREACH_STATE=str(tmp_path)) as gateway:
            workers = psutil.Process(gateway.process.pid).children()
            tokens = {worker.environ()[PARENT_VARIABLE] for worker in workers}
            assert len(tokens) == 1
            headers = {PARENT_HEADER: tokens.pop()}
            for worker in workers:
                argv = worker.cmdline()
                transport = httpx.AsyncHTTPTransport(uds=argv[argv.index("--admin-socket") + 1])
                async with httpx.AsyncClient(transport=transport, base_url="http://worker") as parent:
                    assert (await parent.get(SNAPSHOT_PATH, headers=headers)).status_code == 200
                    assert (await parent.get(SNAPSHOT_PATH)).status_code == 401
