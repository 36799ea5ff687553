"""What clients without manners do to the gRPC listener: it goes on, others do not notice, engines see nothing of it."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections import Counter
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from cluster.config.keys import KeySection, KeysFile, digest_of, save_keys
from services.grpc.generated.longreach.v1 import chat_pb2, common_pb2, complete_pb2, inference_pb2, inference_pb2_grpc
from tests.cluster_harness import until
from tests.fake_engine import FakeEngine, serve
from tests.gateway_harness import TWO_POOLS, leases_of, running
from tests.grpc_answers import details_of, refused
from tests.raw_http2 import raw_http2

pytestmark = pytest.mark.integration

CHAT = b"/longreach.v1.Inference/Chat"
CHAT_STREAM = b"/longreach.v1.Inference/ChatStream"
WATCH = b"/grpc.health.v1.Health/Watch"
INFERENCE = "longreach.v1.Inference"
WITHOUT_RESUMES = TWO_POOLS + "gateway: {limits: {resumes: 0}}\n"
BURST = 1500
"""Over gRPC's own limit of 1,000 calls that wait for a handler."""


def hello(**more: Any) -> chat_pb2.ChatRequest:
    return chat_pb2.ChatRequest(model="tiny", messages=[chat_pb2.ChatMessage(role="user", content="hi there")], **more)


@pytest.mark.parametrize("name", [b"traceparent", b"tracestate", b"accept", b"x-request-id", b"x-longreach-session"])
async def test_a_value_with_a_lines_end_reaches_no_engine(name: bytes) -> None:
    value = b"0\r\nx-injected: yes\r\ncontent-length: 0\r\n\r\nPOST /any HTTP/1.1\r\nhost: replica"
    engine = FakeEngine()
    async with serve(engine) as _, running(TWO_POOLS, store=leases_of(short=engine)) as gateway:
        async with raw_http2(gateway.grpc_address) as raw:
            raw.call(1, CHAT, [(name, value)])
            raw.message(1, hello().SerializeToString())
            await until(lambda: raw.has_headers(1), timeout_s=5, what="an answer")
        assert [seen.path for seen in engine.seen] in ([], ["/v1/chat/completions"])
        for seen in engine.seen:
            assert "x-injected" not in {header.lower() for header in seen.headers}


async def test_a_path_that_is_no_text_does_not_end_the_listener() -> None:
    """grpc.aio's main loop ends on it; the listener must be there again, and what was under way must go on."""
    engine = FakeEngine(tokens=60, token_delay_s=0.02)
    async with (
        serve(engine),
        running(TWO_POOLS, store=leases_of(short=engine)) as gateway,
        grpc.aio.insecure_channel(gateway.grpc_address) as before,
    ):
        stream = inference_pb2_grpc.InferenceStub(before).ChatStream(hello())
        assert (await stream.read()).deltas
        for _ in range(3):
            async with raw_http2(gateway.grpc_address) as raw:
                raw.call(1, b"/\xff")
                raw.message(1, b"")

                async def answers() -> bool:
                    options = [("grpc.use_local_subchannel_pool", 1)]
                    async with grpc.aio.insecure_channel(gateway.grpc_address, options=options) as after:
                        call = inference_pb2_grpc.InferenceStub(after).ListModels(inference_pb2.ListModelsRequest())
                        try:
                            return bool((await call).models)
                        except grpc.aio.AioRpcError:
                            return False

                await asyncio.sleep(0.1)  # the request has done what it does
                await until(answers, timeout_s=5, what="the listener is there again")
        rest = []
        while (message := await stream.read()) is not grpc.aio.EOF:
            rest.append(message)
        assert rest[-1].usage.completion_tokens == 60


async def test_no_method_is_registered_with_the_core(monkeypatch: pytest.MonkeyPatch) -> None:
    """When grpc.aio's main loop fails it frees the waiting requests of registered methods, which the core still has:
    memory of whatever came to be there is overwritten, and the gateway crashes some requests later."""
    registered: list[Any] = []
    server = type(grpc.aio.server())
    monkeypatch.setattr(server, "add_registered_method_handlers", lambda _, *handlers: registered.append(handlers))
    async with running(TWO_POOLS):
        assert registered == []


