"""The gRPC client, for threads and for asyncio, against a gateway in front of fake engines."""

from __future__ import annotations

import asyncio
import datetime as dt
import random
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from cluster.config.keys import KeySection, KeysFile, digest_of, save_keys
from services.grpc.client import AsyncClient, Client, GrpcCallError, RetryPolicy, Tls
from services.grpc.generated.longreach.v1 import admin_pb2
from tests.fake_engine import FakeEngine, serve
from tests.gateway_harness import TWO_POOLS, Leases, Running, lease, leases_of, running

HELLO: dict[str, Any] = {"model": "tiny", "messages": [{"role": "user", "content": "one two three"}]}
AT_ONCE_S = 5.0
"""What should come at once comes within this on a busy machine."""


class Waits:
    """Sleeps of a client that take no time; what happens meanwhile is `then`'s."""

    def __init__(self, then: Callable[[], object] = lambda: None) -> None:
        self.waited_s: list[float] = []
        self._then = then

    def __call__(self, wait_s: float) -> None:
        self.waited_s.append(wait_s)
        self._then()

    async def later(self, wait_s: float) -> None:
        await asyncio.to_thread(self, wait_s)


IMPATIENT = TWO_POOLS + "gateway: {limits: {queue_s: 0.2}}\n"
"""Nobody waits long for another replica: there is none."""


@asynccontextmanager
async def cluster(**fields: Any) -> AsyncIterator[tuple[Running, FakeEngine]]:
    """A gateway in front of one engine."""
    engine = FakeEngine(**fields)
    async with serve(engine), running(IMPATIENT, store=leases_of(short=engine)) as gateway:
        yield gateway, engine


def text_of(messages: list[Any]) -> str:
    return "".join(delta.content for message in messages for delta in message.deltas)


async def test_every_method_of_the_blocking_client() -> None:
    def use(address: str) -> None:
        with Client(address, gzip=True) as client:
            said = client.chat(**HELLO, max_completion_tokens=9)
            assert said.choices[0].message.content == "hi from engine"
            assert said.usage.prompt_tokens == 3
            assert client.complete(model="tiny", prompts="a b").choices[0].text == "hi from engine"
            with client.complete_stream(model="tiny", prompts=["a b"]) as stream:
                assert "".join(delta.text for message in stream for delta in message.deltas).startswith("token0 ")
            assert len(client.embed(model="tiny", inputs=["a"]).embeddings) == 1
            assert client.tokenize(model="tiny", text="a b c").count == 3
            assert client.detokenize(model="tiny", token_ids=[1]).text == "hi from engine"
            assert client.count_tokens(model="tiny", conversation={"messages": HELLO["messages"]}).count == 3
            assert [model.id for model in client.list_models().models] == ["tiny", "gpt-4o", "tiny-sql"]
            assert [pool.name for pool in client.pools().pools] == ["short", "long"]
            assert [replica.id for replica in client.replicas(pool="short").replicas] == ["short"]
            assert client.explain(chat=HELLO).replica == "short"
            client.drain(replica="short", for_s=60)
            assert client.replicas().replicas[0].state == admin_pb2.REPLICA_STATE_DRAINING
            client.drain(replica="short", undo=True)
            assert client.replicas().replicas[0].state == admin_pb2.REPLICA_STATE_READY

    async with cluster() as (gateway, engine):
        await asyncio.to_thread(use, gateway.grpc_address)
    assert engine.seen[0].body["max_completion_tokens"] == 9


async def test_a_stream_tells_where_it_came_from() -> None:
    def use(address: str) -> tuple[dict[str, str], list[Any]]:
        with Client(address) as client, client.chat_stream(**HELLO, request_id="mine") as stream:
            return stream.metadata, list(stream)

    async with cluster() as (gateway, _):
        metadata, messages = await asyncio.to_thread(use, gateway.grpc_address)
    assert (metadata["x-longreach-pool"], metadata["x-request-id"]) == ("short", "mine")
    assert metadata["x-longreach-reason"]
    assert text_of(messages) == "token0 token1 token2 token3 token4 "
    assert messages[-1].usage.completion_tokens == 5


async def test_the_asyncio_client_does_the_same() -> None:
    async with cluster() as (gateway, _), AsyncClient(gateway.grpc_address) as client:
        assert (await client.chat(**HELLO)).choices[0].message.content == "hi from engine"
        async with client.chat_stream(**HELLO) as stream:
            assert (await stream.metadata())["x-longreach-pool"] == "short"
            assert text_of([message async for message in stream]) == "token0 token1 token2 token3 token4 "
        with pytest.raises(GrpcCallError, match="'unknown' does not exist") as raised:
            await client.chat(**HELLO | {"model": "unknown"})
    assert (raised.value.code, raised.value.reason) == (grpc.StatusCode.NOT_FOUND, "MODEL_NOT_FOUND")


