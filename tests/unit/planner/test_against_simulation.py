"""Plans in the simulator, which runs the production gateway's core: the level is kept in every band of lengths.

Both take the same cost of a step, so this is about the queueing estimate, not about speeds.
"""

from __future__ import annotations

import random
from collections import defaultdict
from typing import Any

import pytest

from cluster.core.autoscaling import ServiceLevel
from cluster.core.capacity.level import MET_RATIO, allowed_s
from cluster.core.capacity.load import OfferedLoad
from cluster.models.catalog import find
from cluster.planner.layout import Layout
from cluster.planner.plan import Question, make_plan, parse_gpus
from cluster.planner.workload import offered_load
from cluster.simulator.trace import Trace, TraceRequest

simulate = pytest.importorskip("cluster.simulator.simulate", reason="the simulator is not in this tree").simulate

REQUESTS = 3_000
WARM = REQUESTS // 10
"""The first requests meet an empty cluster."""
ITL_OFF_MAX = 0.35


def planned(workload: str, gpu: str) -> tuple[OfferedLoad, Layout, int]:
    card = find("qwen3-4b-instruct-2507")
    assert card is not None
    kinds, nodes = parse_gpus([gpu])
    load = offered_load(workload)
    plan = make_plan(Question(model=card.id, card=card, gpus=kinds, nodes=nodes, load=load))
    assert plan.layouts is not None
    return load, plan.layouts.found[0], plan.context_tokens


def trace(load: OfferedLoad, most_tokens: int) -> Trace:
    """Poisson arrivals of the load's sizes; no prompt shares anything with another."""
    rng = random.Random(1)
    now_s, requests = 0.0, []
    for _ in range(REQUESTS):
        now_s += rng.expovariate(load.requests_per_s)
        size = rng.choice(load.classes)
        if size.prompt_tokens + size.output_tokens <= most_tokens:
            requests.append(
                TraceRequest(arrival_s=now_s, prompt_tokens=size.prompt_tokens, output_tokens=size.output_tokens)
            )
    return Trace(name="planned", block_tokens=512, requests=tuple(requests))


def simulated(layout: Layout, made: Trace, *, fewer: int = 0) -> list[Any]:
    from cluster.simulator.cluster import ClusterSpec, GatewaySpec, PoolSpec, ReplicaSpec

    pools = tuple(
        PoolSpec(
            name=pool.name,
            context_tokens=pool.context_tokens,
            replicas=pool.replicas - fewer,
            replica=ReplicaSpec(
                cost=pool.shape.cost,
                kv_tokens=pool.shape.kv_tokens,
                max_running=pool.max_running,
                batch_tokens=pool.shape.batch_tokens,
            ),
        )
        for pool in layout.pools
    )
    gateway = GatewaySpec(has_exact_lengths=True, default_output_tokens=1)
    return list(simulate(made, ClusterSpec(pools=pools, gateway=gateway)).outcomes)[WARM:]


def met_by_band(records: list[Any]) -> dict[int, float]:
    bands: dict[int, list[bool]] = defaultdict(list)
    for one in records:
        band = (max(one.prompt_tokens, 4_096) - 1).bit_length()
        bands[band].append(one.fate.name == "DONE" and one.ttft_s <= allowed_s(ServiceLevel(), one.prompt_tokens))
    return {band: sum(met) / len(met) for band, met in bands.items()}


@pytest.mark.parametrize(
    ("workload", "gpu"),
    [
        ("5,4000/60000,300/900", "H100"),
        ("20,1500/6000,200/500", "L4"),
        ("8,3000/12000,300/800", "L40S"),
        ("10,4000/30000,200/600", "A100-80"),
    ],
)
def test_a_plan_keeps_its_level(workload: str, gpu: str) -> None:
    load, layout, most_tokens = planned(workload, gpu)
    records = simulated(layout, trace(load, most_tokens))
    assert {one.fate.name for one in records} == {"DONE"}
    met = met_by_band(records)
    assert min(met.values()) >= MET_RATIO, met
    for index, pool in enumerate(layout.pools):
        assert pool.found is not None
        answers = [one for one in records if one.pool == index and one.output_tokens > 1]
        tokens = sum(one.output_tokens - 1 for one in answers)
        itl_s = sum(one.ended_s - one.first_token_s for one in answers) / tokens
        assert pool.found.outcome.itl_s == pytest.approx(itl_s, rel=ITL_OFF_MAX)


def test_one_replica_fewer_does_not() -> None:
    load, layout, most_tokens = planned("20,1500/6000,200/500", "L4")
    records = simulated(layout, trace(load, most_tokens), fewer=1)
    assert min(met_by_band(records).values()) < MET_RATIO
