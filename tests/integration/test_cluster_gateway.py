"""What the gateway promises, on a real cluster: exact usage, deadlines, spill, explanations, a closed replica."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from cluster.core.lease import Lease
from tests.cluster_harness import CONFIG, Cluster, longreach, settled, until

pytestmark = pytest.mark.integration

ENDLESS = {"model": "tiny", "prompt": "x", "max_tokens": 3000, "ignore_eos": True, "stream": True}
HURRY = {"x-request-timeout-s": "1.5"}
SHORT_SLOTS = 8
"""max_running of the short pool in cluster.yaml."""


def totals(cluster: Cluster) -> dict[str, int]:
    done = longreach("usage", "--config", str(CONFIG), "--json", "--by", "model", env=cluster.env)
    assert done.returncode == 0, done.stderr
    data = json.loads(done.stdout)
    rows = [row for row in data["rows"] if row["model"] == "tiny"]
    fields = ("requests", "prompt_tokens", "cached_tokens", "output_tokens")
    return {name: sum(row[name] for row in rows) for name in fields}


async def test_usage_is_the_engines_to_the_token(cluster: Cluster, http: httpx.AsyncClient) -> None:
    await settled(cluster, "short", "long")
    before = totals(cluster)
    told = {"requests": 0, "prompt_tokens": 0, "cached_tokens": 0, "output_tokens": 0}

    def add(usage: dict[str, int]) -> None:
        told["requests"] += 1
        told["prompt_tokens"] += usage["prompt_tokens"]
        told["output_tokens"] += usage["completion_tokens"]
        told["cached_tokens"] += ((usage.get("prompt_tokens_details") or {}) or {}).get("cached_tokens") or 0

    for words in (5, 300, 300, 4600):
        body = {"model": "tiny", "messages": [{"role": "user", "content": "word " * words}], "max_tokens": 7}
        add((await http.post("/v1/chat/completions", json=body)).json()["usage"])
        streamed = {**body, "stream": True, "stream_options": {"include_usage": True}}
        text = (await http.post("/v1/chat/completions", json=streamed)).text
        assert "longreach" not in text, "the side channel reached the client"
        events = [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: {")]
        add(events[-1]["usage"])

    async def is_counted() -> bool:
        now = await asyncio.to_thread(totals, cluster)
        return {name: now[name] - before[name] for name in now} == told

    await until(is_counted, timeout_s=20, what=f"usage of {told}")


@pytest.mark.parametrize("stream", [True, False])
async def test_a_deadline_aborts_the_engine(cluster: Cluster, http: httpx.AsyncClient, stream: bool) -> None:
    await settled(cluster, "short")
    began_s = time.monotonic()
    answer = (
        await http.post("/v1/completions", json={**ENDLESS, "stream": stream}, headers=HURRY)
        if not stream
        else await _broken_stream(http)
    )
    assert time.monotonic() - began_s < 20
    if stream:
        assert isinstance(answer, str)
        assert '"upstream_timeout"' in answer
        assert "[DONE]" not in answer
    else:
        assert isinstance(answer, httpx.Response)
        assert answer.status_code == 504
        assert answer.json()["error"]["code"] == "deadline_exceeded"

    async def is_idle() -> bool:
        return (await cluster.leases())["short"].running == 0

    await until(is_idle, timeout_s=10, what="the engine has nothing left to do")


async def _broken_stream(http: httpx.AsyncClient) -> str:
    """What came of a stream that its deadline ended; the connection must not end well."""
    text = ""
    try:
        async with http.stream("POST", "/v1/completions", json=ENDLESS, headers=HURRY) as answer:
            async for part in answer.aiter_text():
                text += part
    except httpx.RemoteProtocolError:
        return text
    pytest.fail("the stream ended as if it were complete")


async def test_a_full_pool_spills_and_says_so(cluster: Cluster, http: httpx.AsyncClient) -> None:
    await settled(cluster, "short", "long")
    body = {**ENDLESS, "max_tokens": 400}

    async def ask() -> tuple[str, str]:
        async with http.stream("POST", "/v1/completions", json=body) as answer:
            text = (await answer.aread())[-500:]
            assert answer.status_code == 200, text
            return answer.headers["x-longreach-pool"], answer.headers["x-longreach-reason"]

    answers = await asyncio.gather(*(ask() for _ in range(SHORT_SLOTS + 4)))
    # How many is not asserted: on two cores that decode, the gateway may be too starved to connect in time, and a
    # request that failed to connect goes to the other pool as well.
    assert {pool for pool, _ in answers} == {"short", "long"}
    assert any(pool == "long" and "short is full" in reason for pool, reason in answers)


@contextlib.asynccontextmanager
async def filled(cluster: Cluster, http: httpx.AsyncClient, lease: Lease) -> AsyncIterator[None]:
    """Take every place of a replica behind the gateway's back: requests whose bodies never come to an end.

    The engine hears of none of them, so the lease goes on saying that it is idle, and the gateway goes on asking it.
    """
    at = urlsplit(lease.url)
    head = (
        f"POST {at.path}/v1/completions HTTP/1.1\r\nhost: {at.netloc}\r\ncontent-type: application/json\r\n"
        f"content-length: 100\r\n{''.join(f'{name}: {value}' for name, value in cluster.credential.items())}\r\n\r\n{{"
    )
    writers: list[asyncio.StreamWriter] = []
    try:
        for _ in range(lease.max_running + lease.max_waiting):
            _, writer = await asyncio.open_connection(at.hostname, at.port)
            writers.append(writer)
            writer.write(head.encode())

        async def is_full() -> bool:
            body = {"model": lease.model, "prompt": "x", "max_tokens": 1}
            direct = await http.post(f"{lease.url}/v1/completions", json=body, headers=cluster.credential)
            return direct.status_code == 429

        await until(is_full, timeout_s=20, what="the replica refuses more")
        yield
    finally:
        for writer in writers:
            writer.close()


async def test_a_busy_engines_refusal_goes_to_another_pool_or_to_the_client(
    cluster: Cluster, http: httpx.AsyncClient
) -> None:
    """429 of a real replica: another one is asked where there is one, else it is waited for; and no breaker opens."""
    leases = await settled(cluster, "short", "long", "tp")
    body = {"model": "tiny", "prompt": "hello", "max_tokens": 1}
    async with filled(cluster, http, leases["short"]):
        elsewhere = await http.post("/v1/completions", json=body)
    assert elsewhere.status_code == 200
    assert elsewhere.headers["x-longreach-pool"] == "long"
    assert elsewhere.headers["x-longreach-attempts"] == "2"

    async with filled(cluster, http, leases["tp"]):
        asked = [http.post("/v1/completions", json={**body, "model": "tiny-tp"}) for _ in range(5)]
        answers = await asyncio.gather(*asked)
    for refused in answers:
        assert refused.status_code == 429
        assert int(refused.headers["retry-after"]) >= 1
        assert refused.json()["error"]["code"]

    async def is_served() -> bool:
        answer = await http.post("/v1/completions", json={**body, "model": "tiny-tp"})
        assert answer.status_code in {200, 429}, answer.text
        return answer.status_code == 200

    # Five refusals in a row would have opened a breaker for five seconds, had they counted.
    await until(is_served, timeout_s=4, what="the replica is asked again at once")


async def test_every_decision_can_be_explained(cluster: Cluster, http: httpx.AsyncClient, tmp_path: Path) -> None:
    await settled(cluster, "short", "long")
    body = {"model": "tiny", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 2}
    answer = await http.post("/v1/chat/completions", json=body, headers={"x-longreach-explain": "1"})
    told = json.loads(answer.headers["x-longreach-explanation"])
    assert told["choices"][0]["replica"] == answer.headers["x-longreach-replica"]
    assert int(answer.headers["x-longreach-decision-us"]) >= 0
    file = tmp_path / "request.json"
    file.write_text(json.dumps({**body, "max_tokens": 10_000}))
    done = await asyncio.to_thread(longreach, "explain", str(file), "--config", str(CONFIG), "--json", env=cluster.env)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["choices"][0]["pool"] == "long"


async def test_a_replica_answers_nobody_but_the_gateway(cluster: Cluster, http: httpx.AsyncClient) -> None:
    lease = (await settled(cluster, "short"))["short"]
    body = {"model": "tiny", "prompt": "x", "max_tokens": 1}
    assert (await http.post(f"{lease.url}/v1/completions", json=body)).status_code == 401
    wrong = {"x-longreach-credential": "guess"}
    assert (await http.get(f"{lease.url}/metrics", headers=wrong)).status_code == 401
    assert (await http.get(f"{lease.url}/health")).status_code == 200
    smuggled = {**body, "cache_salt": "mine", "vllm_xargs": {"x": 1}, "kv_transfer_params": {"a": 1}}
    headers = {"x-request-disconnect-disabled": "?1", "x-longreach-cache-salt": "mine"}
    assert (await http.post("/v1/completions", json=smuggled, headers=headers)).status_code == 200
