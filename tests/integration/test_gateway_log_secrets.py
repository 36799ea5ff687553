"""What a gateway process writes at its most talkative has no prompts, answers or secrets; its level changes."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import signal
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest

from cluster.config.keys import KeySection, KeysFile, digest_of, save_keys
from services.grpc.generated.longreach.v1 import chat_pb2, inference_pb2_grpc
from tests.cluster_harness import until
from tests.fake_engine import FakeEngine, serve
from tests.gateway_process import config_of, gateway_process

pytestmark = pytest.mark.integration

PROMPT, KEY, ENGINE_KEY, COOKIE = "my-private-prompt", "lr-client-secret", "engine-secret", "cookie-secret"
ANSWER = "hi from engine"


def configured(folder: Path, url: str) -> dict[str, Any]:
    key = KeySection(id="one", tenant="acme", sha256=digest_of(KEY).hex(), created=dt.datetime.now(dt.UTC).date())
    save_keys(folder / "keys.yaml", KeysFile(keys=[key]))
    config = config_of({"tiny": [url]}, limits={"request_s": 2})
    config["pools"][0]["endpoints"][0]["api_key_env"] = "ENGINE_KEY"
    config["gateway"]["auth"] = {"keys_file": str(folder / "keys.yaml")}
    config["telemetry"] = {
        "log_level": "debug",
        "log_format": "json",
        "traces": {"file": str(folder / "traces.jsonl"), "sampling_ratio": 1},
    }
    return config


def body(**more: Any) -> dict[str, Any]:
    return {"model": "tiny", "messages": [{"role": "user", "content": PROMPT}], **more}


async def test_no_prompt_answer_or_secret_is_in_log_or_trace(tmp_path: Path) -> None:
    engine = FakeEngine()
    async with (
        serve(engine),
        gateway_process(
            tmp_path, configured(tmp_path, engine.url), ENGINE_KEY=ENGINE_KEY, LONGREACH_STATE=str(tmp_path)
        ) as gateway,
        httpx.AsyncClient(base_url=gateway.url, timeout=20) as http,
        grpc.aio.insecure_channel(f"127.0.0.1:{gateway.grpc_port}") as channel,
    ):
        with_key = {"authorization": f"Bearer {KEY}", "cookie": COOKIE}
        chat = "/v1/chat/completions"
        assert (await http.post(chat, json=body(), headers=with_key)).status_code == 200
        assert (await http.post(chat, json=body(stream=True), headers=with_key)).status_code == 200
        assert (await http.post(chat, json=body(), headers={"x-api-key": f"{KEY}-wrong"})).status_code == 401
        assert (await http.post(chat, content=f'{{"messages": "{PROMPT}', headers=with_key)).status_code == 400
        assert (await http.post(chat, json=body(temperature=PROMPT), headers=with_key)).status_code == 400
        for fault in ({"status": 500}, {"reset": "before-head"}, {"reset": "mid-stream"}, {"hang": "mid-stream"}):
            engine.script.append(fault)
            with contextlib.suppress(httpx.HTTPError):
                await http.post(chat, json=body(stream=True), headers=with_key)
        message = chat_pb2.ChatMessage(role="user", content=PROMPT)
        stub = inference_pb2_grpc.InferenceStub(channel)
        request = chat_pb2.ChatRequest(model="tiny", messages=[message])
        assert (await stub.Chat(request, metadata=(("x-api-key", KEY),))).choices
        await gateway.logged('"api": "grpc"')
        traces = tmp_path / "traces.jsonl"
        await until(lambda: "rpc.system.name" in traces.read_text(), timeout_s=10, what="the last request's spans")
        text = gateway.log.read_text() + traces.read_text()
    assert text.count('"event": "request"') >= 9
    assert '"level": "DEBUG"' in text
    for private in (PROMPT, KEY, ENGINE_KEY, COOKIE, ANSWER):
        assert private not in text, private


async def test_the_level_changes_while_it_runs(tmp_path: Path) -> None:
    engine = FakeEngine()
    async with (
        serve(engine),
        gateway_process(tmp_path, config_of({"tiny": [engine.url]}), LONGREACH_STATE=str(tmp_path)) as gateway,
        httpx.AsyncClient(base_url=gateway.url, timeout=20) as http,
    ):
        quiet = {**json.loads(gateway.config.read_text()), "telemetry": {"log_level": "warning"}}
        await http.post("/v1/chat/completions", json=body(), headers={"x-request-id": "told"})
        await gateway.logged("request_id=told")
        gateway.config.write_text(json.dumps(quiet))
        gateway.process.send_signal(signal.SIGHUP)
        await gateway.logged("configuration reloaded")
        await http.post("/v1/chat/completions", json=body(), headers={"x-request-id": "untold"})
        loud = {**quiet, "telemetry": {"log_level": "debug"}}
        gateway.config.write_text(json.dumps(loud))
        gateway.process.send_signal(signal.SIGHUP)

        async def is_told() -> bool:
            await http.post("/v1/chat/completions", json=body(), headers={"x-request-id": "again"})
            return "request_id=again" in gateway.log.read_text()

        await until(is_told, timeout_s=10, what="lines of the new level")
        assert "request_id=untold" not in gateway.log.read_text()
