"""The same questions to real engines in fp32: cached or not, pooled or not, beside a load or not, token for token."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from cluster.local.credential import with_credential
from cluster.local.rundir import RunDir
from tests.cluster_harness import CONFIG, Cluster
from tests.gateway_process import gateway_process
from tests.quality_runs import quality

pytestmark = [pytest.mark.integration, pytest.mark.slow]

SET = ("--lengths", "600,5000", "--depths", "0,90", "--load-concurrency", "3", "--config", str(CONFIG), "--json", "-")
"""Both pools have some; the random model says 32 tokens to each."""
QUESTIONS = 2 * 2 * 4 * 2


async def verdict(cluster: Cluster, *arguments: str) -> Mapping[str, Any]:
    code, out, errors = await quality(*SET, *arguments, env=cluster.env, timeout_s=600)
    assert code == 0, out + errors
    told: Mapping[str, Any] = json.loads(out)
    return told


def is_equal(told: Mapping[str, Any]) -> bool:
    """Whether every comparison was one of tokens, and found no difference."""
    assert told["arguments"]["exact"], "the configuration says fp32"
    return all(
        one["by_tokens"] and one["equal"] == QUESTIONS and not one["splits"] and not one["unanswered"]
        for one in told["comparisons"]
    )


def single_pool(cluster: Cluster) -> dict[str, Any]:
    """The cluster's configuration with its largest pool alone, for a second gateway in front of the same replicas."""
    config: dict[str, Any] = yaml.safe_load(RunDir(root=cluster.run_dir).config.read_text(encoding="utf-8"))
    config["pools"] = [pool for pool in config["pools"] if pool["name"] == "long"]
    config["models"] = [model for model in config["models"] if model["id"] == "tiny"]
    config["gateway"] = {"port": 0, "admin": {"port": 0}, "grpc": {"enabled": False}}
    del config["telemetry"]
    return config


async def test_cached_and_single_answers_are_the_same(cluster: Cluster, tmp_path: Path) -> None:
    where = RunDir(root=cluster.run_dir)
    env = with_credential({}, where.credential.read_text(encoding="utf-8").strip())
    async with gateway_process(tmp_path, single_pool(cluster), "--deployment", str(where.deployment), **env) as single:
        told = await verdict(cluster, "--conditions", "uncached,cached,single", "--single-url", single.url)
    assert is_equal(told)
    conditions = told["conditions"]
    assert conditions["uncached"]["pools"] == ["long", "short"]
    assert conditions["uncached"]["cached_ratio"] < 0.05
    assert conditions["cached"]["cached_ratio"] > 0.9
    assert (conditions["single"]["pools"], len(conditions["single"]["replicas"])) == (["long"], 1)


@pytest.mark.parametrize("api", ["rest", "grpc"])
async def test_answers_beside_a_load_are_the_same(cluster: Cluster, api: str) -> None:
    """Both what is computed beside a load, and what is fetched from the cache beside one."""
    more = ["--grpc"] if api == "grpc" else []
    assert is_equal(await verdict(cluster, *more, "--conditions", "loaded,cached"))
    assert is_equal(await verdict(cluster, *more, "--conditions", "uncached,loaded"))
