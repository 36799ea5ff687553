"""A Serve application for each pool: placement, limits, health and drain.

What must not live here: connecting to Ray (cluster/control/apply.py), what runs inside (cluster/engine).
"""

from __future__ import annotations

import hashlib
import importlib.metadata
from typing import Any

from ray import serve
from ray.serve.config import AutoscalingConfig
from ray.serve.deployment import Application

from cluster.config import PoolSection
from cluster.engine.plan import Accelerator, ReplicaPlan
from cluster.engine.replica import EngineReplica

HEALTH_PERIOD_S = 1.0
"""Serve replaces a replica after three failed checks in a row, so in about three seconds."""
HEALTH_TIMEOUT_S = 30.0
"""A replica that tokenizes a million tokens may be deaf for seconds; its engine's death is told otherwise."""
TARGET_LOAD_RATIO = 0.8
CPUS_PER_RANK = 1.0
"""A placement token for each rank; cores themselves are shared, see cluster/engine/arguments.py."""


def app_name(pool: str) -> str:
    """The Serve application of a pool."""
    return f"pool-{pool}"


def placement_bundle(plan: ReplicaPlan) -> dict[str, float]:
    """The one bundle that holds every rank of a replica, so that all of them share a host."""
    bundle = {"CPU": CPUS_PER_RANK * plan.tensor_parallel}
    if plan.accelerator is Accelerator.CUDA:
        bundle["GPU"] = float(plan.tensor_parallel)
    return bundle


def plan_version(plan: ReplicaPlan) -> str:
    """What tells one generation of replicas from the next: every setting they are built from, and this program."""
    text = f"{importlib.metadata.version('longreach')} {plan!r}"
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def pool_application(pool: PoolSection, plan: ReplicaPlan) -> Application:
    """The Serve application of `pool`, every replica by `plan`."""
    bundle = placement_bundle(plan)
    scale: dict[str, Any] = {"num_replicas": pool.replicas.min}
    if pool.replicas.max > pool.replicas.min:
        scale = {
            "autoscaling_config": AutoscalingConfig(
                min_replicas=pool.replicas.min,
                max_replicas=pool.replicas.max,
                target_ongoing_requests=max(1.0, plan.max_running * TARGET_LOAD_RATIO),
            )
        }
    deployment = serve.deployment(EngineReplica).options(
        name="replica",
        # Without a version Serve takes every submission for new code and replaces every replica, also where only
        # their number changed. Serve still reads it, but keeps it to itself (`_internal`); tests/contract asserts it.
        version=plan_version(plan),
        _internal=True,
        # The replica's own layer holds the limit, exactly and with Retry-After. Serve's would drop one of two requests
        # that arrive in the same tick, so it is set where it only bounds what waits to be refused.
        max_ongoing_requests=2 * plan.max_requests,
        max_queued_requests=-1,
        ray_actor_options={"num_cpus": bundle["CPU"], "num_gpus": bundle.get("GPU", 0)},
        placement_group_bundles=[bundle],
        placement_group_strategy="STRICT_PACK",
        graceful_shutdown_timeout_s=plan.drain_s,
        graceful_shutdown_wait_loop_s=1.0,
        health_check_period_s=HEALTH_PERIOD_S,
        health_check_timeout_s=HEALTH_TIMEOUT_S,
        **scale,
    )
    return deployment.bind(plan)
