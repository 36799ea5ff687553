"""The examples of docs/grpc.md do what they say: those marked `runnable` run, in order, against a gateway."""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from cluster.config.gateway import GatewaySection
from tests.fake_engine import FakeEngine, serve
from tests.gateway_harness import Running, leases_of, running
from tests.node_project import DIRECT, node_project

pytestmark = pytest.mark.integration
ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "grpc.md").read_text(encoding="utf-8")
FENCE = re.compile(r"^```(?P<language>\w+)(?P<marks>[^\n]*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
ADDRESS = "127.0.0.1:8082"
"""Where the page says that a gateway serves gRPC."""
RUN_LIMIT_S = 60
CONFIG = """
models: [{id: tiny, aliases: [demo], output: {default_tokens: 100}}]
pools: [{name: long, model: tiny, context_tokens: 4000}]
gateway: {port: 0}
"""


@dataclass(frozen=True, slots=True)
class Block:
    """One fenced block of the page."""

    language: str
    marks: str
    text: str


BLOCKS = [Block(found["language"], found["marks"].strip(), found["text"]) for found in FENCE.finditer(PAGE)]


@pytest.fixture
async def gateway() -> AsyncIterator[Running]:
    async with (
        serve(FakeEngine(token_delay_s=0.02)) as engine,
        running(CONFIG, store=leases_of(long=engine)) as served,
    ):
        yield served


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder that looks like this checkout as far as the page's commands see it."""
    (tmp_path / ".venv").symlink_to(sys.prefix, target_is_directory=True)
    (tmp_path / "services").symlink_to(ROOT / "services", target_is_directory=True)
    return tmp_path


async def run(block: Block, folder: Path, gateway: Running) -> str:
    """What a block prints; it must end well."""
    text = block.text.replace(ADDRESS, gateway.grpc_address)
    match block.language:
        case "python":
            command = [sys.executable, "-c", text]
        case "sh":
            command = ["bash", "-euc", text]
        case "js":
            script = folder / "tests" / "node" / "example.js"
            script.write_text(text, encoding="utf-8")
            command = ["node", str(script)]
        case _:
            raise AssertionError(f"nothing runs {block.language}")
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=folder,
        env={**os.environ, **DIRECT, "PYTHONPATH": "stubs"},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(RUN_LIMIT_S):
            out, err = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, f"{text}\n{err.decode()}"
    return out.decode()


async def test_the_examples_in_python(checkout: Path, gateway: Running) -> None:
    told = [await run(block, checkout, gateway) for block in BLOCKS if block.marks == "runnable"]
    client, client_on_asyncio, compiled, streamed, refused, models = told
    assert client.splitlines()[0] == "hi from engine 0"
    assert "pool long" in client
    assert "token0 token1 token2 token3 token4" in client
    assert "INVALID_ARGUMENT INVALID_VALUE" in client
    assert client_on_asyncio.splitlines()[0].isdigit()
    assert "token0 token1" in client_on_asyncio
    assert compiled == ""
    assert streamed.splitlines()[0].split() == ["token0", "token1", "token2", "token3", "token4"]
    assert streamed.splitlines()[1:] == ["pool long", "tokens 5 5"]
    assert "StatusCode.INVALID_ARGUMENT" in refused
    assert all(name in refused for name in ("ErrorInfo", "RequestInfo", "BadRequest"))
    assert models.splitlines() == ["tiny 4000 ['long']", "demo 4000 ['long']"]


async def test_the_examples_in_node(checkout: Path, gateway: Running) -> None:
    folder = checkout / "tests" / "node"
    folder.mkdir(parents=True)
    node_project(folder)
    told = [await run(block, checkout, gateway) for block in BLOCKS if block.marks == "runnable-with-node"]
    by_reflection, streamed, several = told
    assert "token0" in by_reflection
    assert streamed.split() == ["token0", "token1", "token2", "token3", "token4"]
    assert json.loads(several).keys() == {"streamed", "whole", "left", "refused"}


def test_every_mark_is_known() -> None:
    assert {block.marks for block in BLOCKS} == {"", "runnable", "runnable-with-node"}


def test_settings_and_manifests_can_be_read() -> None:
    for block in BLOCKS:
        if block.language == "json":
            json.loads(block.text)
        elif block.language == "yaml":
            written = yaml.safe_load(block.text)
            if "gateway" in written:
                GatewaySection.model_validate(written["gateway"])
            else:
                assert written["kind"] in {"Service", "Deployment"}
