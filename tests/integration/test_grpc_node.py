"""Clients in Node, made of stock packages, against a gateway: what is generated from the .proto files works there."""

from __future__ import annotations

import asyncio
import hashlib
from collections import deque
from pathlib import Path

import pytest

from tests.fake_engine import FakeEngine, serve
from tests.gateway_harness import leases_of, running
from tests.node_project import NodeProject, node_project

pytestmark = pytest.mark.integration
KEY = "lr-" + "7" * 43
POOL = """\
models: [{id: tiny, aliases: [demo], output: {default_tokens: 100}}]
pools: [{name: long, model: tiny, context_tokens: 4000}]
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> NodeProject:
    return node_project(tmp_path_factory.mktemp("node"))


@pytest.fixture
def config(tmp_path: Path) -> str:
    """A pool behind one key."""
    keys = tmp_path / "keys.yaml"
    digest = hashlib.sha256(KEY.encode()).hexdigest()
    keys.write_text(f"keys: [{{id: key-node, tenant: acme, role: client, sha256: {digest}, created: 2026-11-03}}]\n")
    keys.chmod(0o600)
    return f"{POOL}gateway: {{port: 0, auth: {{keys_file: {keys}}}}}\n"


async def test_a_client_made_at_run_time(project: NodeProject, config: str) -> None:
    """@grpc/proto-loader reads the .proto files, @grpc/grpc-js calls."""
    slow, endless = {"token_delay_s": 0.05}, {"tokens": 10_000, "token_delay_s": 0.01}
    fake = FakeEngine(cached_tokens=2, script=deque([slow, {}, endless]))
    async with serve(fake) as engine, running(config, store=leases_of(long=engine)) as gateway:
        found = await project.chat(gateway.grpc_address, model="demo", key=KEY)
        async with asyncio.timeout(10):
            await engine.aborted.wait()

    usage = {"prompt_tokens": 8, "completion_tokens": 5, "total_tokens": 13, "cached_tokens": 2}
    streamed = found["streamed"]
    assert streamed["text"] == "token0 token1 token2 token3 token4 "
    assert streamed["usage"] == usage
    assert streamed["messages"] >= 3  # not gathered: it came as it was generated
    assert streamed["route"]["x-longreach-pool"] == "long"
    assert streamed["route"]["x-longreach-replica"] == "long"
    assert found["whole"] == {"text": "hi from engine", "finish_reason": "FINISH_REASON_STOP", "usage": usage}
    assert found["left"]["code"] == "CANCELLED"
    refused = found["refused"]
    assert refused["code"] == "INVALID_ARGUMENT"
    details = {detail.pop("type"): detail for detail in refused["details"]}
    assert details["google.rpc.ErrorInfo"]["reason"] == "INVALID_VALUE"
    assert details["google.rpc.ErrorInfo"]["domain"] == "longreach"
    assert details["google.rpc.RequestInfo"]["request_id"].startswith("req-")
    (violation,) = details["google.rpc.BadRequest"]["field_violations"]
    assert (violation["field"], violation["description"]) == ("temperature", refused["message"])


async def test_a_client_generated_beforehand(project: NodeProject, config: str) -> None:
    """protoc-gen-es writes the messages, Connect's own implementation of gRPC calls."""
    async with serve(FakeEngine()) as engine, running(config, store=leases_of(long=engine)) as gateway:
        found = await project.chat_generated(gateway.grpc_address, model="tiny", key=KEY)
    assert found["text"] == "token0 token1 token2 token3 token4 "
    assert found["usage"] == {"prompt_tokens": 8, "completion_tokens": 5}


async def test_a_client_without_a_key_is_told_so(project: NodeProject, config: str) -> None:
    async with serve(FakeEngine()) as engine, running(config, store=leases_of(long=engine)) as gateway:
        with pytest.raises(AssertionError, match="16 UNAUTHENTICATED: The request carries no API key"):
            await project.chat(gateway.grpc_address, model="tiny")
    assert engine.seen == []
