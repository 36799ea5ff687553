"""The bench of gRPC streams, end to end: its load client, its bare server, and one quick comparison. Never a timing."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from cluster.core.errors import SetupError
from cluster.sockets import free_port
from loadtest.bench import native
from loadtest.bench.bare_grpc import METHOD, SERVICE
from loadtest.bench.grpc_results import HEADLINES
from loadtest.bench.grpc_streams import TOKENS, bare_server
from loadtest.bench.load import GrpcCall, GrpcLoadClient, LoadFailedError
from loadtest.bench.machine import pick_cores
from loadtest.bench.routers import Place, Serving
from services.grpc.generated.longreach.v1 import chat_pb2

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]
PATH = f"/{SERVICE}/{METHOD}"


@pytest.fixture(scope="module")
def load(tmp_path_factory: pytest.TempPathFactory) -> GrpcLoadClient:
    try:
        native.find_compiler()
    except SetupError as error:
        pytest.skip(error.problem)
    programs = native.build(tmp_path_factory.mktemp("native"))
    return GrpcLoadClient(program=programs.grpc_load, core=pick_cores().load, api_key="lr-x")


@pytest.fixture
def bare(tmp_path: Path) -> Iterator[Serving]:
    place = Place(folder=tmp_path, core=pick_cores().router, engine_urls=(), state_url="", api_key="lr-x", variables={})
    with bare_server(place, itl_ms=0.0) as serving:
        yield serving


def call_of(folder: Path, *, path: str = PATH, chunks: int = TOKENS, content: str = "Say hi.") -> GrpcCall:
    message = folder / "request.bin"
    request = chat_pb2.ChatRequest(model="fake", messages=[chat_pb2.ChatMessage(role="user", content=content)])
    message.write_bytes(request.SerializeToString())
    return GrpcCall(path=path, message=message, chunks=chunks)


@asynccontextmanager
async def answering(contents: list[str], asked: dict[str, float]) -> AsyncIterator[int]:
    """A server whose every stream has these texts, each in a message of its own; it notes what is asked, and when."""

    async def stream(request: chat_pb2.ChatRequest, context: Any) -> None:
        asked[request.messages[0].content] = time.monotonic()
        for content in contents:
            await context.write(chat_pb2.ChatStreamResponse(deltas=[chat_pb2.ChatDelta(content=content)]))

    server = grpc.aio.server()
    handler = grpc.unary_stream_rpc_method_handler(
        stream,
        request_deserializer=chat_pb2.ChatRequest.FromString,
        response_serializer=chat_pb2.ChatStreamResponse.SerializeToString,
    )
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, {METHOD: handler}),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield port
    finally:
        await server.stop(None)


def test_the_load_client_counts_calls_tokens_and_messages(load: GrpcLoadClient, bare: Serving, tmp_path: Path) -> None:
    result = load.run(bare.port, call_of(tmp_path), connections=2, streams=3, seconds=0.3)
    assert (result.bad, result.status) == (0, {200: result.good})
    assert result.good >= 6
    assert result.chunks == result.good * TOKENS
    assert result.messages == result.good * (TOKENS + 1)
    assert result.ttft.p50_ms > 0
    # The same answers are too short for who expects more.
    result = load.run(bare.port, call_of(tmp_path, chunks=TOKENS + 1), connections=1, streams=1, seconds=0.1)
    assert result.good == 0
    assert result.bad > 0


def test_a_status_that_is_not_ok_is_bad(load: GrpcLoadClient, bare: Serving, tmp_path: Path) -> None:
    call = call_of(tmp_path, path=f"/{SERVICE}/NoSuchMethod")
    result = load.run(bare.port, call, connections=1, streams=1, seconds=0.1)
    assert result.good == 0
    assert result.status == {grpc.StatusCode.UNIMPLEMENTED.value[0]: result.bad}


async def test_tokens_that_travel_together_are_all_counted(load: GrpcLoadClient, tmp_path: Path) -> None:
    asked: dict[str, float] = {}
    # 64 bytes: this length is written in front of the text as the byte `@`, with which a stamp begins.
    async with answering(["@1234567890123@ " * 4, "@1@", "", "no stamp: @ @x@"], asked) as port:
        call = call_of(tmp_path, chunks=5, content="#00000000# hi")
        result = await asyncio.to_thread(load.run, port, call, connections=1, streams=2, seconds=0.2)
    assert (result.bad, result.chunks, result.messages) == (0, result.good * 5, result.good * 4)
    assert len(asked) == result.good
    assert all(text.startswith("#") and text.endswith("# hi") for text in asked)


async def test_streams_begin_one_after_the_other(load: GrpcLoadClient, tmp_path: Path) -> None:
    asked: dict[str, float] = {}
    async with answering(["@1@"], asked) as port:
        call = call_of(tmp_path, chunks=1, content="#00000000#")
        result = await asyncio.to_thread(load.run, port, call, connections=1, streams=4, seconds=0.01, spread_s=0.4)
    assert (result.good, result.bad) == (len(asked), 0)
    assert len(asked) >= 4
    # The fourth is due after 0.3 s, and none before its time.
    assert max(asked.values()) - min(asked.values()) > 0.2


def test_the_load_client_says_when_nothing_listens(load: GrpcLoadClient, tmp_path: Path) -> None:
    with pytest.raises(LoadFailedError, match="cannot connect"):
        load.run(free_port(), call_of(tmp_path), connections=1, streams=1, seconds=1.0)


def test_a_quick_comparison_runs_from_end_to_end() -> None:
    command = [sys.executable, "-m", "cluster.cli", "bench", "grpc", "--quick", "--json", "-"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    rows = {row["name"]: row for row in json.loads(result.stdout)}
    assert rows.keys() == {f"{side}{kind}" for side in ("bare", "longreach") for kind in ("", "-full", "-paced")}
    for row in rows.values():
        assert all(isinstance(row[key], float) for key in HEADLINES), row
        assert (row["failed"], row["why"], set(row["status"])) == (0, None, {"200"})
    assert isinstance(rows["longreach-paced"]["added_ttft_p50_ms"], float)
