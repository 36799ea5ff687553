"""Clients of the gRPC API against a real cluster: Node's stock tools, the Python client, the command line."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from services.grpc.client import AsyncClient, Client
from tests.cluster_harness import CONFIG, Cluster, longreach, settled
from tests.node_project import node_project

pytestmark = pytest.mark.integration

HELLO = [{"role": "user", "content": "Say hello."}]


async def test_node_streams_a_chat(cluster: Cluster, tmp_path: Path) -> None:
    await settled(cluster, "short", "long")
    project = await asyncio.to_thread(node_project, tmp_path)
    told = await project.chat(cluster.grpc_address, model="tiny")
    assert told["streamed"]["text"]
    assert told["streamed"]["route"]["x-longreach-pool"] in {"short", "long"}
    assert told["left"]["code"] == "CANCELLED"
    assert told["refused"]["code"] == "INVALID_ARGUMENT"
    generated = await project.chat_generated(cluster.grpc_address, model="tiny")
    assert generated["text"]
    assert generated["usage"]["completion_tokens"] <= 24


async def test_the_python_client(cluster: Cluster) -> None:
    await settled(cluster, "short", "long")
    async with AsyncClient(cluster.grpc_address) as client:
        whole = await client.chat(model="tiny", messages=HELLO, max_completion_tokens=12, temperature=0.0)
        stream = client.chat_stream(model="tiny", messages=HELLO, max_completion_tokens=12, temperature=0.0)
        text = "".join([delta.content async for message in stream for delta in message.deltas])
        count = await client.count_tokens(model="tiny", text="How long is this?")
    assert text == whole.choices[0].message.content
    assert whole.usage.completion_tokens == 12
    assert count.count > 2

    def blocking() -> str:
        with Client(cluster.grpc_address) as client:
            answer = client.chat(model="tiny", messages=HELLO, max_completion_tokens=12, temperature=0.0)
            return answer.choices[0].message.content

    assert await asyncio.to_thread(blocking) == text


async def test_the_command_line(cluster: Cluster) -> None:
    await settled(cluster, "short", "long")
    asked = ["chat", "Say hello.", "--config", str(CONFIG), "--max-tokens", "8", "--model", "tiny", "--json"]
    by_grpc = await asyncio.to_thread(longreach, *asked, "--grpc", env=cluster.env)
    assert by_grpc.returncode == 0, by_grpc.stderr
    told = json.loads(by_grpc.stdout)
    assert told["output_tokens"] == 8
    assert told["pool"] in {"short", "long"}
    replica = (await cluster.leases())["short"].replica_id
    drain = await asyncio.to_thread(longreach, "drain", replica, "--config", str(CONFIG), env=cluster.env)
    try:
        assert drain.returncode == 0, drain.stderr
        elsewhere = await asyncio.to_thread(longreach, *asked, env=cluster.env)
        assert json.loads(elsewhere.stdout)["pool"] == "long"
        status = await asyncio.to_thread(longreach, "status", "--config", str(CONFIG), env=cluster.env)
        assert "drained" in status.stdout
    finally:
        undo = await asyncio.to_thread(longreach, "drain", replica, "--undo", "--config", str(CONFIG), env=cluster.env)
        assert undo.returncode == 0, undo.stderr
