"""A Serve application for each pool: placement, limits, health and drain.

What must not live here: connecting to Ray (cluster/control/apply.py), what runs inside (cluster/engine).
"""

from __future__ import annotations

import hashlib
import importlib.metadata
from dataclasses import asdict
from typing import Any

from ray import serve
from ray.serve.config import AutoscalingConfig
from ray.serve.deployment import Application

from cluster.config import PoolSection
from cluster.control.head import worker_group_resource
from cluster.engine.order import ReplicaOrder
from cluster.engine.plan import Accelerator, ReplicaPlan
from cluster.engine.replica import EngineReplica
from cluster.state.login import StateServer

HEALTH_PERIOD_S = 1.0
"""Serve replaces a replica after three failed checks in a row, so in about three seconds."""
HEALTH_TIMEOUT_S = 30.0
"""A replica that tokenizes a million tokens may be deaf for seconds; its engine's death is told otherwise."""
TARGET_LOAD_RATIO = 0.8
"""Without a state store."""
POLICY = "cluster.control.autoscaling:PoolPolicy"
NO_DELAYS = {"upscale_delay_s": 0.0, "downscale_delay_s": 0.0, "downscale_to_zero_delay_s": 0.0}
"""The policy itself waits before it lets replicas go; Serve's defaults would add 30 s up and 600 s down."""
WORKER_GROUP_SHARE = 0.001
"""A node has 1.0 of its group's resource, which so only says where, never how many."""
CPUS_PER_RANK = 1.0
"""A placement token for each rank; cores themselves are shared, see cluster/engine/arguments.py."""


def app_name(pool: str) -> str:
    """The Serve application of a pool."""
    return f"pool-{pool}"


def placement_bundles(pool: PoolSection, accelerator: Accelerator) -> list[dict[str, float]]:
    """What a replica reserves, the first bundle for itself.

    On one host, one bundle holds every rank, so that all of them share it, and the replica's process has all its cards.
    Over several, vLLM's ray executor puts one rank into each bundle with a card, and the replica itself has none.
    """
    group = {} if pool.worker_group is None else {worker_group_resource(pool.worker_group): WORKER_GROUP_SHARE}
    ranks = pool.tensor_parallel
    cards = accelerator is Accelerator.CUDA
    if pool.hosts == 1:
        return [{"CPU": CPUS_PER_RANK * ranks, **({"GPU": float(ranks)} if cards else {}), **group}]
    return [{"CPU": CPUS_PER_RANK, **group}, *({"CPU": CPUS_PER_RANK, "GPU": 1.0, **group} for _ in range(ranks))]


def plan_version(plan: ReplicaPlan) -> str:
    """What tells one generation of replicas from the next: every setting they are built from, and this program."""
    text = f"{importlib.metadata.version('longreach')} {plan!r}"
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def autoscaling_options(pool: PoolSection, wanted: ReplicaPlan | ReplicaOrder) -> dict[str, Any]:
    """Serve's autoscaling options of a pool whose number of replicas follows the load.

    The chart writes the same (`longreach.autoscalingConfig`); tests/kubernetes holds the two together. Without a state
    store nothing is known of the load but what Serve itself counts, and Serve's own policy decides.
    """
    bounds = {"min_replicas": pool.replicas.min, "max_replicas": pool.replicas.max}
    state = wanted.state
    if state is None:
        return {**bounds, "target_ongoing_requests": max(1.0, pool.engine.max_running * TARGET_LOAD_RATIO)}
    server = StateServer(url=state) if isinstance(state, str) else state
    arguments = {
        "pool": pool.name,
        "cluster": wanted.cluster,
        "target": {**bounds, **pool.autoscaling.model_dump()},
        "state": {name: value for name, value in asdict(server).items() if value is not None},
    }
    return {**bounds, **NO_DELAYS, "policy": {"policy_function": POLICY, "policy_kwargs": arguments}}


def pool_application(
    pool: PoolSection, wanted: ReplicaPlan | ReplicaOrder, *, accelerator: Accelerator, version: str | None
) -> Application:
    """The Serve application of `pool`.

    Args:
        pool: its section of the configuration.
        wanted: what every replica is to be.
        accelerator: what its replicas compute on.
        version: as `plan_version`; None where Serve makes one itself, from a declarative configuration.
    """
    engine = pool.engine
    bundles = placement_bundles(pool, accelerator)
    scale: dict[str, Any] = {"num_replicas": pool.replicas.min}
    if pool.replicas.is_autoscaled:
        scale = {"autoscaling_config": AutoscalingConfig(**autoscaling_options(pool, wanted))}
    deployment = serve.deployment(EngineReplica).options(
        name="replica",
        # Without a version Serve takes every submission for new code and replaces every replica, also where only
        # their number changed. Serve still reads it, but keeps it to itself (`_internal`); tests/contract asserts it.
        version=version,
        _internal=True,
        # The replica's own layer holds the limit, exactly and with Retry-After. Serve's would drop one of two requests
        # that arrive in the same tick, so it is set where it only bounds what waits to be refused.
        max_ongoing_requests=2 * (engine.max_running + engine.max_queued),
        max_queued_requests=-1,
        ray_actor_options={"num_cpus": bundles[0]["CPU"], "num_gpus": bundles[0].get("GPU", 0)},
        placement_group_bundles=bundles,
        placement_group_strategy="STRICT_PACK" if pool.hosts == 1 else "PACK",
        graceful_shutdown_timeout_s=engine.drain_s,
        graceful_shutdown_wait_loop_s=1.0,
        health_check_period_s=HEALTH_PERIOD_S,
        health_check_timeout_s=HEALTH_TIMEOUT_S,
        **scale,
    )
    return deployment.bind(wanted)
