"""`python -m services.gateway` as its own process, alone in front of static endpoints: no Ray, no Redis."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
import textwrap
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import openai
import pytest

from tests.fake_engine import FakeEngine, serve

pytestmark = pytest.mark.integration

START_TIMEOUT_S = 30


@dataclass(slots=True, kw_only=True)
class GatewayProcess:
    """A gateway that listens."""

    process: asyncio.subprocess.Process
    url: str
    config: Path
    ready_file: Path
    log: Path

    async def logged(self, text: str) -> None:
        """Wait until the log has `text`."""
        async with asyncio.timeout(10):
            while text not in self.log.read_text():  # noqa: ASYNC110 - another process writes it
                await asyncio.sleep(0.02)


@asynccontextmanager
async def gateway_process(folder: Path, config: str, **env: str) -> AsyncIterator[GatewayProcess]:
    path, ready_file, log = folder / "longreach.yaml", folder / "ready.json", folder / "gateway.log"
    path.write_text(textwrap.dedent(config))
    arguments = ["-m", "services.gateway", "--config", str(path), "--ready-file", str(ready_file)]
    with log.open("wb") as stream:
        process = await asyncio.create_subprocess_exec(
            sys.executable, *arguments, stderr=stream, env={**os.environ, **env}
        )
    try:
        async with asyncio.timeout(START_TIMEOUT_S):
            while not ready_file.exists():
                assert process.returncode is None, log.read_text()
                await asyncio.sleep(0.02)
        told = json.loads(ready_file.read_text())
        assert told["pid"] == process.pid
        url = f"http://127.0.0.1:{told['port']}"
        yield GatewayProcess(process=process, url=url, config=path, ready_file=ready_file, log=log)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


def config_for(*urls: str, extra: str = "", context_tokens: int = 4000, default_tokens: int = 64) -> str:
    endpoints = "".join(f"      - {{url: '{url}', model: engine-model, api_key_env: ENGINE_KEY}}\n" for url in urls)
    return (
        "models:\n"
        f"  - {{id: m, aliases: [gpt-4o], output: {{default_tokens: {default_tokens}, max_tokens: 256}},"
        " sampling: {temperature: 0.7, top_k: 20}}\n"
        "pools:\n"
        f"  - name: static\n    model: m\n    context_tokens: {context_tokens}\n    endpoints:\n{endpoints}"
        f"gateway: {{port: 0, limits: {{drain_s: 10}}}}\n{extra}"
    )


async def test_the_body_is_rewritten_for_a_foreign_engine(tmp_path: Path) -> None:
    async with (
        serve(FakeEngine()) as engine,
        gateway_process(tmp_path, config_for(engine.url), ENGINE_KEY="k-1") as gateway,
        httpx.AsyncClient(base_url=gateway.url) as client,
    ):
        answer = await client.post(
            "/v1/chat/completions",
            json={
                "model": "gpt-4o",
                "messages": [{"role": "user", "content": "hi"}],
                "temperature": 0,
                "cache_salt": "other-tenant",
                "kv_transfer_params": {},
            },
            headers={"authorization": "Bearer clients-own"},
        )
    assert answer.status_code == 200
    assert answer.headers["x-longreach-replica"] == "static-static-0"
    body, headers = engine.seen[0].body, {key.lower(): value for key, value in engine.seen[0].headers.items()}
    assert body == {
        "model": "engine-model",
        "messages": [{"role": "user", "content": "hi"}],
        "temperature": 0,
        "max_completion_tokens": 64,
        "top_k": 20,
    }
    assert engine.seen[0].path == "/v1/chat/completions"
    assert headers["authorization"] == "Bearer k-1"
    assert not [name for name in headers if name.startswith("x-longreach-")]


async def test_the_openai_client_works_against_it(tmp_path: Path) -> None:
    async with (
        serve(FakeEngine(tokens=3)) as engine,
        gateway_process(tmp_path, config_for(engine.url)) as gateway,
        openai.AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key="none", max_retries=0) as client,
    ):
        whole = await client.chat.completions.create(model="m", messages=[{"role": "user", "content": "hi"}])
        stream = await client.chat.completions.create(
            model="m", messages=[{"role": "user", "content": "hi"}], stream=True
        )
        streamed = "".join([part.choices[0].delta.content or "" async for part in stream])
        models = [model.id async for model in await client.models.list()]
        with pytest.raises(openai.NotFoundError) as missing:
            await client.chat.completions.create(model="nope", messages=[{"role": "user", "content": "hi"}])
        with pytest.raises(openai.BadRequestError) as too_much:
            await client.chat.completions.create(model="m", messages=[{"role": "user", "content": "x"}], max_tokens=257)
        engine.reset = "mid-stream"
        broken = await client.chat.completions.create(
            model="m", messages=[{"role": "user", "content": "hi"}], stream=True
        )
        with pytest.raises(openai.APIError, match="not complete"):
            _ = [part async for part in broken]
    assert whole.choices[0].message.content == "hi from engine"
    assert streamed == "token0 token1 token2 "
    assert models == ["m", "gpt-4o"]
    assert missing.value.code == "model_not_found"
    assert (too_much.value.param, too_much.value.code) == ("max_tokens", "output_over_cap")
    assert "257" in str(too_much.value)
    assert "256" in str(too_much.value)


async def test_one_of_two_engines_down_and_back(tmp_path: Path) -> None:
    async with serve(FakeEngine(name="up")) as up, serve(FakeEngine(name="down")) as down:
        port = down.port
        async with (
            gateway_process(tmp_path, config_for(down.url, up.url)) as gateway,
            httpx.AsyncClient(base_url=gateway.url) as client,
        ):
            body = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
            assert (await client.get("/ready")).json()["pools"] == {"static": {"ready": 2}}
            assert down.stop is not None
            await down.stop()
            answers = [await client.post("/v1/chat/completions", json=body) for _ in range(10)]
            assert {answer.status_code for answer in answers} == {200}
            await gateway.logged("static endpoint down")
            assert (await client.get("/ready")).json()["pools"] == {"static": {"ready": 1, "suspect": 1}}
            async with serve(FakeEngine(name="back"), port=port):
                await gateway.logged("static endpoint up")
                assert (await client.get("/ready")).json()["pools"] == {"static": {"ready": 2}}


async def test_hup_reloads_and_a_broken_file_changes_nothing(tmp_path: Path) -> None:
    async with (
        serve(FakeEngine()) as engine,
        gateway_process(tmp_path, config_for(engine.url)) as gateway,
        httpx.AsyncClient(base_url=gateway.url) as client,
    ):
        body = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
        gateway.config.write_text("models: nonsense\n")
        gateway.process.send_signal(signal.SIGHUP)
        await gateway.logged("configuration not reloaded")
        await client.post("/v1/chat/completions", json=body)
        new = config_for(engine.url, context_tokens=100, default_tokens=8).replace("gpt-4o", "other-name")
        gateway.config.write_text(new.replace("port: 0", "port: 0, host: 127.0.0.2"))
        gateway.process.send_signal(signal.SIGHUP)
        await gateway.logged("configuration reloaded")
        await client.post("/v1/chat/completions", json=body)
        models = (await client.get("/v1/models")).json()["data"]
        await gateway.logged("these take effect after a restart of the gateway: gateway.host")
    assert [seen.body["max_completion_tokens"] for seen in engine.seen] == [64, 8]
    assert [(model["id"], model["max_model_len"]) for model in models] == [("m", 100), ("other-name", 100)]


async def test_term_drains(tmp_path: Path) -> None:
    async with (
        serve(FakeEngine(tokens=20, token_delay_s=0.1)) as engine,
        gateway_process(tmp_path, config_for(engine.url)) as gateway,
        httpx.AsyncClient(base_url=gateway.url, timeout=20) as client,
    ):
        body = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "stream": True}
        asking = asyncio.create_task(client.post("/v1/chat/completions", json=body))
        await asyncio.wait_for(engine.started.wait(), 5)
        gateway.process.send_signal(signal.SIGTERM)
        await gateway.logged("draining")
        ready = await client.get("/ready")
        answer = await asking
        status = await asyncio.wait_for(gateway.process.wait(), 5)
    assert (ready.status_code, ready.json()["status"]) == (503, "draining")
    assert answer.text.endswith("data: [DONE]\n\n")
    assert status == 0
    assert not gateway.ready_file.exists()


async def test_it_listens_on_loopback_only_and_says_when_a_port_is_taken(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        path = tmp_path / "c.yaml"
        path.write_text(config_for("http://127.0.0.1:9").replace("port: 0", f"port: {port}"))
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "services.gateway", "--config", str(path), stderr=asyncio.subprocess.PIPE
        )
        _, errors = await asyncio.wait_for(process.communicate(), START_TIMEOUT_S)
    assert process.returncode == 2
    assert f"cannot listen on 127.0.0.1:{port}" in errors.decode()


async def test_a_broken_configuration_names_line_and_field(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("models:\n  - {id: m}\npools:\n  - {name: p, model: m, context_tokens: many}\n")
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "services.gateway", "--config", str(path), stderr=asyncio.subprocess.PIPE
    )
    _, errors = await asyncio.wait_for(process.communicate(), START_TIMEOUT_S)
    assert process.returncode == 2
    assert f"{path}:4: pools[0].context_tokens" in errors.decode()
