"""One trace from a client's span to vLLM's own, over processes, by REST and by gRPC; the file says the same."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import grpc
import httpx
import pytest
from opentelemetry import propagate
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import Tracer

from services.grpc.generated.longreach.v1 import chat_pb2, inference_pb2_grpc
from tests.cluster_harness import Cluster, longreach, until
from tests.collector import Collector, collecting
from tests.spans import Seen

pytestmark = pytest.mark.integration

COLLECTOR_PORT = 34317
"""As cluster.yaml says."""
VLLM = "llm_request"


@pytest.fixture
def client() -> Iterator[tuple[Tracer, InMemorySpanExporter]]:
    """The client's own tracing."""
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    yield provider.get_tracer("client"), exporter
    provider.shutdown()


async def whole(collector: Collector, trace_id: str) -> list[Seen]:
    """The trace, once the gateway's spans and vLLM's are here."""

    def is_here() -> bool:
        found = collector.of(trace_id)
        return {"longreach-gateway"} < {span.service for span in found} and any(span.name == VLLM for span in found)

    await until(is_here, timeout_s=30, what="the trace of both processes")
    return collector.of(trace_id)


def assert_it_is_one_story(spans: list[Seen], client_id: str) -> None:
    by_name = {span.name: span for span in spans}
    own, attempt, engine = by_name["chat tiny"], by_name["attempt"], by_name[VLLM]
    parents = {span.name: span.parent_id for span in spans}
    assert parents == {
        "chat tiny": client_id,
        "route": own.span_id,
        "attempt": own.span_id,
        "engine.queue": attempt.span_id,
        "engine.prefill": attempt.span_id,
        "engine.decode": attempt.span_id,
        VLLM: attempt.span_id,
    }
    assert own.service == "longreach-gateway"
    assert own.attributes["longreach.pool"] == attempt.attributes["longreach.pool"] == "short"
    # The engine's own account and ours are of the same answer.
    assert engine.attributes["gen_ai.usage.prompt_tokens"] == own.attributes["gen_ai.usage.input_tokens"]
    assert engine.attributes["gen_ai.usage.completion_tokens"] == own.attributes["gen_ai.usage.output_tokens"] == 8
    decode_s = (by_name["engine.decode"].end_ns - by_name["engine.decode"].start_ns) / 1e9
    assert decode_s == pytest.approx(engine.attributes["gen_ai.latency.time_in_model_decode"], abs=1e-3)
    for name in ("route", "attempt", "engine.queue", "engine.prefill", "engine.decode"):
        assert own.start_ns <= by_name[name].start_ns <= by_name[name].end_ns <= own.end_ns
    assert not any(span.is_error for span in spans)


def is_written(file: Path, request_id: str) -> bool:
    return request_id in file.read_text(encoding="utf-8")


async def test_rest_and_grpc(cluster: Cluster, client: tuple[Tracer, InMemorySpanExporter]) -> None:
    tracer, exporter = client
    message = "Say something about spans, please."
    async with collecting(COLLECTOR_PORT) as (collector, _):
        with tracer.start_as_current_span("rest"):
            headers = {"x-request-id": "traced-rest"}
            propagate.inject(headers)
            body = {"model": "tiny", "messages": [{"role": "user", "content": message}], "max_tokens": 8}
            async with httpx.AsyncClient(base_url=cluster.url, timeout=60) as http:
                answer = await http.post(
                    "/v1/chat/completions", json={**body, "ignore_eos": True, "stream": True}, headers=headers
                )
                assert answer.status_code == 200, answer.text
        with tracer.start_as_current_span("grpc"):
            carrier = {"x-request-id": "traced-grpc"}
            propagate.inject(carrier)
            async with grpc.aio.insecure_channel(cluster.grpc_address) as channel:
                request = chat_pb2.ChatRequest(
                    model="tiny",
                    messages=[chat_pb2.ChatMessage(role="user", content=message)],
                    max_completion_tokens=8,
                    ignore_eos=True,
                )
                call = inference_pb2_grpc.InferenceStub(channel).ChatStream(request, metadata=tuple(carrier.items()))
                async for _ in call:
                    pass
        for span in exporter.get_finished_spans():
            context = span.get_span_context()
            assert context is not None
            spans = await whole(collector, f"{context.trace_id:032x}")
            assert_it_is_one_story(spans, f"{context.span_id:016x}")
    for request_id in ("traced-rest", "traced-grpc"):
        file = cluster.run_dir / "traces.jsonl"
        await until(partial(is_written, file, request_id), timeout_s=10, what="the spans in the file")
        shown = longreach("trace", request_id, "--file", str(file), env=cluster.env)
        assert shown.returncode == 0, shown.stderr
        for name in ("chat tiny", "route", "attempt", "engine.prefill"):
            assert name in shown.stdout
