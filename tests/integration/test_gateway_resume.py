"""A stream whose engine breaks goes on at another one: every token once and in order, over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest

from cluster.core import wire
from cluster.core.resume import FIELD, decode_delivered
from services.grpc.client import AsyncClient
from tests.fake_engine import FakeEngine, serve
from tests.gateway_harness import Leases, Running, lease, running

ONE_POOL = """
models: [{id: tiny}]
pools: [{name: short, model: tiny, context_tokens: 4000}]
gateway: {limits: {idle_s: 0.4}}
"""
PATHS = ("/v1/chat/completions", "/v1/completions", "/v1/messages", "/v1/responses")
TOKENS = [f"token{number} " for number in range(5)]


def store_of(*engines: FakeEngine) -> Leases:
    """One pool; the first engine is asked first."""
    return Leases([lease("short", engine.url, name=engine.name, load=load) for load, engine in enumerate(engines)])


def body_of(path: str) -> dict[str, object]:
    common = {"model": "tiny", "stream": True}
    if path == "/v1/responses":
        return {**common, "max_output_tokens": 5, "input": "hi"}
    prompt = {"prompt": "hi"} if path == "/v1/completions" else {"messages": [{"role": "user", "content": "hi"}]}
    return {**common, "max_tokens": 5, **prompt}


@asynccontextmanager
async def broken_and_spare(config: str) -> AsyncIterator[tuple[Running, FakeEngine]]:
    broken, spare = FakeEngine(name="broken", reset="mid-stream"), FakeEngine(name="spare")
    async with serve(broken), serve(spare), running(config, store=store_of(broken, spare)) as gateway:
        yield gateway, spare


async def ask(gateway: Running, path: str = PATHS[0], **headers: str) -> httpx.Response:
    return await gateway.client.post(path, json=body_of(path), headers=headers)


@pytest.mark.parametrize(
    "fault", [{"reset": "mid-stream"}, {"reset": "mid-stream", "reset_by": "close"}, {"hang": "mid-stream"}]
)
@pytest.mark.parametrize("path", PATHS)
async def test_another_engine_goes_on(path: str, fault: dict[str, str]) -> None:
    broken, spare, whole = FakeEngine(name="broken", **fault), FakeEngine(name="spare"), FakeEngine(name="whole")  # type: ignore[arg-type]
    async with serve(broken), serve(spare), serve(whole):
        async with running(ONE_POOL, store=store_of(whole)) as gateway:
            undisturbed = await ask(gateway, path)
        async with running(ONE_POOL, store=store_of(broken, spare)) as gateway:
            answer = await ask(gateway, path)
            metrics = await gateway.metrics()
    assert answer.text == undisturbed.text
    assert re.findall(r"token\d ", answer.text) == TOKENS
    assert wire.COMMENT_IDS.decode() not in answer.text
    told = decode_delivered(spare.seen[0].body[FIELD])
    assert [group.ids for group in told.groups] == [(1000,), (1001,)]
    assert told.events == 1
    assert 'longreach_resumes_total{pool="short",result="append"} 1' in metrics
    kind = "timeout" if "hang" in fault else "reset"
    assert f'longreach_broken_answers_total{{kind="{kind}",pool="short"}} 1' in metrics


async def test_all_replicas_of_one_response_derive_its_ids_from_the_same_and_no_others_do() -> None:
    """Also where a client gives two requests one id: it pairs calls of tools with their results by ids."""
    broken, spare = FakeEngine(name="broken", reset="mid-stream"), FakeEngine(name="spare")
    own = {wire.HEADER_REQUEST_ID: "mine", wire.HEADER_DRAWS: "5eed" * 8}
    async with serve(broken), serve(spare), running(ONE_POOL, store=store_of(broken, spare)) as gateway:
        for _ in range(2):
            answer = await ask(gateway, "/v1/responses", **own)
            assert re.findall(r"token\d ", answer.text) == TOKENS
    first, *others = [seen.headers.get(wire.HEADER_DRAWS) for seen in (*broken.seen[:1], *spare.seen)]
    assert others[0] == first
    assert len({None, own[wire.HEADER_DRAWS], first, others[-1]}) == 4


async def test_replicas_of_a_chat_derive_nothing() -> None:
    async with broken_and_spare(ONE_POOL) as (gateway, spare):
        await ask(gateway)
    assert [wire.HEADER_DRAWS in seen.headers for seen in spare.seen] == [False]


async def test_it_goes_on_again_where_the_next_one_breaks_too() -> None:
    async with (
        serve(FakeEngine(name="one", reset="mid-stream")) as one,
        serve(FakeEngine(name="two", reset="mid-stream")) as two,
        serve(FakeEngine(name="three")) as three,
        running(ONE_POOL, store=store_of(one, two, three)) as gateway,
    ):
        answer = await ask(gateway)
    assert re.findall(r"token\d ", answer.text) == TOKENS
    assert answer.text.endswith("data: [DONE]\n\n")
    assert [group.ids for group in decode_delivered(three.seen[0].body[FIELD]).groups] == [
        (1000,),
        (1001,),
        (1002,),
        (1003,),
    ]


@pytest.mark.parametrize(
    ("limits", "header"), [("resumes: 0", {}), ("resume_tokens: 1", {}), ("resumes: 3", {wire.HEADER_RESUME: "off"})]
)
async def test_it_ends_with_an_error_where_nobody_wants_more(limits: str, header: dict[str, str]) -> None:
    config = ONE_POOL.replace("idle_s: 0.4", limits)
    async with broken_and_spare(config) as (gateway, spare):
        with pytest.raises(httpx.RemoteProtocolError):
            await ask(gateway, **header)
    assert spare.seen == []


async def test_a_pool_can_switch_it_off() -> None:
    config = ONE_POOL.replace("context_tokens: 4000", "context_tokens: 4000, resume: false")
    async with broken_and_spare(config) as (gateway, spare):
        with pytest.raises(httpx.RemoteProtocolError):
            await ask(gateway)
    assert spare.seen == []


async def test_who_begins_anew_does_not_go_on() -> None:
    """A replica of an older build, or somebody in front of it that drops headers."""
    config = ONE_POOL.replace("idle_s: 0.4", "queue_s: 0.2")
    broken, old = FakeEngine(name="broken", reset="mid-stream"), FakeEngine(name="old", resumes=False)
    async with serve(broken), serve(old), running(config, store=store_of(broken, old)) as gateway:
        with pytest.raises(httpx.RemoteProtocolError):
            await ask(gateway)
        metrics = await gateway.metrics()
    assert 'longreach_resumes_total{pool="short",result="refused"} 1' in metrics


async def test_a_request_that_breaks_every_engine_is_not_given_to_all_of_them() -> None:
    engines = [FakeEngine(name=f"engine{number}", reset="after-head") for number in range(4)]
    engines[0].reset = "mid-stream"
    async with contextlib.AsyncExitStack() as stack:
        for engine in engines:
            await stack.enter_async_context(serve(engine))
        gateway = await stack.enter_async_context(running(ONE_POOL, store=store_of(*engines)))
        with pytest.raises(httpx.RemoteProtocolError):
            await ask(gateway)
    assert sum(len(engine.seen) for engine in engines) <= 3


async def test_without_another_engine_the_client_gets_the_error() -> None:
    config = ONE_POOL.replace("idle_s: 0.4", "queue_s: 0.2")
    engine = FakeEngine(name="broken", reset="mid-stream")
    async with serve(engine) as broken, running(config, store=store_of(broken)) as gateway:
        with pytest.raises(httpx.RemoteProtocolError):
            await ask(gateway)
        async with asyncio.timeout(2):
            while gateway.gateway.in_flight:  # noqa: ASYNC110 - the gateway tells nobody
                await asyncio.sleep(0.01)
        metrics = await gateway.metrics()
        # It waited for another replica, and not in the line once more.
        assert gateway.gateway.room.counts.queue_time == 0
    assert 'longreach_resumes_total{pool="short",result="nobody"} 1' in metrics
    assert 'longreach_broken_answers_total{kind="reset",pool="short"} 1' in metrics


async def test_the_only_replica_of_a_pool_is_waited_for() -> None:
    """Serve starts another one in its place, under another name."""
    broken, new = FakeEngine(name="broken", reset="mid-stream"), FakeEngine(name="new")
    async with serve(broken), serve(new):
        store = store_of(broken)
        async with running(ONE_POOL, store=store) as gateway:
            asking = asyncio.create_task(ask(gateway))
            await asyncio.wait_for(broken.started.wait(), 5)
            store.held = []
            async with asyncio.timeout(5):
                while gateway.gateway.directory.leases():  # noqa: ASYNC110 - the gateway tells nobody
                    await asyncio.sleep(0.01)
            store.held = store_of(new).held
            answer = await asking
    assert re.findall(r"token\d ", answer.text) == TOKENS
    assert len(new.seen) == 1


async def test_a_client_that_leaves_meanwhile_aborts_whoever_goes_on() -> None:
    broken, spare = (
        FakeEngine(name="broken", reset="mid-stream"),
        FakeEngine(name="spare", tokens=9999, token_delay_s=0.05),
    )
    async with serve(broken), serve(spare), running(ONE_POOL, store=store_of(broken, spare)) as gateway:
        asking = asyncio.create_task(ask(gateway))
        await asyncio.wait_for(spare.started.wait(), 5)
        asking.cancel()
        await asyncio.wait_for(spare.aborted.wait(), 2)
        async with asyncio.timeout(2):
            while gateway.gateway.in_flight:  # noqa: ASYNC110 - the gateway tells nobody
                await asyncio.sleep(0.01)


AT_ONCE_S = 10.0
"""Far less than `gateway.limits.queue_s`, for which it would wait for somebody else."""


async def test_grpc_goes_on_too() -> None:
    """At once, also where the whole output that the model may make fits into no pool."""
    async with (
        asyncio.timeout(AT_ONCE_S),
        broken_and_spare(ONE_POOL) as (gateway, spare),
        AsyncClient(gateway.grpc_address) as client,
    ):
        stream = client.chat_stream(model="tiny", messages=[{"role": "user", "content": "hi"}])
        text = "".join([delta.content async for message in stream for delta in message.deltas])
    assert text == "".join(TOKENS)
    assert len(spare.seen) == 1
