"""Which pools fit a machine; nothing here looks at this one."""

from __future__ import annotations

import dataclasses

import pytest

from cluster.config import Config, parse_config
from cluster.core.errors import SetupError
from cluster.engine.hardware import Hardware
from cluster.engine.plan import Accelerator
from cluster.engine.settings import replica_plan
from cluster.local.fit import (
    BASE_BYTES,
    ENGINE_BYTES,
    GIB,
    Machine,
    PoolNeed,
    cache_server_bytes,
    fit_pools,
    pool_need,
    without_pools,
)
from cluster.models.catalog import CATALOG

CONFIG = parse_config(
    """
models: [{id: demo}, {id: tiny}]
pools:
  - {name: long, model: demo, context_tokens: 32768}
  - {name: short, model: demo, context_tokens: 4096}
  - {name: other, model: tiny, context_tokens: 65536}
"""
)
CPU = Hardware(accelerator=Accelerator.CPU, cores=(0, 1), cpu_flags=frozenset({"avx2"}), memory_bytes=16 * GIB)


def needs(gib: float, gpus: int = 0) -> dict[str, PoolNeed]:
    return {pool.name: PoolNeed(pool=pool.name, memory_bytes=int(gib * GIB), gpus=gpus) for pool in CONFIG.pools}


def machine(gib: float, gpus: int = 0) -> Machine:
    return Machine(available_bytes=int(gib * GIB) + BASE_BYTES, gpus=gpus)


def names(fitted: tuple[PoolNeed, ...]) -> list[str]:
    return [need.pool for need in fitted]


def test_everything_fits() -> None:
    fit = fit_pools(needs(4), CONFIG, machine(12))
    assert names(fit.kept) == ["short", "long", "other"]
    assert fit.dropped == ()


def test_little_memory_keeps_the_shortest_pools() -> None:
    fit = fit_pools(needs(4), CONFIG, machine(7))
    assert names(fit.kept) == ["short"]
    assert names(fit.dropped) == ["long", "other"]
    reduced = without_pools(CONFIG, fit.dropped)
    assert [pool.name for pool in reduced.pools] == ["short"]
    assert [model.id for model in reduced.models] == ["demo"], "a model nobody serves goes too"
    Config.model_validate(reduced.model_dump(exclude_unset=True))


def test_too_little_memory_says_how_much_is_needed() -> None:
    with pytest.raises(SetupError, match=r"pool short needs about 5\.2 GiB of memory, 4\.2 GiB are available"):
        fit_pools(needs(4), CONFIG, machine(3))


def test_the_server_for_blocks_is_counted_once_with_the_first_pool_that_uses_it() -> None:
    wanting = {name: dataclasses.replace(need, uses_cache=name in {"long", "other"}) for name, need in needs(4).items()}
    server = cache_server_bytes(CONFIG)
    assert server >= GIB
    whole = fit_pools(wanting, CONFIG, machine(12 + server / GIB))
    assert names(whole.kept) == ["short", "long", "other"]
    assert (whole.cache_bytes, whole.needed_bytes) == (server, BASE_BYTES + 12 * GIB + server)
    assert names(fit_pools(wanting, CONFIG, machine(12)).dropped) == ["other"]
    without = fit_pools(wanting, CONFIG, machine(8))
    assert (names(without.kept), without.cache_bytes) == (["short"], 0), "no pool that uses it, no server"


def test_too_little_for_the_server_for_blocks_says_so() -> None:
    wanting = {name: dataclasses.replace(need, uses_cache=True) for name, need in needs(4).items()}
    with pytest.raises(SetupError, match=r"6\.3 GiB of memory \(1\.1 GiB of it for KV blocks") as raised:
        fit_pools(wanting, CONFIG, machine(4))
    assert "redis.cache_gib" in raised.value.remedy


def test_gpus_are_counted() -> None:
    fit = fit_pools(needs(1, gpus=1), CONFIG, machine(64, gpus=1))
    assert names(fit.kept) == ["short"]
    with pytest.raises(SetupError, match="needs 2 GPUs and this machine has 1"):
        fit_pools(needs(1, gpus=2), CONFIG, machine(64, gpus=1))


def test_a_replica_needs_weights_kv_and_an_engine() -> None:
    card = next(card for card in CATALOG if card.id == "demo")
    pool = CONFIG.pool("short")
    plan = replica_plan(CONFIG, pool, card=card, folder="/m", state_url=None, hardware=CPU)
    assert plan.dtype == "float32"
    need = pool_need(pool, plan, card)
    assert need.memory_bytes == 2 * card.weights_bytes + (plan.kv_cache_bytes or 0) + ENGINE_BYTES
    bf16 = dataclasses.replace(plan, dtype="auto")
    assert pool_need(pool, bf16, card).memory_bytes == need.memory_bytes - card.weights_bytes