async def test_a_watcher_that_does_not_read_holds_up_nobody() -> None:
    engine = FakeEngine()
    store = leases_of(short=engine)
    async with (
        serve(engine),
        running(TWO_POOLS, store=store) as gateway,
        raw_http2(gateway.grpc_address, initial_window_bytes=0) as raw,
        grpc.aio.insecure_channel(gateway.grpc_address) as channel,
    ):
        request = health_pb2.HealthCheckRequest(service=INFERENCE)
        raw.call(1, WATCH)
        raw.message(1, request.SerializeToString())
        await until(lambda: raw.has_headers(1), timeout_s=5, what="the watcher is served")
        health = health_pb2_grpc.HealthStub(channel)
        watched = health.Watch(request)
        assert (await watched.read()).status == health_pb2.HealthCheckResponse.SERVING
        store.held.clear()
        assert (await watched.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
        assert (await health.Check(request)).status == health_pb2.HealthCheckResponse.NOT_SERVING
        gateway.grpc_server.lame_duck()
        admin = health_pb2.HealthCheckRequest(service="longreach.v1.Admin")
        assert (await health.Check(admin)).status == health_pb2.HealthCheckResponse.NOT_SERVING
        unknown = await refused(health.Check(health_pb2.HealthCheckRequest(service="nobody")))
        assert unknown.code() is grpc.StatusCode.NOT_FOUND


async def test_who_has_no_key_is_told_before_the_message_is_here(tmp_path: Path) -> None:
    key = KeySection(id="one", tenant="acme", sha256=digest_of("lr-key").hex(), created=dt.datetime.now(dt.UTC).date())
    save_keys(tmp_path / "keys.yaml", KeysFile(keys=[key]))
    config = f"{TWO_POOLS}gateway: {{auth: {{keys_file: {tmp_path / 'keys.yaml'}}}, limits: {{client_stall_s: 0.5}}}}\n"
    engine = FakeEngine()
    async with (
        serve(engine),
        running(config, store=leases_of(short=engine)) as gateway,
        raw_http2(gateway.grpc_address) as raw,
    ):
        raw.call(1, CHAT)
        raw.message(1, b"x" * 1000, size=1_000_000, ends=False)
        await until(lambda: raw.has_headers(1), timeout_s=5, what="the refusal")
        assert gateway.gateway.in_flight == 0
        # With a key the message is waited for, and not for ever.
        raw.call(3, CHAT, [(b"x-api-key", b"lr-key")])
        raw.message(3, b"x" * 1000, size=1_000_000, ends=False)
        await until(lambda: gateway.gateway.in_flight == 1, timeout_s=5, what="the call is let in")
        await until(lambda: raw.has_headers(3), timeout_s=5, what="the end of the wait")
        await until(lambda: gateway.gateway.in_flight == 0, timeout_s=5, what="its place is free")
    assert engine.seen == []


async def test_an_answer_that_nobody_reads_holds_no_place() -> None:
    """The engine is done, and the client's window is closed: neither its deadline nor idle_s may be forgotten."""
    engine = FakeEngine(tokens=50)
    for limits in ("{idle_s: 0.5}", "{request_s: 0.7}"):
        config = f"{TWO_POOLS}gateway: {{limits: {limits}}}\n"
        async with (
            serve(engine),
            running(config, store=leases_of(short=engine)) as gateway,
            raw_http2(gateway.grpc_address, initial_window_bytes=0) as raw,
        ):
            raw.call(1, CHAT_STREAM)
            raw.message(1, hello().SerializeToString())
            await until(lambda: raw.has_headers(1), timeout_s=5, what="the answer begins")
            assert gateway.gateway.in_flight == 1
            await until(lambda: gateway.gateway.in_flight == 0, timeout_s=5, what="its place is free")


async def test_a_burst_is_answered() -> None:
    engine = FakeEngine()
    async with (
        serve(engine),
        running(TWO_POOLS, store=leases_of(short=engine)) as gateway,
        grpc.aio.insecure_channel(gateway.grpc_address) as channel,
    ):
        stub = inference_pb2_grpc.InferenceStub(channel)

        async def ask() -> str:
            try:
                await stub.ListModels(inference_pb2.ListModelsRequest())
            except grpc.aio.AioRpcError as error:
                return f"{error.code()} {error.details()}"
            return "answered"

        assert Counter(await asyncio.gather(*(ask() for _ in range(BURST)))) == {"answered": BURST}


async def test_a_drain_waits_for_a_request_that_is_arriving() -> None:
    engine = FakeEngine()
    async with (
        serve(engine),
        running(TWO_POOLS, store=leases_of(short=engine)) as gateway,
        raw_http2(gateway.grpc_address) as raw,
    ):
        request = hello().SerializeToString()
        raw.call(1, CHAT)
        raw.message(1, request[:10], size=len(request), ends=False)
        await until(lambda: gateway.gateway.in_flight == 1, timeout_s=5, what="the call is let in")
        stopping = asyncio.create_task(gateway.grpc_server.stop(10))
        await asyncio.sleep(0.5)  # longer than a drain takes that waits for nothing
        assert not stopping.done()
        raw.rest(1, request[10:])
        await asyncio.wait_for(stopping, 5)
        assert b"hi from engine" in raw.body(1)


async def test_values_that_json_cannot_hold() -> None:
    engine = FakeEngine()
    async with (
        serve(engine),
        running(TWO_POOLS, store=leases_of(short=engine)) as gateway,
        grpc.aio.insecure_channel(gateway.grpc_address) as channel,
    ):
        stub = inference_pb2_grpc.InferenceStub(channel)
        for request, field in (
            (hello(repetition_penalty=float("nan")), "repetition_penalty"),
            (hello(temperature=float("inf")), "temperature"),
            (hello(logit_bias={1: float("nan")}), "logit_bias"),
        ):
            error = await refused(stub.Chat(request))
            assert details_of(error)["BadRequest"].field_violations[0].field == field
        assert engine.seen == []
        schema = f'{{"type": "integer", "maximum": {2**64}}}'
        await stub.Chat(hello(tools=[chat_pb2.Tool(name="t", parameters=schema)]))
        assert engine.seen[0].body["tools"][0]["function"]["parameters"]["maximum"] == 2**64


async def test_an_engines_long_sentence_arrives_in_any_script() -> None:
    """A refusal of an engine's in a long sentence must not become another error on its way."""

    async def reply(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        body = ('{"error": {"message": "%s", "param": "messages", "code": 400}}' % ("太长了" * 400)).encode()
        head = b"HTTP/1.1 400 Bad\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body)
        writer.write(head + body)
        writer.close()

    async with await asyncio.start_server(reply, "127.0.0.1", 0) as listener:
        url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
        config = (
            "models: [{id: tiny}]\n"
            f"pools: [{{name: p, model: tiny, context_tokens: 4000, endpoints: [{{url: '{url}'}}]}}]\n"
        )
        async with running(config) as gateway, grpc.aio.insecure_channel(gateway.grpc_address) as channel:
            error = await refused(inference_pb2_grpc.InferenceStub(channel).Chat(hello()))
            assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
            assert (error.details() or "").startswith("太长了太长了")


async def test_a_million_token_ids_come_in_one_event() -> None:
    ids = ",".join(["100000"] * 1_000_000)
    event = f'data: {{"id": "x", "choices": [{{"index": 0, "text": "a", "prompt_token_ids": [{ids}]}}]}}\n\n'.encode()

    async def reply(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        body = event + b"data: [DONE]\n\n"
        head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: %d\r\n\r\n" % len(body)
        writer.write(head + body)
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(reply, "127.0.0.1", 0) as listener:
        url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
        config = (
            "models: [{id: tiny}]\n"
            f"pools: [{{name: p, model: tiny, context_tokens: 4000, endpoints: [{{url: '{url}'}}]}}]\n"
        )
        options = [("grpc.max_receive_message_length", 64 * 2**20)]
        async with (
            running(config) as gateway,
            grpc.aio.insecure_channel(gateway.grpc_address, options=options) as channel,
        ):
            request = complete_pb2.CompleteRequest(model="tiny", prompts=[common_pb2.Prompt(text="x")])
            call = inference_pb2_grpc.InferenceStub(channel).CompleteStream(request)
            first = await call.read()
            assert len(first.deltas[0].prompt_token_ids) == 1_000_000


async def test_what_an_engine_tells_before_an_error_is_counted() -> None:
    """An engine that fails under way has cost something."""
    from cluster.core import wire
    from cluster.core.outcome import ReplicaOutcome, encode_outcome

    told = encode_outcome(ReplicaOutcome(prompt_tokens=10, output_tokens=50)).encode()
    parts = [
        b'data: {"id": "x", "choices": [{"index": 0, "delta": {"content": "a"}}]}\n\n',
        b'data: {"error": {"message": "out of luck", "code": 500}}\n\n',
        b"data: [DONE]\n\n" + wire.COMMENT_OUTCOME + told + b"\n\n",
    ]

    async def reply(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        length = sum(map(len, parts))
        head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: %d\r\n\r\n" % length
        writer.write(head)
        for part in parts:
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(0.05)
        writer.close()

    async with await asyncio.start_server(reply, "127.0.0.1", 0) as listener:
        engine = FakeEngine()
        engine.port = listener.sockets[0].getsockname()[1]
        async with (
            running(WITHOUT_RESUMES, store=leases_of(short=engine)) as gateway,
            grpc.aio.insecure_channel(gateway.grpc_address) as channel,
        ):
            call = inference_pb2_grpc.InferenceStub(channel).ChatStream(hello())
            assert (await call.read()).deltas[0].content == "a"
            error = await refused(call.read())
            assert (error.code(), error.details()) == (grpc.StatusCode.INTERNAL, "out of luck")
            metrics = await gateway.metrics()
    assert 'longreach_tokens_total{kind="output",model="tiny",pool="short"} 50.0' in metrics
