"""What gRPC promises on a real cluster: cancel, deadline, slow readers, drain, kill, sizes, credentials, crowds."""

from __future__ import annotations

import asyncio
import datetime as dt
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import psutil
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from cluster.config.keys import KeySection, KeysFile, digest_of, save_keys
from services.grpc.generated.longreach.v1 import (
    admin_pb2,
    admin_pb2_grpc,
    chat_pb2,
    common_pb2,
    complete_pb2,
    inference_pb2,
    inference_pb2_grpc,
)
from tests.cluster_harness import Cluster, SecondGateway, second_gateway, settled, until
from tests.grpc_answers import details_of, drained, refused

pytestmark = pytest.mark.integration

CLIENT_KEY, ADMIN_KEY = "lr-a-client's", "lr-an-administrator's"
BEARER = (("authorization", f"Bearer {CLIENT_KEY}"),)
ENDLESS = complete_pb2.CompleteRequest(
    model="tiny", prompts=[common_pb2.Prompt(text="x")], max_tokens=3000, ignore_eos=True
)
MANY = 500
SLOW_TOKENS = 1500
SMALL_WINDOW = [("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", 16_384)]
"""A client that takes 16 KiB before it must be read: as slow as a reader can be."""


def hello(tokens: int = 4, **more: Any) -> chat_pb2.ChatRequest:
    messages = [chat_pb2.ChatMessage(role="user", content="Say hello.")]
    return chat_pb2.ChatRequest(model="tiny", messages=messages, max_completion_tokens=tokens, ignore_eos=True, **more)


