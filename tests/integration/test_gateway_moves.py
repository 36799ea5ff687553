"""Streams that move while nothing is wrong: away from a draining replica, into a larger pool; over real sockets."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest

from cluster.core.resume import FIELD, decode_delivered
from tests.fake_engine import FakeEngine, serve
from tests.gateway_harness import Running, running
from tests.integration.test_gateway_resume import PATHS, TOKENS, body_of, store_of

pytestmark = pytest.mark.integration

CONFIG = """
models: [{id: tiny}]
pools: [{name: short, model: tiny, context_tokens: 4000}]
gateway: {limits: {move_s: 0}}
"""
SLOW_S = 0.3
"""Between two tokens: a drain is seen in less."""


@asynccontextmanager
async def asked(
    gateway: Running, path: str = PATHS[0], **headers: str
) -> AsyncIterator[tuple[httpx.Response, AsyncIterator[str]]]:
    """A stream that has begun: its first lines were read."""
    async with gateway.client.stream("POST", path, json=body_of(path), headers=headers) as answer:
        lines = answer.aiter_text()
        yield answer, lines


async def text_of(first: str, rest: AsyncIterator[str]) -> str:
    return first + "".join([part async for part in rest])


@pytest.mark.parametrize("path", PATHS)
async def test_a_stream_leaves_a_draining_replica(path: str) -> None:
    async with (
        serve(FakeEngine(name="old", token_delay_s=SLOW_S)) as old,
        serve(FakeEngine(name="new")) as new,
        serve(FakeEngine(name="whole")) as whole,
    ):
        async with running(CONFIG, store=store_of(whole)) as gateway:
            undisturbed = (await gateway.client.post(path, json=body_of(path))).text
        store = store_of(old, new)
        async with running(CONFIG, store=store) as gateway, asked(gateway, path) as (_, parts):
            first = await anext(parts)
            await store.drain(store.held[0].replica_id, 60)
            text = await text_of(first, parts)
            await asyncio.wait_for(old.aborted.wait(), 5)
            metrics = await gateway.metrics()
    assert text == undisturbed
    assert re.findall(r"token\d ", text) == TOKENS
    told = decode_delivered(new.seen[0].body[FIELD])
    assert 0 < told.total_tokens < len(TOKENS)
    assert 'longreach_moves_total{pool="short",reason="drain",result="append"} 1' in metrics
    assert 'longreach_resumes_total{pool="short",result="append"} 0' in metrics
    assert 'longreach_broken_answers_total{kind="reset",pool="short"} 0' in metrics
    assert 'longreach_attempts_total{pool="short",result="answered"} 2' in metrics
