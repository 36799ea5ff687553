"""`longreach chat --grpc` and `longreach drain`, against a gateway in front of a fake engine."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from cluster.cli.app import app
from cluster.local.client import ChatAnswer
from cluster.local.grpc_client import GrpcGatewayClient
from tests.fake_engine import FakeEngine, serve
from tests.gateway_harness import TWO_POOLS, Leases, Running, leases_of, running

ROOT = Path(__file__).parents[2]
AT_ONCE_S = 5.0
PROCESS_START_S = 30.0
"""Two seconds when the machine is idle."""


async def longreach(*arguments: str) -> Result:
    """The command, in a thread: the gateway serves meanwhile."""
    return await asyncio.to_thread(CliRunner().invoke, app, arguments)


IMPATIENT = TWO_POOLS + "gateway: {limits: {queue_s: 0.2}}\n"
"""Nobody waits long for another replica: there is none."""


@asynccontextmanager
async def cluster(**fields: Any) -> AsyncIterator[tuple[Running, FakeEngine, Leases]]:
    """A gateway in front of one replica, named `short`."""
    engine = FakeEngine(**fields)
    async with serve(engine):
        store = leases_of(short=engine)
        async with running(IMPATIENT, store=store) as gateway:
            yield gateway, engine, store


async def test_chat_streams_over_grpc() -> None:
    async with cluster(cached_tokens=1) as (gateway, engine, _):
        done = await longreach("chat", "one two", "--grpc", "--url", gateway.grpc_address, "--max-tokens", "7")
    assert done.exit_code == 0, done.output
    assert done.stdout == "token0 token1 token2 token3 token4 \n"
    assert "pool short · replica short" in done.stderr
    assert "prompt 2 tokens, 1 of them from cache" in done.stderr
    assert engine.seen[-1].body["max_completion_tokens"] == 7


async def test_chat_over_grpc_says_the_same_as_over_http(tmp_path: Path) -> None:
    document = tmp_path / "document.txt"
    document.write_text("some words", encoding="utf-8")
    ask = ("chat", "one two", "--json", "--file", str(document), "--system", "Be brief.")
    async with cluster() as (gateway, _, _):
        over_grpc = await longreach(*ask, "--grpc", "--url", f"grpc://{gateway.grpc_address}/")
        over_http = await longreach(*ask, "--url", gateway.url)
    assert over_grpc.exit_code == 0, over_grpc.output
    told, before = json.loads(over_grpc.stdout), json.loads(over_http.stdout)
    assert told.keys() == before.keys()
    assert [told["text"], told["pool"], told["prompt_tokens"]] == [
        before["text"], before["pool"], before["prompt_tokens"]
    ]  # fmt: skip
    assert 0 < told["ttft_s"] <= told["total_s"]
    assert over_grpc.stderr == over_http.stderr, "the document's length"


async def test_ctrl_c_cancels_the_answer() -> None:
    async with cluster(tokens=10_000, token_delay_s=0.05) as (gateway, engine, _):
        arguments = ("-m", "cluster.cli", "chat", "hi", "--grpc", "--url", gateway.grpc_address)
        process = await asyncio.create_subprocess_exec(
            sys.executable, *arguments, cwd=ROOT, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
        assert process.stdout is not None
        async with asyncio.timeout(PROCESS_START_S):
            assert await process.stdout.read(7) == b"token0 "
            process.send_signal(signal.SIGINT)
            await engine.aborted.wait()
            _, stderr = await process.communicate()
    assert b"Traceback" not in stderr
    assert process.returncode != 0


async def test_an_answer_that_is_left_is_cancelled_and_the_conversation_goes_on() -> None:
    def begin(client: GrpcGatewayClient) -> tuple[str, ChatAnswer]:
        # Kept, so that nothing but leaving the context ends it.
        with client.chat([{"role": "user", "content": "hi"}], model="tiny") as answer:
            return next(iter(answer)), answer

    async with cluster(tokens=10_000, token_delay_s=0.05) as (gateway, engine, _):
        client = GrpcGatewayClient(gateway.grpc_address)
        with contextlib.closing(client):
            piece, _kept = await asyncio.to_thread(begin, client)
            async with asyncio.timeout(AT_ONCE_S):
                await engine.aborted.wait()
            assert await asyncio.to_thread(client.default_model) == "tiny"
    assert piece.startswith("token0 ")


async def test_refusals_are_one_clear_message() -> None:
    async with cluster() as (gateway, _, _):
        where = ("--grpc", "--url", gateway.grpc_address)
        unknown = await longreach("chat", "hi", *where, "--model", "unknown")
        long = await longreach("chat", "word " * 50_000, *where)
    assert unknown.exit_code == long.exit_code == 1
    assert "the gateway answered NOT_FOUND: The model 'unknown' does not exist." in unknown.stderr
    assert "the gateway answered INVALID_ARGUMENT: Your prompt has" in long.stderr


async def test_an_answer_that_breaks_off_is_not_passed_off_as_complete() -> None:
    async with cluster(reset="mid-stream") as (gateway, _, _):
        done = await longreach("chat", "hi", "--grpc", "--url", gateway.grpc_address, "--json")
    assert done.exit_code == 1
    assert "the answer broke off: UNAVAILABLE" in done.stderr
    assert done.stdout == ""


async def test_drain_and_undo() -> None:
    async with cluster() as (gateway, _, store):
        where = ("--url", gateway.grpc_address)
        drained = await longreach("drain", "short", *where, "--for-s", "60")
        assert store.held[0].is_drained
        undone = await longreach("drain", "short", *where, "--undo", "--json")
        assert not store.held[0].is_drained
        unknown = await longreach("drain", "nobody", *where)
    assert drained.exit_code == 0, drained.output
    assert drained.stdout == "Replica short gets no new requests for 60 s; it has 0 to finish\n"
    assert json.loads(undone.stdout) == {"replica": "short", "is_drained": False, "unfinished": 0}
    assert unknown.exit_code == 1
    assert "the gateway answered NOT_FOUND: There is no replica 'nobody' here." in unknown.stderr


async def test_a_drain_needs_the_key_of_an_administrator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = tmp_path / "keys.yaml"
    made = {
        role: json.loads(
            (await longreach("keys", "create", "-t", "t", "--role", role, "--file", str(keys), "--json")).stdout
        )["key"]
        for role in ("client", "admin")
    }
    config = f"""
    models: [{{id: tiny}}]
    pools: [{{name: short, model: tiny, context_tokens: 1000}}]
    gateway: {{auth: {{keys_file: "{keys}"}}}}
    """
    async with serve(FakeEngine()) as engine, running(config, store=leases_of(short=engine)) as gateway:
        said = {}
        for role, key in {"nobody": "", **made}.items():
            monkeypatch.setenv("LONGREACH_API_KEY", key)
            said[role] = await longreach("drain", "short", "--url", gateway.grpc_address)
    assert "the gateway answered UNAUTHENTICATED: The request carries no API key" in said["nobody"].stderr
    assert "the gateway answered PERMISSION_DENIED: This API key has the role client" in said["client"].stderr
    assert said["admin"].exit_code == 0, said["admin"].output