@pytest.fixture(scope="module")
async def guarded(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[SecondGateway]:
    """A gateway of the same cluster that wants keys; tests here may end it only where they start their own."""
    folder = tmp_path_factory.mktemp("guarded")
    async with second_gateway(cluster, folder, auth={"keys_file": str(keys_in(folder))}) as gateway:
        yield gateway


def keys_in(folder: Path) -> Path:
    today = dt.datetime.now(dt.UTC).date()
    keys = [
        KeySection(id="one", tenant="acme", sha256=digest_of(CLIENT_KEY).hex(), created=today),
        KeySection(id="boss", tenant="acme", sha256=digest_of(ADMIN_KEY).hex(), created=today, role="admin"),
    ]
    save_keys(folder / "keys.yaml", KeysFile(keys=keys))
    return folder / "keys.yaml"


@pytest.fixture
async def channel(cluster: Cluster) -> AsyncIterator[grpc.aio.Channel]:
    await settled(cluster, "short", "long")
    async with grpc.aio.insecure_channel(cluster.grpc_address) as made:
        yield made


async def idle(cluster: Cluster) -> None:
    async def is_idle() -> bool:
        return all(lease.running + lease.waiting == 0 for lease in (await cluster.leases()).values())

    await until(is_idle, timeout_s=20, what="the engines have nothing left to do")


async def test_a_cancelled_stream_frees_its_engine(cluster: Cluster, channel: grpc.aio.Channel) -> None:
    call = inference_pb2_grpc.InferenceStub(channel).CompleteStream(ENDLESS)
    assert (await call.read()).deltas
    call.cancel()
    await idle(cluster)


async def test_a_cancelled_call_frees_its_engine(cluster: Cluster, channel: grpc.aio.Channel) -> None:
    call = inference_pb2_grpc.InferenceStub(channel).Complete(ENDLESS)

    async def runs() -> bool:
        return any(lease.running for lease in (await cluster.leases()).values())

    task = asyncio.ensure_future(call)
    await until(runs, timeout_s=20, what="the engine works")
    call.cancel()
    await idle(cluster)
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.parametrize("streams", [False, True])
async def test_a_deadline_ends_it_everywhere(cluster: Cluster, channel: grpc.aio.Channel, streams: bool) -> None:
    stub = inference_pb2_grpc.InferenceStub(channel)
    call = drained(stub.CompleteStream(ENDLESS, timeout=1.5)) if streams else stub.Complete(ENDLESS, timeout=1.5)
    error = await refused(call)
    assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    await idle(cluster)


async def test_a_slow_reader_stalls_only_itself(cluster: Cluster, guarded: SecondGateway) -> None:
    """It asks for more than a megabyte and takes none; others are served meanwhile; then it gets every token."""
    await settled(cluster, "short", "long")
    request = hello(SLOW_TOKENS, logprobs=True, top_logprobs=20, n=2)
    process = psutil.Process(guarded.process.pid)
    async with (
        grpc.aio.insecure_channel(guarded.grpc_address, options=SMALL_WINDOW) as slow,
        grpc.aio.insecure_channel(guarded.grpc_address) as quick,
    ):
        lazy = inference_pb2_grpc.InferenceStub(slow).ChatStream(request, metadata=BEARER)
        stub = inference_pb2_grpc.InferenceStub(quick)
        first = await lazy.read()
        before_bytes, messages = process.memory_info().rss, [first]
        for _ in range(20):
            others = await drained(stub.ChatStream(hello(20), metadata=BEARER))
            assert others[-1].usage.completion_tokens == 20
        assert process.memory_info().rss - before_bytes < 16 * 2**20, "what a client does not read is held for it"
        messages += await drained(lazy)
    tokens = [delta.index for message in messages for delta in message.deltas for _ in delta.logprobs]
    assert sorted(tokens) == [0] * SLOW_TOKENS + [1] * SLOW_TOKENS
    assert messages[-1].usage.completion_tokens == 2 * SLOW_TOKENS
    assert sum(message.ByteSize() for message in messages) > 2**20


async def test_a_drain_loses_no_stream(cluster: Cluster, tmp_path: Path) -> None:
    await settled(cluster, "short", "long")
    async with (
        second_gateway(cluster, tmp_path) as gateway,
        grpc.aio.insecure_channel(gateway.grpc_address) as channel,
    ):
        stub, health = inference_pb2_grpc.InferenceStub(channel), health_pb2_grpc.HealthStub(channel)
        watched = health.Watch(health_pb2.HealthCheckRequest(service="longreach.v1.Inference"))
        assert (await watched.read()).status == health_pb2.HealthCheckResponse.SERVING
        calls = [stub.ChatStream(hello(150)) for _ in range(6)]
        begun = [await call.read() for call in calls]
        gateway.process.send_signal(signal.SIGTERM)
        assert (await watched.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
        ended = await asyncio.gather(*(drained(call) for call in calls))
        for first, rest in zip(begun, ended, strict=True):
            assert first.deltas
            assert rest[-1].usage.completion_tokens == 150
        assert await asyncio.wait_for(gateway.process.wait(), 30) == 0
        late = await refused(stub.Chat(hello()))
        assert late.code() is grpc.StatusCode.UNAVAILABLE
    assert "Traceback" not in gateway.log.read_text()


async def test_a_killed_server_ends_streams_with_an_error(cluster: Cluster, tmp_path: Path) -> None:
    await settled(cluster, "short", "long")
    async with (
        second_gateway(cluster, tmp_path) as gateway,
        grpc.aio.insecure_channel(gateway.grpc_address) as channel,
    ):
        call = inference_pb2_grpc.InferenceStub(channel).CompleteStream(ENDLESS)
        assert (await call.read()).deltas
        gateway.process.kill()
        assert (await refused(drained(call))).code() is grpc.StatusCode.UNAVAILABLE
        await idle(cluster)


async def test_sizes(cluster: Cluster, channel: grpc.aio.Channel) -> None:
    stub = inference_pb2_grpc.InferenceStub(channel)
    long = chat_pb2.ChatMessage(role="user", content="word " * 1_000_000)
    too_long = await refused(stub.Chat(chat_pb2.ChatRequest(model="tiny", messages=[long])))
    # 5 MB arrived whole, and what is wrong with them is said in words.
    assert too_long.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert details_of(too_long)["ErrorInfo"].reason == "CONTEXT_LENGTH_EXCEEDED"
    assert details_of(too_long)["BadRequest"].field_violations[0].field == "messages"
    assert "262,144" in (too_long.details() or "")
    huge = chat_pb2.ChatMessage(role="user", content="w" * (33 * 2**20))
    too_large = await refused(stub.Chat(chat_pb2.ChatRequest(model="tiny", messages=[huge])))
    assert too_large.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert str(32 * 2**20) in (too_large.details() or "")


@pytest.mark.parametrize("method", ["Chat", "ChatStream", "Tokenize"])
async def test_bad_utf8_names_its_field(channel: grpc.aio.Channel, method: str) -> None:
    good = {
        "Chat": hello(),
        "ChatStream": hello(),
        "Tokenize": inference_pb2.TokenizeRequest(model="tiny", text="hello."),
    }
    raw = good[method].SerializeToString().replace(b"hello", b"h\xc3\x28lo")
    path = f"/longreach.v1.Inference/{method}"
    made = channel.unary_stream(path) if method == "ChatStream" else channel.unary_unary(path)
    call = made(raw)
    error = await refused(drained(call) if method == "ChatStream" else call)
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    field = "text" if method == "Tokenize" else "messages[0].content"
    assert error.details() == f"{field}: the text is not valid UTF-8."
    assert details_of(error)["BadRequest"].field_violations[0].field == field


async def test_credentials(cluster: Cluster, guarded: SecondGateway) -> None:
    await settled(cluster, "short", "long")
    async with grpc.aio.insecure_channel(guarded.grpc_address) as channel:
        stub, admin = inference_pb2_grpc.InferenceStub(channel), admin_pb2_grpc.AdminStub(channel)
        for metadata in ((), (("authorization", "Bearer lr-nobody's"),), (("x-api-key", "lr-nobody's"),)):
            for call in (
                stub.Chat(hello(), metadata=metadata),
                drained(stub.ChatStream(hello(), metadata=metadata)),
                stub.ListModels(inference_pb2.ListModelsRequest(), metadata=metadata),
                admin.Pools(admin_pb2.PoolsRequest(), metadata=metadata),
            ):
                error = await refused(call)
                assert error.code() is grpc.StatusCode.UNAUTHENTICATED
                assert details_of(error)["ErrorInfo"].reason == "INVALID_API_KEY"
        for metadata in (BEARER, (("x-api-key", CLIENT_KEY),)):
            assert (await stub.Chat(hello(), metadata=metadata)).usage.completion_tokens == 4
        error = await refused(admin.Pools(admin_pb2.PoolsRequest(), metadata=BEARER))
        assert error.code() is grpc.StatusCode.PERMISSION_DENIED
        pools = await admin.Pools(admin_pb2.PoolsRequest(), metadata=(("x-api-key", ADMIN_KEY),))
        assert {pool.name: pool.ready for pool in pools.pools} == {"short": 1, "long": 1, "tp": 1}


@pytest.mark.timeout(600)
async def test_many_streams_at_once(cluster: Cluster, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    await settled(cluster, "short", "long")
    limits = {"queue_s": 300.0}
    async with (
        second_gateway(cluster, tmp_path, limits=limits) as gateway,
        grpc.aio.insecure_channel(gateway.grpc_address) as channel,
    ):
        stub, began_s = inference_pb2_grpc.InferenceStub(channel), time.monotonic()
        ended = await asyncio.gather(*(drained(stub.ChatStream(hello(4))) for _ in range(MANY)))
        with capsys.disabled():
            print(f"\n{MANY} streams at once took {time.monotonic() - began_s:.1f} s")  # noqa: T201 - the figure
    assert [messages[-1].usage.completion_tokens for messages in ended] == [4] * MANY
    assert "Traceback" not in gateway.log.read_text()


async def test_draining_a_replica_and_back(cluster: Cluster, channel: grpc.aio.Channel) -> None:
    await idle(cluster)
    admin, stub = admin_pb2_grpc.AdminStub(channel), inference_pb2_grpc.InferenceStub(channel)
    [replica] = (await admin.Replicas(admin_pb2.ReplicasRequest(pool="short"))).replicas
    await admin.Drain(admin_pb2.DrainRequest(replica=replica.id, for_s=120))
    try:
        [told] = (await admin.Replicas(admin_pb2.ReplicasRequest(pool="short"))).replicas
        assert told.state == admin_pb2.REPLICA_STATE_DRAINING
        assert told.is_drained_by_operator
        call = stub.Chat(hello())
        assert dict(await call.initial_metadata())["x-longreach-pool"] == "long"
        explained = await admin.Explain(admin_pb2.ExplainRequest(chat=hello()))
        assert (explained.outcome, explained.pool) == (admin_pb2.EXPLAIN_OUTCOME_DECISION, "long")
    finally:
        await admin.Drain(admin_pb2.DrainRequest(replica=replica.id, undo=True))

    async def is_back() -> bool:
        return dict(await stub.Chat(hello()).initial_metadata())["x-longreach-pool"] == "short"

    # Where the gateway was too starved to connect in time, a replica comes last for two seconds.
    await until(is_back, timeout_s=20, what="the replica has work again")
