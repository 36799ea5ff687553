"""What a gateway tells of requests in spans: a trace for each, from its client's to its engine's, whatever the API."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import grpc
import httpx
import pytest

from cluster.core import wire
from services.gateway.logs import ACCESS_LOGGER
from services.grpc.generated.longreach.v1 import chat_pb2, inference_pb2_grpc
from tests.cluster_harness import until
from tests.fake_engine import FakeEngine, serve
from tests.gateway_harness import TWO_POOLS, Leases, lease, leases_of, running
from tests.spans import MemorySink, Seen

pytestmark = pytest.mark.integration

ALL = f"{TWO_POOLS}telemetry: {{traces: {{sampling_ratio: 1.0}}}}\n"
NONE = f"{TWO_POOLS}telemetry: {{traces: {{sampling_ratio: 0.0}}}}\ngateway: {{limits: {{resumes: 0}}}}\n"
TRACE, CALLER = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
PARENT = f"00-{TRACE}-{CALLER}-01"


@asynccontextmanager
async def traced(*engines: FakeEngine, config: str = ALL, store: Leases | None = None) -> Any:
    """A gateway whose spans are kept here, over these engines of the short pool."""
    sink = MemorySink()
    async with running(config, store=store or leases_of(**named(engines)), sinks=[sink]) as gateway:
        yield gateway, sink


def named(engines: tuple[FakeEngine, ...]) -> dict[str, FakeEngine]:
    return {f"short_{number}": engine for number, engine in enumerate(engines)}


async def settled(sink: MemorySink, requests: int = 1) -> list[Seen]:
    """All spans, once so many requests have told theirs."""

    def are_here() -> bool:
        return sum(span.kind == 2 for span in sink.spans) >= requests

    await until(are_here, timeout_s=10, what=f"the spans of {requests} requests")
    return sink.spans


def tree(spans: list[Seen]) -> dict[str, list[str]]:
    """Names of children by their parent's name, in order."""
    names = {span.span_id: span.name for span in spans}
    found: dict[str, list[str]] = {}
    for span in sorted(spans, key=lambda one: (one.start_ns, one.end_ns)):
        found.setdefault(names.get(span.parent_id, span.parent_id), []).append(span.name)
    return found


async def test_a_stream_over_rest_is_told_span_by_span() -> None:
    engine = FakeEngine(tokens=6, cached_tokens=2, think_s=0.03, token_delay_s=0.01)
    async with serve(engine), traced(engine) as (gateway, sink):
        headers = {"traceparent": PARENT, "tracestate": "a=b", "x-request-id": "mine-1"}
        body = {"model": "tiny", "messages": [{"role": "user", "content": "one two three"}], "stream": True}
        answer = await gateway.client.post("/v1/chat/completions", json=body, headers=headers)
        assert answer.status_code == 200
        spans = await settled(sink)
    assert {span.trace_id for span in spans} == {TRACE}
    assert len({span.span_id for span in spans}) == len(spans)
    assert tree(spans) == {
        CALLER: ["chat tiny"],
        "chat tiny": ["route", "attempt"],
        "attempt": ["engine.queue", "engine.prefill", "engine.decode"],
    }
    assert not any(span.is_error for span in spans)
    (own,), (attempt,), (route,) = sink.named("chat tiny"), sink.named("attempt"), sink.named("route")
    assert own.kind == 2
    assert {
        "gen_ai.operation.name": "chat",
        "gen_ai.request.model": "tiny",
        "gen_ai.response.model": "tiny",
        "gen_ai.usage.input_tokens": 3,
        "gen_ai.usage.output_tokens": 6,
        "gen_ai.usage.cache_read.input_tokens": 2,
        "http.request.method": "POST",
        "url.path": "/v1/chat/completions",
        "http.response.status_code": 200,
        "longreach.request_id": "mine-1",
        "longreach.tenant": "default",
        "longreach.pool": "short",
        "longreach.ending": "ok",
        "longreach.attempts": 1,
    }.items() <= own.attributes.items()
    assert 0 < own.attributes["gen_ai.response.time_to_first_chunk"] < (own.end_ns - own.start_ns) / 1e9
    assert "error.type" not in own.attributes
    assert {"longreach.replica": "short_0", "server.address": "127.0.0.1", "server.port": engine.port}.items() <= (
        attempt.attributes.items()
    )
    assert route.attributes["longreach.reason"] == answer.headers[wire.HEADER_REASON]
    assert "longreach.score" in route.attributes
    for span in spans:
        assert own.start_ns <= span.start_ns <= span.end_ns <= own.end_ns
    told = {name.lower(): value for name, value in engine.seen[0].headers.items()}
    assert told["traceparent"] == f"00-{TRACE}-{attempt.span_id}-01"
    assert told["tracestate"] == "a=b"


