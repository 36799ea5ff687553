"""Small clusters and traces for tests of the simulator."""

from __future__ import annotations

import random
from dataclasses import replace

from cluster.core.capacity.step import StepCost
from cluster.core.lease import PoolName
from cluster.simulator.cluster import ClusterSpec, Failure, GatewaySpec, PoolSpec, ReplicaSpec
from cluster.simulator.trace import Trace, TraceRequest

BLOCK_TOKENS = 64
COST = StepCost(base_s=0.002, weights_s=0.005, token_s=5e-5, attention_s=4e-9, context_token_s=9e-8)
REPLICA = ReplicaSpec(cost=COST, kv_tokens=16_384, max_running=8, max_queued=8, batch_tokens=512, entry_s=0.001)
SHORT, LONG = PoolName("short"), PoolName("long")


def cluster(
    *,
    short: int = 2,
    long: int = 1,
    replica: ReplicaSpec = REPLICA,
    gateway: GatewaySpec | None = None,
    failures: tuple[Failure, ...] = (),
) -> ClusterSpec:
    return ClusterSpec(
        pools=(
            PoolSpec(name=SHORT, context_tokens=2_048, replica=replica, replicas=short, startup_s=5.0),
            PoolSpec(name=LONG, context_tokens=16_384, replica=replica, replicas=long, startup_s=5.0),
        ),
        gateway=gateway or GatewaySpec(queue_s=10.0, queued_requests=64, default_output_tokens=64),
        failures=failures,
    )


def with_replica(spec: ClusterSpec, **changes: float) -> ClusterSpec:
    return replace(spec, pools=tuple(replace(pool, replica=replace(pool.replica, **changes)) for pool in spec.pools))


def trace(requests: int, *, rate: float, seed: int = 1, sessions: int = 20, longest: int = 8_000) -> Trace:
    """Lengths on a logarithmic scale, in conversations that share one system prompt."""
    rng, now_s, made = random.Random(seed), 0.0, []
    for _ in range(requests):
        now_s += rng.expovariate(rate)
        prompt_tokens = round(20 * (longest / 20) ** rng.random())
        session = rng.randrange(sessions)
        blocks = (0, *(1 + session * 1_000 + place for place in range(prompt_tokens // BLOCK_TOKENS)))
        made.append(
            TraceRequest(
                now_s,
                prompt_tokens,
                rng.randint(1, 90),
                blocks[: -(-prompt_tokens // BLOCK_TOKENS)],
                session,
                session % 3,
            )
        )
    return Trace(name="made", block_tokens=BLOCK_TOKENS, requests=made)
