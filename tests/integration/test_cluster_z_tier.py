"""The KV tier on the real cluster: what a replica computed outlives it, is known to the gateway, and can be cleared."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import psutil
import pytest

from cluster.engine.residency.service import KEPT_S
from tests.cluster_harness import CONFIG, Cluster, longreach, settled, until

pytestmark = pytest.mark.integration

WORDS = Path(__file__).read_text(encoding="utf-8").split()
BLOCK_TOKENS = 128


def document(seed: int) -> str:
    """Long enough that fetching it beats computing it, even with the tiny model."""
    return " ".join(random.Random(seed).choices(WORDS, k=6000))


async def ask(http: httpx.AsyncClient, text: str, **more: Any) -> tuple[httpx.Response, dict[str, Any]]:
    body = {"model": "tiny", "prompt": text, "max_tokens": 16, "temperature": 0, "ignore_eos": True, **more}
    answer = await http.post("/v1/completions", json=body)
    assert answer.status_code == 200, answer.text
    assert answer.headers["x-longreach-pool"] == "long"
    return answer, answer.json()


def cached(said: dict[str, Any]) -> int:
    return int((said["usage"]["prompt_tokens_details"] or {}).get("cached_tokens") or 0)


def blocks(cluster: Cluster) -> int:
    done = longreach("cache", "stats", "--config", str(CONFIG), "--json", env=cluster.env)
    assert done.returncode == 0, done.stderr
    return int(json.loads(done.stdout)["total"]["blocks"])


def fetched_tokens(cluster: Cluster, request: Path) -> int:
    """What the gateway believes the replica would take from Redis."""
    arguments = ("explain", str(request), "--route", "completions", "--config", str(CONFIG), "--json")
    done = longreach(*arguments, env=cluster.env)
    assert done.returncode == 0, done.stderr
    return int(json.loads(done.stdout)["choices"][0]["fetched_tokens"])


@pytest.mark.timeout(400)
async def test_a_new_replica_serves_what_its_predecessor_computed(
    cluster: Cluster, http: httpx.AsyncClient, tmp_path: Path
) -> None:
    lease = (await settled(cluster, "long"))["long"]
    known, other = document(1), document(2)
    before = blocks(cluster)
    _, cold = await ask(http, known)
    prompt_tokens = cold["usage"]["prompt_tokens"]
    assert cached(cold) < prompt_tokens // 10
    whole = prompt_tokens // BLOCK_TOKENS
    await until(lambda: blocks(cluster) - before >= whole, timeout_s=60, what="the prompt's blocks are in Redis")
    # What was stored in the last second is not told yet, and a killed replica tells nothing.
    await asyncio.sleep(2 * KEPT_S)
    # Found by its port: a test before this one may have taken Redis away, and the replica's report with it.
    port = urlsplit(lease.url).port
    listeners = (each for each in psutil.net_connections("tcp") if each.status == psutil.CONN_LISTEN)
    victim = next(each.pid for each in listeners if each.laddr.port == port)
    assert victim is not None
    os.kill(victim, signal.SIGKILL)

    async def is_replaced() -> bool:
        now = (await cluster.leases()).get("long")
        return now is not None and now.replica_id != lease.replica_id and now.tier is not None

    await until(is_replaced, timeout_s=240, what="Serve replaced the replica")

    request = tmp_path / "request.json"
    request.write_text(json.dumps({"model": "tiny", "prompt": known, "max_tokens": 16}), encoding="utf-8")
    most = 0.9 * prompt_tokens
    await until(
        lambda: fetched_tokens(cluster, request) >= most, timeout_s=30, what="the gateway knows what Redis keeps"
    )
    answer, warm = await ask(http, known)
    assert warm["choices"][0]["text"] == cold["choices"][0]["text"]
    assert cached(warm) >= 0.9 * prompt_tokens
    assert int(answer.headers["x-longreach-predicted-redis-tokens"]) >= 0.9 * prompt_tokens
    predicted = int(answer.headers["x-longreach-predicted-tokens"])
    assert abs(predicted - cached(warm)) <= BLOCK_TOKENS
    answer, unknown = await ask(http, other)
    assert "x-longreach-predicted-redis-tokens" not in answer.headers
    assert cached(unknown) < prompt_tokens // 10


async def test_a_client_cannot_choose_its_place_in_the_cache(http: httpx.AsyncClient) -> None:
    """A salt of its own, or terms that name blocks, would open another tenant's cache."""
    _, plain = await ask(http, document(4))
    assert cached(plain) < BLOCK_TOKENS * 4
    terms = {"longreach": {"known": 10**6, "wait_s": 9, "tag": "0" * 8}}
    for field in ({"cache_salt": "another"}, {"kv_transfer_params": terms}):
        _, said = await ask(http, document(4), **field)
        assert cached(said) >= 0.9 * said["usage"]["prompt_tokens"], "its own cache is used, whatever it says"
        assert said["choices"][0]["text"] == plain["choices"][0]["text"]
    _, unknown = await ask(http, document(5), kv_transfer_params=terms)
    assert cached(unknown) < BLOCK_TOKENS * 4


async def test_cleared_blocks_are_gone(cluster: Cluster, http: httpx.AsyncClient) -> None:
    await ask(http, document(3))
    await until(lambda: blocks(cluster) > 0, timeout_s=60, what="blocks are in Redis")
    done = longreach("cache", "clear", "--config", str(CONFIG), "--model", "tiny", "--yes", "--json", env=cluster.env)
    assert done.returncode == 0, done.stderr
    assert blocks(cluster) == 0
