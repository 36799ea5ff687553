from __future__ import annotations

import pytest

from cluster.config import parse_config
from cluster.core.errors import SetupError
from cluster.gpus import find_gpu
from cluster.models.card import ModelCard
from cluster.models.catalog import find
from cluster.simulator.configured import Speed, configured_cluster, default_cluster

MODEL = "qwen3-4b-instruct-2507"
CONFIG = f"""
models: [{{id: {MODEL}, output: {{default_tokens: 300}}}}]
pools:
  - {{name: short, model: {MODEL}, context_tokens: 16384, replicas: {{min: 2, max: 5}}, engine: {{max_running: 64}}}}
  - {{name: long, model: {MODEL}, context_tokens: 131072, tensor_parallel: 2, engine: {{max_queued: 7}}}}
  - {{name: static, model: {MODEL}, context_tokens: 4096, endpoints: [{{url: "http://localhost:1"}}]}}
gateway:
  routing: {{policy: prefix, reserve_ratio: 0.5}}
  limits: {{queue_s: 3}}
"""


def card() -> ModelCard:
    found = find(MODEL)
    assert found is not None
    return found


def test_a_configuration_becomes_its_pools() -> None:
    cluster = configured_cluster(
        parse_config(CONFIG), card(), Speed(gpu=find_gpu("H100"), overhead_s=0.01, startup_s=9.0)
    )
    short, long = cluster.pools
    assert (short.name, short.context_tokens, short.replicas, short.gpus) == ("short", 16_384, 2, 1)
    assert (long.name, long.gpus, long.replica.max_queued) == ("long", 2, 7)
    assert short.target is not None
    assert (short.target.max_replicas, long.target) == (5, None)
    assert (short.replica.max_running, short.replica.entry_s, short.startup_s) == (64, 0.01, 9.0)
    assert long.replica.kv_tokens > short.replica.kv_tokens
    assert long.replica.cost.token_s < short.replica.cost.token_s
    assert (cluster.gateway.policy, cluster.gateway.queue_s, cluster.gateway.reserve_ratio) == ("prefix", 3, 0.5)
    assert cluster.gateway.default_output_tokens == 300
    assert cluster.autoscale_every_s is not None


def test_boundaries_follow_where_the_configuration_says() -> None:
    speed = Speed(gpu=find_gpu("H100"))
    assert not configured_cluster(parse_config(CONFIG), card(), speed).gateway.is_adaptive
    adaptive = CONFIG.replace("policy: prefix", "boundary: adaptive")
    assert configured_cluster(parse_config(adaptive), card(), speed).gateway.is_adaptive


def test_what_does_not_fit_is_refused_with_a_remedy() -> None:
    with pytest.raises(SetupError, match=r"pool long: .* fewer than context_tokens 131,072"):
        configured_cluster(parse_config(CONFIG), card(), Speed(gpu=find_gpu("T4")))


def test_the_default_is_eight_cards_in_two_pools() -> None:
    cluster = default_cluster(card(), Speed(gpu=find_gpu("H100")))
    assert [(pool.name, pool.context_tokens, pool.replicas) for pool in cluster.pools] == [
        ("short", 32_768, 6),
        ("long", 262_144, 2),
    ]
    assert all(pool.replica.kv_tokens >= pool.context_tokens for pool in cluster.pools)