async def test_the_same_over_grpc() -> None:
    engine = FakeEngine(tokens=6, think_s=0.03)
    async with (
        serve(engine),
        traced(engine) as (gateway, sink),
        grpc.aio.insecure_channel(gateway.grpc_address) as channel,
    ):
        request = chat_pb2.ChatRequest(model="tiny", messages=[chat_pb2.ChatMessage(role="user", content="one two")])
        call = inference_pb2_grpc.InferenceStub(channel).ChatStream(
            request, metadata=(("traceparent", PARENT), ("x-request-id", "mine-2"))
        )
        async for _ in call:
            pass
        spans = await settled(sink)
    assert {span.trace_id for span in spans} == {TRACE}
    assert tree(spans) == {
        CALLER: ["chat tiny"],
        "chat tiny": ["route", "attempt"],
        "attempt": ["engine.queue", "engine.prefill", "engine.decode"],
    }
    (own,) = sink.named("chat tiny")
    assert {"rpc.system.name": "grpc", "longreach.request_id": "mine-2", "gen_ai.usage.output_tokens": 6}.items() <= (
        own.attributes.items()
    )
    assert "url.path" not in own.attributes


async def test_attempts_that_failed_have_spans_of_their_own() -> None:
    bad, good = FakeEngine(reset="before-head"), FakeEngine()
    async with serve(bad), serve(good):
        store = Leases([lease("short", bad.url, name="short_0"), lease("short", good.url, name="short_1", load=5)])
        async with traced(store=store) as (gateway, sink):
            assert (await gateway.chat()).status_code == 200
            spans = await settled(sink)
    (route,) = sink.named("route")
    assert [name for name in route.attributes if name.startswith("longreach.score.")]
    first, second = sink.named("attempt")
    assert (first.is_error, second.is_error) == (True, False)
    assert first.attributes["error.type"] == "reset"
    assert first.attributes["longreach.replica"] == "short_0"
    assert (first.end_ns <= second.start_ns, len({span.trace_id for span in spans})) == (True, 1)
    told = [{key.lower(): value for key, value in engine.seen[0].headers.items()} for engine in (bad, good)]
    assert [headers["traceparent"].split("-")[2] for headers in told] == [first.span_id, second.span_id]
    (own,) = sink.named("chat tiny")
    assert (own.parent_id, own.is_error, own.attributes["longreach.attempts"]) == ("", False, 2)


async def test_errors_are_kept_where_nothing_is_sampled() -> None:
    engine = FakeEngine(tokens=9, reset="mid-stream")
    async with serve(engine), traced(engine, config=NONE) as (gateway, sink):
        engine.script.append({"reset": ""})
        assert (await gateway.chat()).status_code == 200
        with contextlib.suppress(httpx.RemoteProtocolError):
            await gateway.chat(stream=True)
        (own,) = [span for span in await settled(sink) if span.kind == 2]
    assert own.is_error
    assert own.attributes["longreach.ending"] == "broken"
    assert [span.name for span in sink.spans if span.is_error] == ["chat tiny", "attempt"]
    told = {name.lower(): value for name, value in engine.seen[0].headers.items()}
    assert told["traceparent"].endswith("-02")


