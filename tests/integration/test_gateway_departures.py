"""A replica whose lease runs out: what it owes is cut off where it does not answer any more, and only there."""

from __future__ import annotations

import asyncio
import re

import httpx
import pytest

from services.gateway import departures
from tests.fake_engine import FakeEngine, serve
from tests.gateway_harness import Leases, lease, running

CONFIG = """
models: [{id: tiny}]
pools: [{name: short, model: tiny, context_tokens: 4000}]
"""
BODY = {"model": "tiny", "max_tokens": 5, "messages": [{"role": "user", "content": "hi"}]}
TIMEOUT_S = 20.0
"""Far below `idle_s` and `first_byte_s`, which would end the wait as well."""


async def answer_after_the_lease_is_gone(first: FakeEngine, spare: FakeEngine, *, is_stream: bool) -> httpx.Response:
    store = Leases(
        [lease("short", engine.url, name=engine.name, load=load) for load, engine in enumerate((first, spare))]
    )
    async with running(CONFIG, store=store) as gateway:
        asking = asyncio.create_task(
            gateway.client.post("/v1/chat/completions", json={**BODY, "stream": is_stream}, timeout=TIMEOUT_S)
        )
        await asyncio.wait_for(first.started.wait(), TIMEOUT_S)
        store.held = [held for held in store.held if held.replica_id != first.name]
        return await asking


@pytest.mark.parametrize("hang", ["before-head", "mid-stream"])
async def test_a_frozen_replica_is_left(hang: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(departures, "ANSWER_S", 0.2)
    async with serve(FakeEngine(name="frozen", hang=hang)) as frozen, serve(FakeEngine(name="spare")) as spare:
        answer = await answer_after_the_lease_is_gone(frozen, spare, is_stream=hang == "mid-stream")
    assert answer.status_code == 200
    assert len(spare.seen) == 1
    if hang == "mid-stream":
        assert re.findall(r"token\d ", answer.text) == [f"token{number} " for number in range(5)]


async def test_one_that_lives_keeps_its_streams() -> None:
    async with (
        serve(FakeEngine(name="slow", token_delay_s=0.3)) as slow,
        serve(FakeEngine(name="spare")) as spare,
    ):
        answer = await answer_after_the_lease_is_gone(slow, spare, is_stream=True)
    assert slow.probed.is_set()
    assert answer.text.endswith("data: [DONE]\n\n")
    assert spare.seen == []
