"""Ray's head process for one machine: its command line and environment, everything on loopback.

What must not live here: starting or ending it (cluster/local does), anything read from the process environment.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cluster.config import Config

LOOPBACK = "127.0.0.1"
OBJECT_STORE_BYTES = 100 * 2**20
"""Nothing of a request crosses the object store; Ray's floor is 75 MB."""
SPARE_CPUS = 64
"""Placement on one machine is by memory, not by Ray's CPU tokens: pools share the cores on purpose. So Ray is told of a
token for every rank of every replica, and of more for replicas that a reload adds or that start while others drain."""
LOCAL_DRAIN_MIN_S = "3"
"""Serve's floor of 30 s is for load balancers that look every 15 s; the gateway sees a drain within a second."""
LOOPBACK_ENVIRONMENT = {
    # Ray turns 127.0.0.1 into the machine's outer address and binds every interface, unless clusters are switched off.
    # The variable is named after two platforms, and read on all; drivers need it too.
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "AUTOSCALER_METRIC_PORT": "0",
    "DASHBOARD_METRIC_PORT": "0",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessSpec:
    """A process to start: what to run and its whole environment."""

    argv: tuple[str, ...]
    env: dict[str, str]


def serve_environment(config: Config) -> dict[str, str]:
    """What Ray and Serve read at import, so it must be set before Ray starts, on every node."""
    first = config.cluster.replica_port_min
    return {
        "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
        "RAY_SERVE_ENABLE_HA_PROXY": "0",
        "RAY_SERVE_ENABLE_DIRECT_INGRESS": "1",
        "RAY_SERVE_DIRECT_INGRESS_MIN_HTTP_PORT": str(first),
        "RAY_SERVE_DIRECT_INGRESS_MAX_HTTP_PORT": str(first + 999),
        "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": LOCAL_DRAIN_MIN_S,
        "RAY_SERVE_LOG_TO_STDERR": "0",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_AUTH_MODE": "disabled",
        "RAY_DISABLE_DOCKER_CPU_WARNING": "1",
        "RAY_enable_metrics_collection": "0",
        "RAY_enable_worker_prestart": "0",
        # Ray runs its workers at a low priority, as for batch jobs; here they answer people.
        "RAY_worker_niceness": "0",
        "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
        "RAY_DEDUP_LOGS": "0",
        # Titles of processes must not go over their environment, by whose mark a replica knows its engine's processes:
        # without it their CPU time is not seen, and a step of six seconds counts as a frozen engine.
        "SPT_NOENV": "1",
    }


def worker_group_resource(name: str) -> str:
    """The Ray resource that every node of a worker group has, and no other."""
    return f"worker_group_{name}"


def worker_group_resources(config: Config) -> dict[str, int]:
    """What a node must have that belongs to every worker group, as the only machine does."""
    return {worker_group_resource(pool.worker_group): 1 for pool in config.pools if pool.worker_group is not None}


def head_process(
    config: Config, *, temp_dir: Path, ray_port: int, client_port: int, base_env: Mapping[str, str]
) -> ProcessSpec:
    """`ray start --head --block` for local mode.

    Args:
        config: whose cluster it is.
        temp_dir: Ray's own folder; short, because sockets live below it (their paths end at 107 bytes).
        ray_port: a free port for the GCS.
        client_port: a free port for Ray's client server, which nothing here uses and `ray start` insists on.
        base_env: environment to pass on.
    """
    ranks = sum(pool.replicas.max * pool.tensor_parallel for pool in config.pools)
    argv = (
        str(Path(sys.executable).parent / "ray"),
        "start",
        "--head",
        "--block",
        f"--node-ip-address={LOOPBACK}",
        f"--port={ray_port}",
        f"--num-cpus={ranks + SPARE_CPUS}",
        f"--resources={json.dumps(worker_group_resources(config))}",
        f"--object-store-memory={OBJECT_STORE_BYTES}",
        f"--temp-dir={temp_dir}",
        "--include-dashboard=false",
        # Both have fixed defaults, which a second cluster on the machine would find taken.
        f"--ray-client-server-port={client_port}",
        "--dashboard-agent-listen-port=0",
        "--disable-usage-stats",
    )
    return ProcessSpec(argv=argv, env={**base_env, **serve_environment(config), **LOOPBACK_ENVIRONMENT})


def address(ray_port: int) -> str:
    """What `RAY_ADDRESS` must be for drivers."""
    return f"{LOOPBACK}:{ray_port}"
