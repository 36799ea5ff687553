"""Which pool answers, shown by a header and by that replica's own counter."""

from __future__ import annotations

import re

import httpx
import pytest

from tests.cluster_harness import Cluster

pytestmark = pytest.mark.integration
TOKEN = 100


async def prompts_served(http: httpx.AsyncClient, cluster: Cluster, pool: str) -> float:
    """The replica's own count of finished requests, from its engine's metrics."""
    lease = (await cluster.leases())[pool]
    text = (await http.get(f"{lease.url}/metrics", headers=cluster.credential)).text
    return sum(float(value) for value in re.findall(r"^vllm:request_success_total\{.*\} (\S+)$", text, re.MULTILINE))


async def complete(http: httpx.AsyncClient, *, prompt_tokens: int, max_tokens: int) -> httpx.Response:
    body = {"model": "tiny", "prompt": [TOKEN] * prompt_tokens, "max_tokens": max_tokens, "ignore_eos": True}
    return await http.post("/v1/completions", json=body)


async def served_by(http: httpx.AsyncClient, cluster: Cluster, prompt: str) -> tuple[str, dict[str, float]]:
    before = {pool: await prompts_served(http, cluster, pool) for pool in ("short", "long")}
    body = {"model": "tiny", "messages": [{"role": "user", "content": prompt}], "max_tokens": 4}
    answer = await http.post("/v1/chat/completions", json=body)
    assert answer.status_code == 200, answer.text
    after = {pool: await prompts_served(http, cluster, pool) for pool in ("short", "long")}
    return answer.headers["x-longreach-pool"], {pool: after[pool] - before[pool] for pool in after}


async def test_short_chat_goes_short(cluster: Cluster, http: httpx.AsyncClient) -> None:
    pool, counted = await served_by(http, cluster, "word " * 180)
    assert pool == "short"
    assert counted == {"short": 1, "long": 0}


async def test_document_goes_long(cluster: Cluster, http: httpx.AsyncClient) -> None:
    pool, counted = await served_by(http, cluster, "A document about pools. " * 1200)
    assert pool == "long"
    assert counted == {"short": 0, "long": 1}


@pytest.mark.parametrize(("over", "pool"), [(0, "short"), (1, "long")])
async def test_boundary_is_exact(http: httpx.AsyncClient, over: int, pool: str) -> None:
    answer = await complete(http, prompt_tokens=4000 + over, max_tokens=96)
    assert answer.headers["x-longreach-pool"] == pool
    assert answer.json()["usage"] == answer.json()["usage"] | {
        "prompt_tokens": 4000 + over,
        "completion_tokens": 96,
    }


async def test_largest_limit_is_exact(http: httpx.AsyncClient) -> None:
    refused = await complete(http, prompt_tokens=262_000, max_tokens=145)
    assert refused.status_code == 400
    error = refused.json()["error"]
    assert error["code"] == "context_length_exceeded"
    for number in ("262,000", "145", "262,144"):
        assert number in error["message"], error["message"]


async def test_chat_boundary_counts_the_template(http: httpx.AsyncClient) -> None:
    """A chat one token over the short pool's limit, template included, is not shortened and not refused."""
    messages = [{"role": "user", "content": "word " * 2000}]
    count = (await http.post("/tokenize", json={"model": "tiny", "messages": messages})).json()["count"]
    for total, pool in ((4096, "short"), (4097, "long")):
        body = {"model": "tiny", "messages": messages, "max_tokens": total - count, "ignore_eos": True}
        stream = body | {"stream": True, "stream_options": {"include_usage": True}}
        async with http.stream("POST", "/v1/chat/completions", json=stream) as answer:
            assert answer.headers["x-longreach-pool"] == pool


async def test_32k_prompt(http: httpx.AsyncClient) -> None:
    answer = await complete(http, prompt_tokens=32_000, max_tokens=4)
    assert answer.status_code == 200
    assert answer.headers["x-longreach-pool"] == "long"
    assert answer.json()["usage"]["prompt_tokens"] == 32_000


@pytest.mark.slow
@pytest.mark.timeout(900)
async def test_200k_prompt(http: httpx.AsyncClient) -> None:
    text = "The long context is read from end to end. "
    # Tokens reach over the seams, so many repetitions are counted, not one.
    sample = {"model": "tiny", "prompt": text * 1000}
    per_thousand = (await http.post("/tokenize", json=sample)).json()["count"]
    repetitions = 200_000 * 1000 // per_thousand + 1000
    body = {"model": "tiny", "prompt": text * repetitions, "max_tokens": 4, "ignore_eos": True}
    answer = await http.post("/v1/completions", json=body, timeout=800)
    assert answer.status_code == 200, answer.text
    assert answer.json()["usage"]["prompt_tokens"] >= 200_000
    assert answer.headers["x-longreach-pool"] == "long"


async def test_engine_internals_never_pass(http: httpx.AsyncClient) -> None:
    for path in ("/v1/load_lora_adapter", "/reset_prefix_cache", "/sleep", "/collective_rpc", "/-/healthz"):
        assert (await http.post(path, json={})).status_code == 404
    body = {"model": "tiny", "prompt": "x", "max_tokens": 1, "cache_salt": "@bad", "kv_transfer_params": {"a": 1}}
    assert (await http.post("/v1/completions", json=body)).status_code == 200
