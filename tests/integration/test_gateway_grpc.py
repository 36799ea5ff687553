"""The gRPC listener in front of fake engines: faults, aborts, joined deltas, compression, health, reflection."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from cluster.core import wire
from services.grpc.generated.longreach.v1 import (
    chat_pb2,
    common_pb2,
    complete_pb2,
    inference_pb2,
    inference_pb2_grpc,
)
from tests.fake_engine import FakeEngine, serve
from tests.gateway_harness import TWO_POOLS, Leases, Running, leases_of, running
from tests.grpc_answers import details_of, drained, refused

pytestmark = pytest.mark.integration

TRIES = 5
ABORT_S = 0.1
IMPATIENT = TWO_POOLS + "gateway: {limits: {idle_s: 0.5, resumes: 0}}\n"


def hello(**more: Any) -> chat_pb2.ChatRequest:
    return chat_pb2.ChatRequest(model="tiny", messages=[chat_pb2.ChatMessage(role="user", content="hi there")], **more)


@asynccontextmanager
async def served(
    engine: FakeEngine, config: str = TWO_POOLS, *, options: Any = None, compression: Any = None
) -> AsyncIterator[tuple[Running, inference_pb2_grpc.InferenceStub, grpc.aio.Channel]]:
    async with (
        serve(engine),
        running(config, store=leases_of(short=engine)) as gateway,
        grpc.aio.insecure_channel(gateway.grpc_address, options=options, compression=compression) as channel,
    ):
        yield gateway, inference_pb2_grpc.InferenceStub(channel), channel


def text(messages: list[Any]) -> str:
    return "".join(delta.content for message in messages for delta in message.deltas)


async def test_the_first_delta_is_not_delayed_and_those_that_wait_travel_together() -> None:
    engine = FakeEngine(tokens=2000)
    async with served(engine) as (_, stub, _):
        messages = await drained(stub.ChatStream(hello()))
        assert text(messages) == "".join(f"token{index} " for index in range(2000))
        assert len(messages) < 1500
    engine = FakeEngine(tokens=5, token_delay_s=0.05)
    async with served(engine) as (_, stub, _):
        messages = await drained(stub.ChatStream(hello()))
        assert [text([message]) for message in messages if message.deltas] == [f"token{index} " for index in range(5)]


async def test_what_a_client_sends_reaches_the_engine() -> None:
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    engine = FakeEngine()
    async with served(engine) as (_, stub, _):
        call = stub.Chat(
            hello(temperature=0.5, extra='{"user": "u1"}'),
            metadata=(("traceparent", trace), ("tracestate", "a=b"), ("x-request-id", "mine-1"), ("x-secret", "s")),
            timeout=30,
        )
        assert (await call).usage.prompt_tokens == 2
        told = dict(await call.initial_metadata())
    assert told[wire.HEADER_REQUEST_ID] == "mine-1"
    assert told[wire.HEADER_POOL] == "short"
    headers = {name.lower(): value for name, value in engine.seen[0].headers.items()}
    assert headers["traceparent"] == trace
    assert headers["tracestate"] == "a=b"
    assert headers["x-request-id"] == "mine-1"
    assert "x-secret" not in headers
    assert 20 < float(headers[wire.HEADER_DEADLINE]) <= 30
    assert engine.seen[0].body["user"] == "u1"


async def test_vectors() -> None:
    async with served(FakeEngine()) as (_, stub, _):
        request = inference_pb2.EmbedRequest(model="tiny", inputs=[common_pb2.Prompt(text="one two")])
        answer = await stub.Embed(request)
    assert [list(one.values) for one in answer.embeddings] == [[0.0]]


@pytest.mark.parametrize("method", ["Chat", "ChatStream"])
async def test_busy_engines_say_when_to_come_back(method: str) -> None:
    engine = FakeEngine(status=429, answer_headers={"retry-after": "7"})
    async with served(engine) as (_, stub, _):
        call = getattr(stub, method)(hello())
        error = await refused(drained(call) if method == "ChatStream" else call)
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert details_of(error)["RetryInfo"].retry_delay.seconds == 7
    assert dict(error.trailing_metadata())["grpc-retry-pushback-ms"] == "7000"
    assert details_of(error)["RequestInfo"].request_id.startswith("req-")


async def test_no_replica_is_unavailable() -> None:
    async with (
        running(TWO_POOLS, store=Leases()) as gateway,
        grpc.aio.insecure_channel(gateway.grpc_address) as channel,
    ):
        error = await refused(inference_pb2_grpc.InferenceStub(channel).Chat(hello()))
        assert error.code() is grpc.StatusCode.UNAVAILABLE
        assert details_of(error)["ErrorInfo"].reason == "NO_REPLICA_AVAILABLE"
        health = health_pb2_grpc.HealthStub(channel)
        told = await health.Check(health_pb2.HealthCheckRequest(service="longreach.v1.Inference"))
        assert told.status == health_pb2.HealthCheckResponse.NOT_SERVING
        told = await health.Check(health_pb2.HealthCheckRequest(service="longreach.v1.Admin"))
        assert told.status == health_pb2.HealthCheckResponse.SERVING


@pytest.mark.parametrize("fault", ["reset", "hang"])
async def test_a_broken_answer_never_looks_complete(fault: str) -> None:
    engine = FakeEngine(**{fault: "mid-stream"})
    async with served(engine, IMPATIENT) as (gateway, stub, _):
        messages: list[Any] = []

        async def read() -> None:
            async for message in stub.ChatStream(hello()):
                messages.append(message)  # noqa: PERF401 - what came before the error counts

        error = await refused(read())
        assert text(messages).startswith("token0 ")
        timed_out = fault == "hang"
        code = grpc.StatusCode.DEADLINE_EXCEEDED if timed_out else grpc.StatusCode.UNAVAILABLE
        assert error.code() is code
        reason = "UPSTREAM_TIMEOUT" if timed_out else "UPSTREAM_BROKEN"
        assert details_of(error)["ErrorInfo"].reason == reason
        error = await refused(stub.Chat(hello()))
        assert error.code() is code
        assert gateway.gateway.in_flight == 0


async def test_an_engine_that_fails_before_its_answer_is_not_the_clients_problem() -> None:
    first, second = FakeEngine(name="first", reset="before-head"), FakeEngine(name="second", reset="before-head")
    first.script.append({"reset": "before-head"})
    second.reset = ""
    async with (
        serve(first),
        serve(second),
        running(TWO_POOLS, store=leases_of(short=first, short_2=second)) as gateway,
        grpc.aio.insecure_channel(gateway.grpc_address) as channel,
    ):
        stub = inference_pb2_grpc.InferenceStub(channel)
        for _ in range(4):
            assert (await stub.Chat(hello())).choices[0].message.content == "hi from second"


@pytest.mark.parametrize("answer", [b"<html>", b"[]", b'{"choices": [{}]}', b'{"choices": 7}'])
async def test_an_answer_in_another_form_is_an_error(answer: bytes) -> None:
    async def reply(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(answer))
        writer.write(answer)
        writer.close()

    async with await asyncio.start_server(reply, "127.0.0.1", 0) as listener:
        port = listener.sockets[0].getsockname()[1]
        config = (
            "models: [{id: tiny}]\n"
            f"pools: [{{name: p, model: tiny, context_tokens: 4000, endpoints: [{{url: 'http://127.0.0.1:{port}'}}]}}]\n"
        )
        async with running(config) as gateway, grpc.aio.insecure_channel(gateway.grpc_address) as channel:
            stub = inference_pb2_grpc.InferenceStub(channel)
            for call in (stub.Chat(hello()), drained(stub.ChatStream(hello()))):
                error = await refused(call)
                assert error.code() is grpc.StatusCode.UNAVAILABLE
                assert details_of(error)["ErrorInfo"].reason == "UPSTREAM_UNUSABLE"


@pytest.mark.parametrize("by", ["cancel", "deadline"])
@pytest.mark.parametrize("method", ["Chat", "ChatStream"])
@pytest.mark.parametrize("when", ["before the first byte", "after it"])
async def test_cancel_and_deadline_reach_the_engine_within_100_ms(method: str, by: str, when: str) -> None:
    engine = FakeEngine(think_s=60) if when == "before the first byte" else FakeEngine()
    if when == "after it":
        engine.tokens, engine.token_delay_s, engine.hang = 100_000, 0.02, "" if method == "ChatStream" else "mid-stream"
    async with served(engine) as (_, stub, _):

        async def leave() -> float:
            engine.aborted.clear()
            engine.started.clear()
            limit_s = 0.5 if by == "deadline" else None
            began_s = time.monotonic()
            call = getattr(stub, method)(hello(), timeout=limit_s)
            task = asyncio.ensure_future(drained(call) if method == "ChatStream" else _answer(call))
            await asyncio.wait_for(engine.started.wait(), 5)
            if by == "cancel":
                await asyncio.sleep(0.1)  # the engine has done what it does: nothing comes that could be waited for
                began_s = time.monotonic()
                call.cancel()
            with pytest.raises((grpc.aio.AioRpcError, asyncio.CancelledError)):
                await task
            await asyncio.wait_for(engine.aborted.wait(), 5)
            return engine.aborted_s[-1] - began_s - (limit_s or 0)

        found: list[float] = []
        while len(found) < TRIES and min(found, default=1) >= ABORT_S:
            found.append(await leave())
        assert min(found) < ABORT_S


async def _answer(call: Any) -> Any:
    return await call


async def test_a_client_that_reads_nothing_loses_its_place() -> None:
    """Bounded by limits.idle_s, as in REST: a place in an engine is not for keeping."""
    engine = FakeEngine(tokens=1_000_000)
    options = [("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", 16_384)]
    async with served(engine, IMPATIENT, options=options) as (gateway, stub, _):
        call = stub.ChatStream(hello())
        assert await call.read()
        await asyncio.wait_for(engine.aborted.wait(), 10)
        assert gateway.gateway.in_flight == 0
        error = await refused(drained(call))
        assert details_of(error)["ErrorInfo"].reason == "ANSWER_UNREAD"


async def test_gzip_both_ways_and_no_bomb() -> None:
    engine = FakeEngine()
    config = TWO_POOLS + "gateway: {grpc: {gzip_answers: true}, limits: {body_bytes: 1000000}}\n"
    async with served(engine, config, compression=grpc.Compression.Gzip) as (_, stub, channel):
        words = "word " * 50
        request = chat_pb2.ChatRequest(model="tiny", messages=[chat_pb2.ChatMessage(role="user", content=words)])
        assert (await stub.Chat(request)).usage.prompt_tokens == 50
        assert text(await drained(stub.ChatStream(hello())))
        bomb = await refused(channel.unary_unary("/longreach.v1.Inference/Chat")(b"\0" * 300_000_000))
        assert bomb.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert len(engine.seen) == 2


async def test_unknown_bytes_are_refused_in_words() -> None:
    async with served(FakeEngine()) as (_, _, channel):
        error = await refused(channel.unary_unary("/longreach.v1.Inference/Chat")(b"\xff\xff"))
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert error.details() == "The request is no valid ChatRequest."
        error = await refused(channel.unary_unary("/longreach.v1.Inference/Nothing")(b""))
        assert error.code() is grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (hello(chat_template_kwargs="[1]"), "chat_template_kwargs"),
        (hello(extra='{"temperature": 1}'), "extra"),
        (hello(extra='{"stream": true}'), "extra"),
        (hello(extra='{"a": 1, "a": 2}'), "extra"),
        (hello(tools=[chat_pb2.Tool(name="t", parameters="{")]), "tools[0].parameters"),
        (hello(tool_choice=chat_pb2.ToolChoice(mode=9)), "tool_choice.mode"),  # type: ignore[arg-type]
        (
            chat_pb2.ChatRequest(
                model="tiny",
                messages=[chat_pb2.ChatMessage(role="user", content="a", parts=[chat_pb2.ContentPart(text="b")])],
            ),
            "messages[0].parts",
        ),
        (
            chat_pb2.ChatRequest(
                model="tiny", messages=[chat_pb2.ChatMessage(role="user", parts=[chat_pb2.ContentPart()])]
            ),
            "messages[0].parts[0]",
        ),
        (complete_pb2.CompleteRequest(model="tiny", prompts=[common_pb2.Prompt()]), "prompts"),
        (complete_pb2.CompleteRequest(model="tiny"), "prompts"),
        (
            complete_pb2.CompleteRequest(
                model="tiny",
                prompts=[common_pb2.Prompt(text="a"), common_pb2.Prompt(token_ids=common_pb2.TokenIds(ids=[1]))],
            ),
            "prompts",
        ),
        (inference_pb2.TokenizeRequest(model="tiny"), "text"),
        (inference_pb2.EmbedRequest(model="tiny"), "inputs"),
    ],
)
async def test_fields_that_cannot_be_meant_are_named(request_: Any, field: str) -> None:
    method = type(request_).__name__.removesuffix("Request")
    async with served(FakeEngine()) as (_, stub, _):
        error = await refused(getattr(stub, method)(request_))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert details_of(error)["BadRequest"].field_violations[0].field == field
    assert field.split("[", maxsplit=1)[0] in (error.details() or "")


async def test_reflection_tells_of_every_service() -> None:
    async with served(FakeEngine()) as (_, _, channel):
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        call = stub.ServerReflectionInfo()
        await call.write(reflection_pb2.ServerReflectionRequest(list_services=""))
        told = await call.read()
        names = {service.name for service in told.list_services_response.service}
        assert {"longreach.v1.Inference", "longreach.v1.Admin", "grpc.health.v1.Health"} <= names
        await call.write(reflection_pb2.ServerReflectionRequest(file_containing_symbol="longreach.v1.Inference"))
        assert (await call.read()).file_descriptor_response.file_descriptor_proto
        call.cancel()


async def test_metrics_know_these_requests() -> None:
    async with served(FakeEngine()) as (gateway, stub, _):
        await drained(stub.ChatStream(hello()))
        await refused(stub.Chat(chat_pb2.ChatRequest(model="nobody", messages=hello().messages)))
        metrics = await gateway.metrics()
    assert 'longreach_requests_total{outcome="ok",pool="short",route="chat/completions"} 1.0' in metrics
    assert 'longreach_tokens_total{kind="output",model="tiny",pool="short"} 5.0' in metrics
