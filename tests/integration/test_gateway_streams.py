"""Answers under way: as they arrive, broken off, abandoned by the client, over real sockets."""

from __future__ import annotations

import asyncio
import json

import httpx
import pytest

from tests.fake_engine import FakeEngine, serve
from tests.gateway_harness import Leases, lease, leases_of, running


@pytest.mark.parametrize("fault", ["reset", "hang"])
async def test_a_break_in_mid_stream_is_never_passed_off_as_complete(fault: str) -> None:
    config = """
    models: [{id: tiny}]
    pools: [{name: short, model: tiny, context_tokens: 4000}]
    gateway: {limits: {idle_s: 0.4, resumes: 0}}
    """
    async with serve(FakeEngine()) as spare:
        engine = FakeEngine(**{fault: "mid-stream"})  # type: ignore[arg-type]
        async with serve(engine):
            store = Leases([lease("short", engine.url), lease("short", spare.url, load=9)])
            received = b""
            async with running(config, store=store) as gateway:
                body = {"model": "tiny", "messages": [{"role": "user", "content": "hi"}], "stream": True}
                with pytest.raises(httpx.RemoteProtocolError):  # noqa: PT012 - the break comes in the loop
                    async with gateway.client.stream("POST", "/v1/chat/completions", json=body) as answer:
                        async for part in answer.aiter_raw():
                            received += part
                metrics = await gateway.metrics()
    assert b"token1" in received
    assert b"[DONE]" not in received
    last = received.rstrip().rsplit(b"\n\n", 1)[-1]
    assert json.loads(last.removeprefix(b"data: "))["error"]["code"].startswith("upstream_")
    assert spare.seen == []
    assert "longreach_broken_answers_total{" in metrics


@pytest.mark.parametrize("stream", [True, False])
async def test_a_client_that_leaves_aborts_the_engine(stream: bool) -> None:
    engine = FakeEngine(tokens=10_000, token_delay_s=0.05, think_s=0 if stream else 3600)
    async with serve(engine), running(store=leases_of(short=engine)) as gateway:
        asking = asyncio.create_task(gateway.chat(stream=stream))
        await asyncio.wait_for(engine.started.wait(), 5)
        await asyncio.sleep(0.1)
        asking.cancel()
        await asyncio.wait_for(engine.aborted.wait(), 1)
        async with asyncio.timeout(2):
            while gateway.gateway.in_flight:  # noqa: ASYNC110 - the gateway tells nobody
                await asyncio.sleep(0.01)


async def test_slow_to_the_first_token_is_not_dead() -> None:
    config = """
    models: [{id: tiny}]
    pools: [{name: short, model: tiny, context_tokens: 4000}]
    gateway: {limits: {idle_s: 0.2, first_byte_s: 30}}
    """
    async with serve(FakeEngine(think_s=1)) as engine, running(config, store=leases_of(short=engine)) as gateway:
        answer = await gateway.chat(stream=True)
    assert answer.text.endswith("data: [DONE]\n\n")


async def test_no_first_byte_in_time_is_504_and_not_tried_again() -> None:
    config = """
    models: [{id: tiny}]
    pools: [{name: short, model: tiny, context_tokens: 4000}]
    gateway: {limits: {first_byte_s: 0.3}}
    """
    async with serve(FakeEngine(hang="before-head")) as engine, serve(FakeEngine(hang="after-head")) as other:
        store = Leases([lease("short", engine.url), lease("short", other.url)])
        async with running(config, store=store) as gateway:
            answer = await gateway.chat(stream=True)
    assert answer.status_code == 504
    assert len(engine.seen) + len(other.seen) == 1


async def test_headers_of_the_engine_stay_inside() -> None:
    async with serve(FakeEngine()) as engine, running(store=leases_of(short=engine)) as gateway:
        answer = await gateway.chat(stream=True)
    assert "x-secret" not in answer.headers
    assert "server" not in answer.headers
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.headers["x-accel-buffering"] == "no"


async def test_tokens_arrive_one_by_one() -> None:
    engine = FakeEngine(tokens=4, token_delay_s=0.2)
    async with serve(engine), running(store=leases_of(short=engine)) as gateway:
        body = {"model": "tiny", "messages": [{"role": "user", "content": "hi"}], "stream": True}
        loop = asyncio.get_running_loop()
        async with gateway.client.stream("POST", "/v1/chat/completions", json=body) as answer:
            arrived = [loop.time() async for _ in answer.aiter_raw()]
    assert len(arrived) >= 4
    assert arrived[-1] - arrived[0] > 0.5
