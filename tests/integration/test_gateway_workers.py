"""A gateway of several worker processes: one port, one sum of metrics, and a death that costs nobody else anything."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

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

        assert set(await asyncio.gather(*(ask() for _ in range(REQUESTS)))) == {200}
        assert all(worker.cpu_times().user > 0 for worker in workers)
        served = 'longreach_requests_total{outcome="ok",pool="short",route="chat/completions"}'
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{gateway.admin_port}", timeout=30) as admin:
            assert f"{served} {REQUESTS}.0" in (await admin.get("/metrics")).text
            explained = (await admin.post("/debug/route", json=CHAT)).json()
            assert explained["choices"][0]["pool"] == "short"
            os.kill(workers[0].pid, signal.SIGKILL)
            await asyncio.to_thread(workers[0].wait, 10)
            assert [await ask() for _ in range(10)] == [200] * 10
            await until(lambda: len(parent.children()) == 2, timeout_s=30, what="the dead worker is replaced")

            async def both_answer() -> bool:
                return f"{served} {REQUESTS + 10}.0" in (await admin.get("/metrics")).text

            await until(both_answer, timeout_s=30, what="counts of before and after the death are one sum")
        parent.terminate()
        assert await gateway.process.wait() == 0
        assert not any(worker.is_running() for worker in workers)
