"""Streams that move while nothing is wrong: away from a draining replica, into a larger pool; over real sockets."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from cluster.core import wire
from cluster.core.resume import FIELD, decode_delivered
from tests.cluster_harness import until
from tests.fake_engine import FakeEngine, serve
from tests.gateway_harness import Leases, Running, lease, leases_of, running
from tests.integration.test_gateway_resume import PATHS, TOKENS, body_of, store_of
from tests.spans import MemorySink

pytestmark = pytest.mark.integration

CONFIG = """
models: [{id: tiny}]
pools: [{name: short, model: tiny, context_tokens: 4000}]
gateway: {limits: {move_s: 0}}
"""
GROWING = """
models: [{id: tiny, output: {default_tokens: 5, grows: true}}]
pools:
  - {name: short, model: tiny, context_tokens: 1000}
  - {name: long, model: tiny, context_tokens: 4000}
"""
SLOW_S = 0.6
"""Between two tokens of a stream that comes to its end where it is: a drain is seen long before that."""
STUCK_S = 600.0
"""The same of one that has to move."""


class Asked:
    """A stream under way."""

    def __init__(self, parts: AsyncIterator[str], first: str) -> None:
        self._parts = parts
        self._text = first

    async def until(self, text: str) -> None:
        while text not in self._text:
            self._text += await anext(self._parts)

    async def whole(self) -> str:
        return self._text + "".join([part async for part in self._parts])


@asynccontextmanager
async def asked(gateway: Running, path: str = PATHS[0], **headers: str) -> AsyncIterator[Asked]:
    """A stream that has begun."""
    async with gateway.client.stream("POST", path, json=body_of(path), headers=headers) as answer:
        parts = answer.aiter_text()
        yield Asked(parts, await anext(parts))


@asynccontextmanager
async def draining(old: FakeEngine, *others: FakeEngine, config: str = CONFIG) -> AsyncIterator[tuple[Running, Asked]]:
    """A stream of an engine that drains since it began."""
    store = store_of(old, *others)
    async with running(config, store=store) as gateway, asked(gateway) as stream:
        await store.drain(store.held[0].replica_id, 60)
        yield gateway, stream


async def undisturbed(path: str = PATHS[0]) -> str:
    async with serve(FakeEngine()) as engine, running(CONFIG, store=store_of(engine)) as gateway:
        return (await gateway.client.post(path, json=body_of(path))).text


@pytest.mark.parametrize("path", PATHS)
async def test_a_stream_leaves_a_draining_replica(path: str) -> None:
    expected = await undisturbed(path)
    async with serve(FakeEngine(name="old", token_delay_s=STUCK_S)) as old, serve(FakeEngine(name="new")) as new:
        store = store_of(old, new)
        async with running(CONFIG, store=store) as gateway, asked(gateway, path) as stream:
            await store.drain(store.held[0].replica_id, 60)
            text = await stream.whole()
            await asyncio.wait_for(old.aborted.wait(), 5)
            metrics = await gateway.metrics()
    assert text == expected
    told = decode_delivered(new.seen[0].body[FIELD])
    assert 0 < told.total_tokens < len(TOKENS)
    assert 'longreach_moves_total{pool="short",reason="drain",result="append"} 1' in metrics
    assert 'longreach_resumes_total{pool="short",result="append"} 0' in metrics
    assert 'longreach_broken_answers_total{kind="reset",pool="short"} 0' in metrics
    assert 'longreach_attempts_total{pool="short",result="answered"} 2' in metrics


async def test_a_trace_has_both_attempts_and_no_error() -> None:
    sink, config = MemorySink(), CONFIG + "telemetry: {traces: {sampling_ratio: 1.0}}\n"
    async with serve(FakeEngine(name="old", token_delay_s=STUCK_S)) as old, serve(FakeEngine(name="new")) as new:
        store = store_of(old, new)
        async with running(config, store=store, sinks=[sink]) as gateway, asked(gateway) as stream:
            await store.drain(store.held[0].replica_id, 60)
            await stream.whole()
            await until(lambda: bool(sink.named("chat tiny")), timeout_s=10, what="the request's spans")
    first, second = sorted(sink.named("attempt"), key=lambda span: span.start_ns)
    assert (first.attributes["longreach.replica"], second.attributes["longreach.replica"]) == ("old", "new")
    assert first.end_ns < second.end_ns
    assert not any(span.is_error for span in sink.spans)


@pytest.mark.parametrize("limit", ["move_s: 600", "move_s: null", "move_s: 0, resumes: 0"])
async def test_it_stays_as_long_as_it_may(limit: str) -> None:
    async with (
        serve(FakeEngine(name="old", token_delay_s=SLOW_S)) as old,
        serve(FakeEngine(name="new")) as new,
        draining(old, new, config=CONFIG.replace("move_s: 0", limit)) as (_, stream),
    ):
        assert re.findall(r"token\d ", await stream.whole()) == TOKENS
    assert new.seen == []
    assert not old.aborted.is_set()


async def test_it_stays_where_nobody_else_is() -> None:
    async with (
        serve(FakeEngine(name="old", token_delay_s=SLOW_S)) as old,
        draining(old) as (gateway, stream),
    ):
        assert await stream.whole() == await undisturbed()
        metrics = await gateway.metrics()
    assert len(old.seen) == 1
    assert re.findall(r"longreach_moves_total.* [1-9]", metrics) == []


async def test_what_came_while_somebody_was_asked_in_vain_is_passed_on() -> None:
    """The other takes a while, and then begins anew instead of going on."""
    async with (
        serve(FakeEngine(name="old", token_delay_s=SLOW_S)) as old,
        serve(FakeEngine(name="other", resumes=False, think_s=2 * SLOW_S)) as other,
        draining(old, other) as (gateway, stream),
    ):
        assert await stream.whole() == await undisturbed()
        metrics = await gateway.metrics()
    assert other.seen
    assert not old.aborted.is_set()
    assert 'longreach_moves_total{pool="short",reason="drain",result="append"} 0' in metrics


async def test_a_stream_that_ends_meanwhile_does_not_wait() -> None:
    async with (
        serve(FakeEngine(name="old", token_delay_s=SLOW_S)) as old,
        serve(FakeEngine(name="other", think_s=600)) as other,
        draining(old, other) as (_, stream),
    ):
        await asyncio.wait_for(other.started.wait(), 5)
        assert await stream.whole() == await undisturbed()
        await asyncio.wait_for(other.aborted.wait(), 5)


async def test_a_replica_that_dies_meanwhile_is_left_all_the_same() -> None:
    async with (
        serve(FakeEngine(name="old", token_delay_s=STUCK_S)) as old,
        serve(FakeEngine(name="new", think_s=SLOW_S)) as new,
        draining(old, new) as (gateway, stream),
    ):
        await asyncio.wait_for(new.started.wait(), 5)
        assert old.kill is not None
        await old.kill()
        assert await stream.whole() == await undisturbed()
        metrics = await gateway.metrics()
    assert len(new.seen) == 1
    assert 'longreach_moves_total{pool="short",reason="drain",result="append"} 1' in metrics


async def test_a_replica_that_dies_while_somebody_is_asked_in_vain_is_a_cut() -> None:
    async with (
        serve(FakeEngine(name="old", token_delay_s=STUCK_S)) as old,
        serve(FakeEngine(name="busy", think_s=SLOW_S, status=200)) as busy,
    ):
        busy.script.append({"status": 503, "think_s": 0.0})
        async with draining(old, busy) as (gateway, stream):
            await asyncio.wait_for(busy.started.wait(), 5)
            assert old.kill is not None
            await old.kill()
            assert await stream.whole() == await undisturbed()
            metrics = await gateway.metrics()
    assert len(re.findall(r'_moves_total{.*result="append"} 1|_resumes_total{.*result="append"} 1', metrics)) == 1


async def test_a_client_that_leaves_meanwhile_aborts_both() -> None:
    async with (
        serve(FakeEngine(name="old", token_delay_s=STUCK_S, tokens=999)) as old,
        serve(FakeEngine(name="new", think_s=600)) as new,
    ):
        async with draining(old, new) as (gateway, _):
            await asyncio.wait_for(new.started.wait(), 5)
        await asyncio.wait_for(old.aborted.wait(), 5)
        await asyncio.wait_for(new.aborted.wait(), 5)
        assert gateway.gateway.dispatcher._open.of(store_of(old).held[0].replica_id) == ()


def growing(path: str, tokens: int | None) -> dict[str, object]:
    """A request that its short pool does not hold as a whole."""
    body = body_of(path)
    field = "max_output_tokens" if path == "/v1/responses" else "max_tokens"
    del body[field]
    return body if tokens is None else {**body, field: tokens}


@asynccontextmanager
async def outgrowing() -> AsyncIterator[tuple[Running, FakeEngine, FakeEngine]]:
    short, long = FakeEngine(name="short", room_tokens=3), FakeEngine(name="long")
    async with serve(short), serve(long), running(GROWING, store=leases_of(short=short, long=long)) as gateway:
        yield gateway, short, long


@pytest.mark.parametrize("path", PATHS)
async def test_a_stream_outgrows_its_pool(path: str) -> None:
    expected = await undisturbed(path)
    async with outgrowing() as (gateway, short, long):
        answer = await gateway.client.post(path, json=growing(path, 2000))
        metrics = await gateway.metrics()
    assert answer.headers[wire.HEADER_POOL] == "short"
    assert answer.text == expected
    assert short.seen[0].headers[wire.HEADER_GROWS] == "2000"
    assert short.seen[0].headers[wire.HEADER_OUTPUT_TOKENS] == "5"
    # The last token that its context held comes with the end, and is made again.
    assert decode_delivered(long.seen[0].body[FIELD]).total_tokens == 2
    # With a prompt of some 20 tokens at most, more than the short pool holds.
    assert 980 <= int(long.seen[0].headers[wire.HEADER_OUTPUT_TOKENS]) <= 1001
    assert 'longreach_moves_total{pool="short",reason="full",result="append"} 1' in metrics
    assert 'longreach_broken_answers_total{kind="reset",pool="short"} 0' in metrics
    assert not short.aborted.is_set()


async def test_a_request_that_names_no_length_may_have_what_the_largest_pool_holds() -> None:
    async with outgrowing() as (gateway, short, _):
        answer = await gateway.client.post(PATHS[0], json=growing(PATHS[0], None))
    assert re.findall(r"token\d ", answer.text) == TOKENS
    assert short.seen[0].headers[wire.HEADER_GROWS] == "4000"


async def test_without_a_larger_pool_it_ends_as_it_would_have() -> None:
    config = GROWING + "gateway: {limits: {queue_s: 0.1}}\n"
    short = FakeEngine(name="short", room_tokens=3)
    async with serve(short), running(config, store=leases_of(short=short)) as gateway:
        answer = await gateway.client.post(PATHS[0], json=growing(PATHS[0], 2000))
        metrics = await gateway.metrics()
    assert re.findall(r"token\d ", answer.text) == TOKENS[:3]
    assert answer.text.endswith("data: [DONE]\n\n")
    assert "longreach" not in answer.text
    assert 'longreach_moves_total{pool="short",reason="full",result="nobody"} 1' in metrics


@pytest.mark.parametrize(
    ("change", "header"),
    [
        ({"stream": False}, {}),
        ({"max_tokens": 5}, {}),
        ({}, {wire.HEADER_RESUME: "off"}),
    ],
)
async def test_who_cannot_move_or_needs_not_is_placed_as_ever(
    change: dict[str, object], header: dict[str, str]
) -> None:
    store = Leases()
    async with serve(FakeEngine(name="short")) as short, serve(FakeEngine(name="long")) as long:
        store.held = [lease("short", short.url), lease("long", long.url)]
        async with running(GROWING, store=store) as gateway:
            body = {**growing(PATHS[0], 2000), **change}
            answer = await gateway.client.post(PATHS[0], json=body, headers=header)
    assert answer.headers[wire.HEADER_POOL] == ("short" if "max_tokens" in change else "long")
    assert all(wire.HEADER_GROWS not in seen.headers for seen in short.seen + long.seen)
