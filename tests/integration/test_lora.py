"""A LoRA adapter from the configuration: asked for by its name, and it really changes the output."""

from __future__ import annotations

import json
import os
from pathlib import Path

import httpx
import pytest

from cluster.environment import read_environment
from cluster.models.hub import HubSettings
from cluster.models.store import ModelStore, default_root
from tests.cluster_harness import longreach
from tests.lora_adapter import write_adapter

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(600)]

CONFIG = """
cluster: {{name: lora, ray_port: 0, replica_port_min: 36000}}
models:
  - id: tiny
    lora:
      - {{name: tiny-harbour, path: {adapter}}}
pools:
  - {{name: only, model: tiny, context_tokens: 2048, engine: {{dtype: float32}}}}
gateway: {{port: 0}}
"""


def test_adapter_answers_under_its_name(tmp_path: Path) -> None:
    env = {**os.environ, "LONGREACH_STATE": str(tmp_path / "state")}
    environment = read_environment(env)
    store = ModelStore(default_root(environment.cache_home), settings=HubSettings())
    write_adapter(tmp_path / "adapter", store.pull("tiny"), seed=7)
    config = tmp_path / "lora.yaml"
    config.write_text(CONFIG.format(adapter=tmp_path / "adapter"), encoding="utf-8")
    up = longreach("up", "--config", str(config), "--no-question", "--json", env=env, timeout_s=400)
    try:
        assert up.returncode == 0, up.stderr
        with httpx.Client(base_url=json.loads(up.stdout)["url"], timeout=60) as http:
            listed = {model["id"]: model for model in http.get("/v1/models").json()["data"]}
            assert listed["tiny-harbour"]["parent"] == "tiny"
            texts = {}
            for model in ("tiny", "tiny-harbour"):
                body = {"model": model, "prompt": "The harbour", "max_tokens": 16, "temperature": 0}
                answer = http.post("/v1/completions", json=body)
                assert answer.status_code == 200, answer.text
                texts[model] = answer.json()["choices"][0]["text"]
            assert texts["tiny"] != texts["tiny-harbour"]
    finally:
        assert longreach("down", "--config", str(config), env=env).returncode == 0
