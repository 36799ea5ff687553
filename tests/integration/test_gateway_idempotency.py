"""Requests with an `Idempotency-Key` over REST: joined, repeated, refused; what they cost, and what bounds them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from cluster.core import wire
from tests.cluster_harness import until
from tests.fake_engine import FakeEngine, serve
from tests.gateway_harness import TWO_POOLS, Leases, Running, lease, leases_of, running

pytestmark = pytest.mark.integration

WAIT_S = 10.0
KEY = {wire.HEADER_IDEMPOTENCY_KEY: "retry-1"}
CHAT = {"model": "tiny", "messages": [{"role": "user", "content": "hi there"}], "max_tokens": 20}
SHAPES: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": CHAT,
    "/v1/completions": {"model": "tiny", "prompt": "hi there", "max_tokens": 20},
    "/v1/responses": {"model": "tiny", "input": "hi there", "max_output_tokens": 20},
    "/v1/messages": CHAT,
}


@asynccontextmanager
async def gateway_of(engine: FakeEngine, config: str = TWO_POOLS) -> AsyncIterator[Running]:
    async with serve(engine), running(config, store=leases_of(short=engine)) as gateway:
        yield gateway


def limits(**values: Any) -> str:
    return TWO_POOLS + f"gateway: {{limits: {values}}}\n".replace("'", "")


async def ask(
    gateway: Running,
    body: Mapping[str, Any] = CHAT,
    path: str = "/v1/chat/completions",
    *,
    headers: Mapping[str, str] = KEY,
) -> httpx.Response:
    return await gateway.client.post(path, json=body, headers=dict(headers))


async def under_way(
    gateway: Running, engine: FakeEngine, body: Mapping[str, Any] = CHAT
) -> asyncio.Task[httpx.Response]:
    """A request that the engine has begun to answer."""
    asking = asyncio.create_task(ask(gateway, body))
    await asyncio.wait_for(engine.started.wait(), WAIT_S)
    return asking


async def beginning(parts: AsyncIterator[bytes], text: bytes) -> bytes:
    """What has come once `text` has."""
    received = b""
    async for part in parts:
        received += part
        if text in received:
            return received
    raise AssertionError(f"no {text!r} in {received!r}")


async def counted(gateway: Running, sample: str) -> float:
    found = [line for line in (await gateway.metrics()).splitlines() if line.startswith(sample)]
    return sum(float(line.rsplit(" ", 1)[1]) for line in found)


async def until_counted(gateway: Running, sample: str, wanted: float) -> None:
    async def is_it() -> bool:
        return await counted(gateway, sample) == wanted

    await until(is_it, timeout_s=WAIT_S, what=f"{sample} is {wanted}")


async def in_flight(gateway: Running, requests: int) -> None:
    await until(lambda: gateway.gateway.in_flight == requests, timeout_s=WAIT_S, what=f"{requests} requests in flight")


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("path", SHAPES)
async def test_an_answer_comes_again_and_costs_once(path: str, stream: bool) -> None:
    engine = FakeEngine()
    async with gateway_of(engine) as gateway:
        body = {**SHAPES[path], "stream": stream}
        first = await ask(gateway, body, path)
        again = await ask(gateway, body, path)
        assert (first.status_code, again.status_code) == (200, 200)
        assert again.content == first.content
        assert again.headers["content-type"] == first.headers["content-type"]
        assert wire.HEADER_REPLAYED not in first.headers
        assert first.headers[wire.HEADER_POOL] == "short"
        assert again.headers[wire.HEADER_REPLAYED] == "true"
        assert again.headers[wire.HEADER_REQUEST_ID] != first.headers[wire.HEADER_REQUEST_ID]
        assert len(engine.seen) == 1
        await until_counted(gateway, "longreach_in_flight", 0)
        assert await counted(gateway, 'longreach_tokens_total{kind="output"') == engine.tokens
        assert await counted(gateway, 'longreach_tenant_tokens_total{kind="output",tenant="default"') == engine.tokens
        assert await counted(gateway, 'longreach_requests_total{outcome="ok"') == 2
        assert await counted(gateway, 'longreach_idempotent_requests_total{result="first"') == 1
        assert await counted(gateway, 'longreach_idempotent_requests_total{result="replayed"') == 1


async def test_a_second_request_joins_a_stream_from_its_beginning() -> None:
    gate = asyncio.Event()
    engine = FakeEngine(gate=gate, tokens=8)
    async with gateway_of(engine) as gateway:
        body = {**CHAT, "stream": True}
        answers = []
        async with gateway.client.stream("POST", "/v1/chat/completions", json=body, headers=KEY) as first:
            parts = first.aiter_raw()
            begun = await beginning(parts, b"token1")
            async with gateway.client.stream("POST", "/v1/chat/completions", json=body, headers=KEY) as second:
                assert second.headers[wire.HEADER_REPLAYED] == "true"
                others = second.aiter_raw()
                joined = await beginning(others, b"token1")
                gate.set()
                answers = [begun + b"".join([part async for part in parts])]
                answers.append(joined + b"".join([part async for part in others]))
        assert answers[0] == answers[1]
        assert b"token7" in answers[0]
        assert answers[0].endswith(b"[DONE]\n\n")
        assert len(engine.seen) == 1
        assert await counted(gateway, 'longreach_idempotent_requests_total{result="joined"') == 1


async def test_many_at_once_are_one() -> None:
    gate = asyncio.Event()
    engine = FakeEngine(gate=gate)
    async with gateway_of(engine) as gateway:
        asking = [asyncio.create_task(ask(gateway)) for _ in range(20)]
        await in_flight(gateway, 20)
        gate.set()
        answers = await asyncio.gather(*asking)
        assert {answer.status_code for answer in answers} == {200}
        assert len({answer.content for answer in answers}) == 1
        assert sum(wire.HEADER_REPLAYED in answer.headers for answer in answers) == 19
        assert len(engine.seen) == 1


async def test_another_request_under_the_key_is_refused() -> None:
    gate = asyncio.Event()
    engine = FakeEngine(gate=gate)
    async with gateway_of(engine) as gateway:
        asking = await under_way(gateway, engine)
        other = {**CHAT, "max_tokens": 21}
        during = await ask(gateway, other)
        gate.set()
        assert (await asking).status_code == 200
        after = await ask(gateway, other)
        elsewhere = await ask(gateway, CHAT, "/v1/messages")
        for answer in (during, after, elsewhere):
            assert answer.status_code == 422
            error = answer.json()["error"]
            assert "idempotency-key" in error["message"]
        assert during.json()["error"]["code"] == "idempotency_key_reused"
        assert during.json()["error"]["param"] == "idempotency-key"
        assert len(engine.seen) == 1
        assert (await ask(gateway)).status_code == 200, "the mistake has cost the answer"


@pytest.mark.parametrize("key", [b"", b'""', b"k" * 256, "clé".encode("latin-1")])
async def test_what_cannot_be_a_key_is_refused(key: bytes) -> None:
    engine = FakeEngine()
    async with gateway_of(engine) as gateway:
        answer = await gateway.client.post(
            "/v1/chat/completions", json=CHAT, headers={wire.HEADER_IDEMPOTENCY_KEY.encode(): key}
        )
        assert answer.status_code == 400
        assert answer.json()["error"]["param"] == "idempotency-key"
        assert engine.seen == []


@pytest.mark.parametrize(
    "fault", [{"status": 500}, {"status": 429}, {"status": 400}, {"reset": "before-head"}, {"reset": "mid-stream"}]
)
async def test_what_failed_is_not_kept(fault: dict[str, Any]) -> None:
    engine = FakeEngine()
    async with gateway_of(engine, limits(resumes=0, attempts=1)) as gateway:
        engine.script.append(fault)
        body = {**CHAT, "stream": True}
        failed = b""
        try:
            answer = await ask(gateway, body)
            assert answer.status_code != 200
        except httpx.RemoteProtocolError:
            failed = b"broken off"
        assert bool(failed) is (fault.get("reset") == "mid-stream")
        answer = await ask(gateway, body)
        assert answer.status_code == 200
        assert b"[DONE]" in answer.content
        assert wire.HEADER_REPLAYED not in answer.headers
        assert len(engine.seen) == 2
        assert (await ask(gateway, body)).content == answer.content
        assert len(engine.seen) == 2


@pytest.mark.parametrize("stream", [True, False])
async def test_a_client_that_comes_back_finds_its_answer_under_way(stream: bool) -> None:
    gate = asyncio.Event()
    engine = FakeEngine(gate=gate)
    async with gateway_of(engine) as gateway:
        body = {**CHAT, "stream": stream}
        asking = await under_way(gateway, engine, body)
        asking.cancel()
        await in_flight(gateway, 0)
        back = asyncio.create_task(ask(gateway, body))
        await in_flight(gateway, 1)
        gate.set()
        assert (await back).status_code == 200
        assert len(engine.seen) == 1
        assert not engine.aborted.is_set()
        await until_counted(gateway, 'longreach_tokens_total{kind="output"', engine.tokens)


async def test_an_answer_that_nobody_waits_for_is_kept_when_it_ends() -> None:
    gate = asyncio.Event()
    engine = FakeEngine(gate=gate)
    async with gateway_of(engine) as gateway:
        asking = await under_way(gateway, engine)
        asking.cancel()
        gate.set()
        await until_counted(gateway, 'longreach_tokens_total{kind="output"', engine.tokens)
        answer = await ask(gateway)
        assert (answer.status_code, answer.headers[wire.HEADER_REPLAYED]) == (200, "true")
        assert len(engine.seen) == 1


async def test_who_never_comes_back_costs_a_bounded_time() -> None:
    engine = FakeEngine(gate=asyncio.Event())
    async with gateway_of(engine, limits(idempotency_unread_s=0)) as gateway:
        asking = await under_way(gateway, engine)
        asking.cancel()
        await asyncio.wait_for(engine.aborted.wait(), 5)
        engine.gate = None
        answer = await ask(gateway)
        assert answer.status_code == 200
        assert wire.HEADER_REPLAYED not in answer.headers


async def test_the_first_request_s_deadline_is_the_answer_s() -> None:
    engine = FakeEngine(gate=asyncio.Event())
    async with gateway_of(engine) as gateway:
        late = asyncio.create_task(ask(gateway, headers={**KEY, wire.HEADER_TIMEOUT: "0.5"}))
        await asyncio.wait_for(engine.started.wait(), 5)
        patient = await ask(gateway)
        assert ((await late).status_code, patient.status_code) == (504, 504)
        await asyncio.wait_for(engine.aborted.wait(), 5)
        engine.gate = None
        assert (await ask(gateway)).status_code == 200


async def test_a_joined_request_has_its_own_deadline() -> None:
    gate = asyncio.Event()
    engine = FakeEngine(gate=gate)
    async with gateway_of(engine) as gateway:
        first = asyncio.create_task(ask(gateway))
        await asyncio.wait_for(engine.started.wait(), 5)
        assert (await ask(gateway, headers={**KEY, wire.HEADER_TIMEOUT: "0.2"})).status_code == 504
        gate.set()
        assert (await first).status_code == 200


async def test_quotas_are_charged_once() -> None:
    config = TWO_POOLS + "tenants: [{name: default, requests_per_minute: 1}]\n"
    engine = FakeEngine()
    async with gateway_of(engine, config) as gateway:
        assert [(await ask(gateway)).status_code for _ in range(5)] == [200] * 5
        assert (await ask(gateway, headers={wire.HEADER_IDEMPOTENCY_KEY: "another"})).status_code == 429
        assert len(engine.seen) == 1


async def test_answers_that_are_too_large_flow_and_are_not_kept() -> None:
    gate = asyncio.Event()
    engine = FakeEngine(tokens=2000, gate=gate)
    async with gateway_of(engine, limits(idempotency_answer_bytes=1024)) as gateway:
        body = {**CHAT, "stream": True}
        first = asyncio.create_task(ask(gateway, body))
        await asyncio.wait_for(engine.started.wait(), 5)
        second = asyncio.create_task(ask(gateway, body))
        await in_flight(gateway, 2)
        gate.set()
        one, two = await asyncio.gather(first, second)
        assert one.content == two.content
        assert b"token1999 " in one.content
        assert len(engine.seen) == 1
        await until_counted(gateway, 'longreach_idempotent_requests_total{result="unkept"', 1)
        assert (await ask(gateway, body)).status_code == 200
        assert len(engine.seen) == 2


async def test_without_a_time_to_keep_them_keys_are_not_looked_at() -> None:
    engine = FakeEngine()
    async with gateway_of(engine, limits(idempotency_s=0)) as gateway:
        for _ in range(2):
            assert wire.HEADER_REPLAYED not in (await ask(gateway)).headers
        assert len(engine.seen) == 2


async def test_a_foreign_engine_s_answers_are_kept_too() -> None:
    engine = FakeEngine()
    async with serve(engine):
        config = f"""
        models: [{{id: tiny}}]
        pools: [{{name: short, model: tiny, context_tokens: 4000, endpoints: [{{url: "{engine.url}"}}]}}]
        """
        async with running(config) as gateway:
            await gateway.probes.probe_all()
            body = {**CHAT, "stream": True}
            first, again = await ask(gateway, body), await ask(gateway, body)
            assert first.content == again.content
            assert b'"usage"' not in first.content
            assert len(engine.seen) == 1
            assert await counted(gateway, 'longreach_tokens_total{kind="output"') == engine.tokens


async def test_an_answer_that_went_on_at_another_replica_is_one() -> None:
    broken, spare = FakeEngine(name="broken", reset="mid-stream"), FakeEngine(name="spare")
    async with serve(broken), serve(spare):
        store = Leases([lease("short", broken.url, name="broken"), lease("short", spare.url, name="spare", load=9)])
        async with running(store=store) as gateway:
            body = {**CHAT, "stream": True}
            first, again = await ask(gateway, body), await ask(gateway, body)
            assert [f"token{index} " in first.text for index in range(5)] == [True] * 5
            assert first.content == again.content
            assert first.content.endswith(b"[DONE]\n\n")
            assert (len(broken.seen), len(spare.seen)) == (1, 1)
            assert await counted(gateway, 'longreach_resumes_total{pool="short",result="append"') == 1
            assert await counted(gateway, 'longreach_tokens_total{kind="output"') == spare.tokens