async def test_leaving_a_stream_aborts_its_engine() -> None:
    def use(address: str) -> None:
        with Client(address) as client:
            with client.chat_stream(**HELLO) as stream:
                next(stream)
            with pytest.raises(GrpcCallError, match="CANCELLED"):
                next(stream)

    async with cluster(tokens=10_000, token_delay_s=0.05) as (gateway, engine):
        await asyncio.to_thread(use, gateway.grpc_address)
        async with asyncio.timeout(AT_ONCE_S):
            await engine.aborted.wait()


async def test_a_cancelled_task_cancels_its_call() -> None:
    async with cluster(think_s=3600) as (gateway, engine), AsyncClient(gateway.grpc_address) as client:
        asking = asyncio.create_task(client.chat(**HELLO))
        async with asyncio.timeout(AT_ONCE_S):
            await engine.started.wait()
            asking.cancel()
            await engine.aborted.wait()
        with pytest.raises(asyncio.CancelledError):
            await asking


async def test_a_stream_closed_by_another_task_does_not_look_like_a_cancelled_one() -> None:
    async with cluster(think_s=3600) as (gateway, engine), AsyncClient(gateway.grpc_address) as client:
        stream = client.chat_stream(**HELLO)
        reading = asyncio.create_task(anext(stream))
        async with asyncio.timeout(AT_ONCE_S):
            await engine.started.wait()
            stream.close()
            with pytest.raises(GrpcCallError, match="CANCELLED: the stream was closed here"):
                await reading


@pytest.mark.parametrize("is_stream", [False, True])
async def test_tries_again_when_the_gateway_says_when(is_stream: bool) -> None:
    store = Leases()
    async with serve(FakeEngine()) as engine, running(store=store) as gateway:
        loop = asyncio.get_running_loop()

        def replica_comes() -> None:
            store.held.append(lease("short", engine.url))
            asyncio.run_coroutine_threadsafe(gateway.gateway.directory.refresh(), loop).result(AT_ONCE_S)

        waits = Waits(replica_comes)

        def use() -> str:
            with Client(gateway.grpc_address, sleep=waits, rng=random.Random(1)) as client:
                if not is_stream:
                    return str(client.chat(**HELLO).choices[0].message.content)
                with client.chat_stream(**HELLO) as stream:
                    return text_of(list(stream))

        assert await asyncio.to_thread(use) == (
            "token0 token1 token2 token3 token4 " if is_stream else "hi from engine"
        )
    (waited_s,) = waits.waited_s
    assert 5 <= waited_s <= 6


@pytest.mark.parametrize("is_stream", [False, True])
async def test_the_asyncio_client_tries_as_often_as_it_may(is_stream: bool) -> None:
    waits = Waits()
    async with running(store=Leases()) as gateway:
        retries = RetryPolicy(attempts=4)
        async with AsyncClient(gateway.grpc_address, retries=retries, sleep=waits.later) as client:
            with pytest.raises(GrpcCallError, match="UNAVAILABLE: No replica of"):
                await (anext(client.chat_stream(**HELLO)) if is_stream else client.chat(**HELLO))
    assert len(waits.waited_s) == 3


async def test_nothing_is_tried_again_after_a_streams_first_message() -> None:
    waits = Waits()

    def use(address: str) -> list[Any]:
        got = []
        with Client(address, sleep=waits) as client, pytest.raises(GrpcCallError, match="answer broke off") as raised:
            got.extend(client.chat_stream(**HELLO))
        assert raised.value.code is grpc.StatusCode.UNAVAILABLE
        assert raised.value.reason == "UPSTREAM_BROKEN"
        return got

    async with cluster(reset="mid-stream") as (gateway, engine):
        await asyncio.to_thread(use, gateway.grpc_address)
    assert waits.waited_s == []
    assert len(engine.seen) == 1


async def test_a_deadline_holds_and_is_not_tried_again() -> None:
    waits = Waits()

    def use(address: str) -> GrpcCallError:
        with Client(address, sleep=waits) as client, pytest.raises(GrpcCallError) as raised:
            client.chat(**HELLO, timeout_s=1, request_id="mine")
        return raised.value

    async with cluster(think_s=3600) as (gateway, engine):
        error = await asyncio.to_thread(use, gateway.grpc_address)
        async with asyncio.timeout(AT_ONCE_S):
            await engine.aborted.wait()
    assert (error.code, error.request_id) == (grpc.StatusCode.DEADLINE_EXCEEDED, "mine")
    assert waits.waited_s == []


