"""Calls with `idempotency-key` metadata: the same meaning as the header of REST, from the client's own option."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest

from cluster.core import wire
from services.grpc.client import AsyncClient, GrpcCallError
from tests.cluster_harness import until
from tests.fake_engine import FakeEngine, serve
from tests.gateway_harness import TWO_POOLS, Running, leases_of, running

pytestmark = pytest.mark.integration

MESSAGES = [{"role": "user", "content": "hi there"}]


@asynccontextmanager
async def served(engine: FakeEngine, config: str = TWO_POOLS) -> AsyncIterator[tuple[Running, AsyncClient]]:
    async with (
        serve(engine),
        running(config, store=leases_of(short=engine)) as gateway,
        AsyncClient(gateway.grpc_address, timeout_s=20) as client,
    ):
        yield gateway, client


def text(messages: list[Any]) -> str:
    return "".join(delta.content for message in messages for delta in message.deltas)


async def test_whole_answers_and_streams_come_again() -> None:
    engine = FakeEngine()
    async with served(engine) as (_, client):
        first = await client.chat(model="tiny", messages=MESSAGES, idempotency_key="whole")
        again = await client.chat(model="tiny", messages=MESSAGES, idempotency_key="whole")
        assert first == again
        assert len(engine.seen) == 1
        told, answers = [], []
        for _ in range(2):
            async with client.chat_stream(model="tiny", messages=MESSAGES, idempotency_key="stream") as stream:
                told.append(await stream.metadata())
                answers.append(text([message async for message in stream]))
        assert answers == ["".join(f"token{index} " for index in range(5))] * 2
        assert [metadata.get(wire.HEADER_REPLAYED) for metadata in told] == [None, "true"]
        assert told[0][wire.HEADER_POOL] == "short"
        assert len(engine.seen) == 2


async def test_a_stream_is_joined_and_outlives_the_call_that_began_it() -> None:
    gate = asyncio.Event()
    engine = FakeEngine(gate=gate)
    async with served(engine) as (gateway, client):
        first = client.chat_stream(model="tiny", messages=MESSAGES, idempotency_key="k")
        begun = [await anext(first)]
        second = client.chat_stream(model="tiny", messages=MESSAGES, idempotency_key="k")
        joined = [await anext(second)]
        first.close()
        await until(lambda: gateway.gateway.in_flight == 1, timeout_s=10, what="the first call has ended")
        gate.set()
        joined += [message async for message in second]
        assert text(joined) == "".join(f"token{index} " for index in range(5))
        assert text(begun) in text(joined)
        assert len(engine.seen) == 1


async def test_another_message_under_the_key_is_refused() -> None:
    engine = FakeEngine()
    async with served(engine) as (_, client):
        await client.chat(model="tiny", messages=MESSAGES, idempotency_key="k")
        with pytest.raises(GrpcCallError) as refused:
            await client.chat(model="tiny", messages=MESSAGES, idempotency_key="k", temperature=0.5)
        assert refused.value.code is grpc.StatusCode.INVALID_ARGUMENT
        assert "idempotency-key" in str(refused.value)
        with pytest.raises(GrpcCallError) as refused:
            await client.chat(model="tiny", messages=MESSAGES, idempotency_key="k" * 256)
        assert refused.value.code is grpc.StatusCode.INVALID_ARGUMENT
        assert len(engine.seen) == 1


async def test_a_call_s_deadline_ends_what_it_began() -> None:
    engine = FakeEngine(gate=asyncio.Event())
    async with served(engine) as (_, client):
        with pytest.raises(GrpcCallError) as late:
            await client.chat(model="tiny", messages=MESSAGES, idempotency_key="k", timeout_s=0.5)
        assert late.value.code is grpc.StatusCode.DEADLINE_EXCEEDED
        await asyncio.wait_for(engine.aborted.wait(), 5)
        engine.gate = None
        assert (await client.chat(model="tiny", messages=MESSAGES, idempotency_key="k")).choices
