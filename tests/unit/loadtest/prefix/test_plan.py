"""Which clusters a plan takes, and the configuration they are started with."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from cluster.config import Config, parse_config
from loadtest.prefix.configuration import POOL, REPLICAS, ClusterShape, configuration
from loadtest.prefix.plan import Part, Plan, Tier


def stages(part: Part, tier: Tier, *shares: float) -> list[tuple[bool, float | None]]:
    plan = Plan(part=part, tier=tier, cache_shares=shares or (0.6,))
    return [(stage.with_tier, stage.cache_share) for stage in plan.stages()]


def test_no_cluster_is_started_twice() -> None:
    assert stages(Part.TTFT, Tier.BOTH) == [(True, None)]
    assert stages(Part.ROUTING, Tier.OFF) == [(False, 0.6)]
    assert stages(Part.ROUTING, Tier.BOTH, 0.6, 2.0) == [(True, 0.6), (True, 2.0), (False, 0.6), (False, 2.0)]
    assert stages(Part.ALL, Tier.BOTH) == [(True, 0.6), (False, 0.6)]
    # The first part needs the tier, whatever the second one leaves out.
    assert stages(Part.ALL, Tier.OFF) == [(True, None), (False, 0.6)]


def config_of(*, with_tier: bool, cache_tokens: int = 9_000) -> Config:
    shape = ClusterShape(
        model="demo",
        dtype="auto",
        context_tokens=3_100,
        cache_tokens=cache_tokens,
        kv_bytes_per_token=12_288,
        with_tier=with_tier,
    )
    data = configuration(shape, keys_file=Path("/keys.yaml"), port_min=40_000)
    return parse_config(yaml.safe_dump(data))


@pytest.mark.parametrize("with_tier", [True, False])
def test_the_configuration_has_no_mistakes(with_tier: bool) -> None:
    config = config_of(with_tier=with_tier)
    pool = config.pool(POOL)
    assert pool.context_tokens == 4_096
    assert pool.replicas.min == REPLICAS
    assert pool.engine.redis_tier.enabled is with_tier
    assert config.cluster.name != "local"
    assert config.gateway.port == config.cluster.ray_port == 0
    assert pool.engine.kv_cache_gib == pytest.approx(9_000 * 12_288 / 2**30, rel=1e-4)


@pytest.mark.parametrize("cache_tokens", [100, 4_096])
def test_the_cache_holds_one_context_and_the_engines_own_block_at_least(cache_tokens: int) -> None:
    pool = config_of(with_tier=False, cache_tokens=cache_tokens).pool(POOL)
    assert pool.engine.kv_cache_gib is not None
    assert pool.engine.kv_cache_gib * 2**30 >= (4_096 + 128) * 12_288