async def test_what_a_client_did_wrong_is_no_error_of_ours() -> None:
    async with traced(store=Leases()) as (gateway, sink):
        assert (await gateway.chat(max_tokens=10_000_000)).status_code == 400
        assert (await gateway.chat()).status_code == 503
        spans = await settled(sink, 2)
    wrong, empty = min(spans, key=lambda span: span.start_ns), sink.named("chat tiny")[-1]
    assert (wrong.is_error, wrong.attributes["http.response.status_code"]) == (False, 400)
    assert wrong.attributes["error.type"]
    assert (empty.is_error, empty.attributes["http.response.status_code"]) == (True, 503)


async def test_a_wait_for_a_place_is_told() -> None:
    engine = FakeEngine(think_s=0.3)
    async with serve(engine):
        store = Leases([replace(lease("short", engine.url), max_running=1)])
        config = ALL.replace("  - {name: long, model: tiny, context_tokens: 4000}\n", "")
        async with traced(config=config, store=store) as (gateway, sink):
            await asyncio.gather(*(gateway.chat(stream=True) for _ in range(3)))
            await settled(sink, 3)
    waits = sink.named("admission")
    assert len(waits) == 2
    owns = {span.span_id: span for span in sink.named("chat tiny")}
    for wait in waits:
        own = owns[wait.parent_id]
        assert own.start_ns <= wait.start_ns < wait.end_ns <= own.end_ns


async def test_a_wait_that_a_deadline_ends_is_told() -> None:
    engine = FakeEngine(think_s=5)
    async with serve(engine):
        store = Leases([replace(lease("short", engine.url), max_running=1)])
        config = ALL.replace("  - {name: long, model: tiny, context_tokens: 4000}\n", "")
        async with traced(config=config, store=store) as (gateway, sink):
            first = asyncio.create_task(gateway.chat())
            await engine.started.wait()
            body = {"model": "tiny", "messages": [{"role": "user", "content": "x"}]}
            late = await gateway.client.post(
                "/v1/chat/completions", json=body, headers={wire.HEADER_TIMEOUT: "0.3", "x-request-id": "late"}
            )
            assert late.status_code >= 500
            first.cancel()
            await settled(sink, 2)
    (wait,) = sink.named("admission")
    (own,) = [span for span in sink.spans if span.attributes.get("longreach.request_id") == "late"]
    assert wait.parent_id == own.span_id
    assert (wait.end_ns - wait.start_ns) / 1e9 > 0.2
    assert own.is_error


async def test_too_much_to_do_is_no_fault() -> None:
    engine = FakeEngine(status=429, answer_headers={"retry-after": "1"})
    async with serve(engine), traced(engine) as (gateway, sink):
        assert (await gateway.chat()).status_code == 429
        (own,) = [span for span in await settled(sink) if span.kind == 2]
        assert (own.is_error, own.attributes["http.response.status_code"]) == (False, 429)
        assert own.attributes["longreach.attempts"] == 1


@pytest.mark.parametrize("is_on", [False, True])
async def test_prompts_are_in_spans_only_where_they_were_asked_for(is_on: bool) -> None:
    engine = FakeEngine()
    config = ALL.replace("sampling_ratio: 1.0", f"sampling_ratio: 1.0, prompts: {str(is_on).lower()}")
    async with serve(engine), traced(engine, config=config) as (gateway, sink):
        body = {"model": "tiny", "messages": [{"role": "user", "content": "the-secret"}]}
        await gateway.client.post("/v1/chat/completions", json=body)
        spans = await settled(sink)
    assert ("the-secret" in repr(spans)) == is_on


async def test_logs_and_metrics_know_the_trace(
    capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, ACCESS_LOGGER)
    engine = FakeEngine()
    async with serve(engine), traced(engine) as (gateway, sink):
        await gateway.client.post(
            "/v1/chat/completions",
            json={"model": "tiny", "messages": [{"role": "user", "content": "x"}]},
            headers={"traceparent": PARENT},
        )
        spans = await settled(sink)

        async def is_counted() -> bool:
            return f'longreach_trace_spans_total{{result="exported"}} {len(spans)}.0' in await gateway.metrics()

        await until(is_counted, timeout_s=5, what="the count")
    assert f"trace_id={TRACE}" in capfd.readouterr().err
