"""What `longreach status` shows of the servers beside the replicas, and of the KV tier."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from rich.console import Console

from cluster.cli.status_view import status_view
from cluster.config import parse_config
from cluster.core.lease import Lease, PoolName, ReplicaId, ReplicaState
from cluster.core.tier.terms import TierTerms
from cluster.local.observe import ClusterStatus, pool_statuses
from cluster.local.state_view import StateView

CONFIG = """
models: [{id: m}]
pools: [{name: p, model: m, context_tokens: 4096, engine: {redis_tier: {enabled: true}}}]
"""
TERMS = TierTerms(fingerprint="f" * 24, life_s=60, least_tokens=900, least_prompt_tokens=1536, cost_ratio=0.1)


def status(*, has_tier: bool = True, tier: dict[str, object] | None = None, cache: str = "ok") -> ClusterStatus:
    config = parse_config(CONFIG if has_tier else CONFIG.replace("true", "false"))
    lease = Lease(
        replica_id=ReplicaId("r1"),
        pool=PoolName("p"),
        model="m",
        url="http://127.0.0.1:1/p",
        state=ReplicaState.READY,
        context_tokens=4096,
        running=0,
        waiting=0,
        kv_use_ratio=0.0,
        step_age_s=0.0,
        tier=tier,
    )
    return ClusterStatus(
        cluster="c",
        phase="running",
        url="http://127.0.0.1:8080",
        grpc_url="grpc://127.0.0.1:8082",
        gateway_healthy=True,
        redis="ok",
        cache=cache,
        dropped_pools=(),
        pools=pool_statuses(config, StateView(leases=(lease,))),
        processes=(),
        run_dir="/run",
    )


def shown(what: ClusterStatus) -> str:
    console = Console(width=160, file=io.StringIO())
    console.print(status_view(what))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_a_replica_shows_from_where_on_it_fetches() -> None:
    assert "1,536 tokens" in shown(status(tier=TERMS.to_dict()))
    assert status(tier=TERMS.to_dict()).pools[0].replicas[0].tier == TERMS.to_dict()


@pytest.mark.parametrize("tier", [None, {}, {"least_tokens": "many"}])
def test_one_that_fetches_nothing_shows_that(tier: dict[str, object] | None) -> None:
    head, row = [line for line in shown(status(tier=tier)).splitlines() if "r1" in line or "fetch from" in line]
    assert "fetch from" in head
    assert row.rstrip().endswith("-")


def test_without_a_tier_nothing_of_it_is_shown() -> None:
    text = shown(status(has_tier=False, cache="none"))
    assert "fetch from" not in text
    assert "cache" not in text


def test_where_the_seconds_of_a_start_went_is_shown() -> None:
    (pool,) = status().pools
    (replica,) = pool.replicas
    started = replace(replica, phase="serving", start_s={"process": 4.0, "imports": 12.5})
    slower = replace(started, start_s={"process": 5.0, "imports": 12.5})
    still_starting = replace(started, phase="loading", start_s={"process": 50.0})
    text = shown(replace(status(), pools=(replace(pool, replicas=(started, slower, still_starting)),)))
    assert "p: started in 17.5 s: process 5.0, imports 12.5" in text
    assert "started in" not in shown(status())


def test_a_server_for_blocks_that_is_away_is_shown() -> None:
    assert "cache ok" in shown(status())
    assert "cache Connection refused" in shown(replace(status(), cache="Connection refused"))