async def test_a_wait_beyond_the_deadline_is_not_begun() -> None:
    waits = Waits()
    async with running(store=Leases()) as gateway, AsyncClient(gateway.grpc_address, sleep=waits.later) as client:
        with pytest.raises(GrpcCallError, match="UNAVAILABLE"):
            await client.chat(**HELLO, timeout_s=4)
    assert waits.waited_s == []


async def test_nobody_there() -> None:
    waits = Waits()
    async with AsyncClient("127.0.0.1:9", sleep=waits.later) as client:
        with pytest.raises(GrpcCallError, match="UNAVAILABLE") as raised:
            await client.list_models()
    assert raised.value.reason is None
    assert len(waits.waited_s) == 2


async def test_what_is_too_large_is_not_tried_again() -> None:
    waits = Waits()
    async with cluster() as (gateway, engine):
        async with AsyncClient(gateway.grpc_address, sleep=waits.later) as client:
            words = {"messages": [{"role": "user", "content": "word " * 1_200_000}]}
            with pytest.raises(GrpcCallError, match="INVALID_ARGUMENT: Your prompt has") as told:
                await client.chat(**HELLO | words)
        async with AsyncClient(gateway.grpc_address, sleep=waits.later, message_max_bytes=1000) as client:
            with pytest.raises(GrpcCallError, match="RESOURCE_EXHAUSTED"):
                await client.chat(**HELLO | words)
    assert told.value.violations[0].field == "messages"
    assert waits.waited_s == []
    assert engine.seen == []


async def test_answers_may_be_larger_than_grpc_would_take() -> None:
    async with serve(FakeEngine()) as engine:
        config = TWO_POOLS.replace("context_tokens: 4000", "context_tokens: 6000000")
        async with (
            running(config, store=leases_of(long=engine)) as gateway,
            AsyncClient(gateway.grpc_address) as client,
        ):
            answer = await client.tokenize(model="tiny", text="a " * 5_000_000)
    assert len(answer.token_ids) == 5_000_000


async def test_keys_and_roles(tmp_path: Path) -> None:
    path = tmp_path / "keys.yaml"
    key = KeySection(id="k", tenant="t", sha256=digest_of("right").hex(), created=dt.date(2026, 1, 1))
    save_keys(path, KeysFile(keys=[key]))
    config = TWO_POOLS + f'\ngateway: {{auth: {{keys_file: "{path}"}}}}\n'
    async with serve(FakeEngine()) as engine, running(config, store=leases_of(short=engine)) as gateway:
        for wrong in (None, "wrong"):
            async with AsyncClient(gateway.grpc_address, api_key=wrong) as client:
                with pytest.raises(GrpcCallError, match="API key") as raised:
                    await client.chat(**HELLO)
            assert raised.value.code is grpc.StatusCode.UNAUTHENTICATED
            assert raised.value.reason == "INVALID_API_KEY"
        async with AsyncClient(gateway.grpc_address, api_key="right") as client:
            assert (await client.chat(**HELLO)).usage.prompt_tokens == 3
            with pytest.raises(GrpcCallError, match="PERMISSION_DENIED"):
                await client.pools()


@pytest.fixture
def tls_files(tmp_path: Path) -> tuple[Path, Path]:
    """A certificate that vouches for itself, and its key."""
    cert, private = tmp_path / "cert.pem", tmp_path / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", private, "-out", cert, "-days", "1",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"],
        check=True, capture_output=True,
    )  # fmt: skip
    return cert, private


async def test_tls(tls_files: tuple[Path, Path]) -> None:
    cert, private = tls_files
    config = TWO_POOLS + f'\ngateway: {{tls: {{cert_file: "{cert}", key_file: "{private}"}}}}\n'
    async with running(config, store=Leases()) as gateway:
        address = gateway.grpc_address.replace("127.0.0.1", "localhost")
        async with AsyncClient(address, tls=Tls(root_file=cert), balancing="round_robin") as client:
            assert len((await client.list_models()).models) == 3
        async with AsyncClient(address, retries=RetryPolicy(attempts=1)) as client:
            with pytest.raises(GrpcCallError, match="UNAVAILABLE"):
                await client.list_models()
