"""Leases and reports of a release's replicas, from its state Redis where that can be reached from here.

What must not live here: what they mean (join.py).
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from urllib.parse import urlsplit

from cluster.config import Config
from cluster.core.lease import Lease, ReplicaReport
from cluster.kubernetes.redis_address import READABLE_REMEDY, is_cluster_name, is_readable, shown
from cluster.state.leases import LeaseStore, connect
from cluster.state.login import StateServer, state_server

DEFAULT_PORT = 6379
READ_TIMEOUT_S = 10.0
"""A few round trips, each bounded by the store's own two seconds, and the connection."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaRecords:
    """What replicas wrote; `note` is `ok`, or why it cannot be read."""

    note: str
    leases: tuple[Lease, ...] | None = None
    """None where they cannot be read."""
    reports: tuple[ReplicaReport, ...] = ()


def read_records(
    config: Config | None, named: StateServer | None, *, namespace: str, in_cluster: bool
) -> ReplicaRecords:
    """What the replicas of a release wrote.

    Args:
        config: of the release.
        named: the server that the caller names instead of the configuration's.
        namespace: of the release, for the hint.
        in_cluster: whether this runs in a pod.
    """
    if config is None:
        note = "the release's configuration cannot be read, so the cluster's name in Redis is not known"
        return ReplicaRecords(note=note)
    hint = _hint(config, namespace)
    server = named if named is not None else state_server(config.redis)
    if server is None:
        return ReplicaRecords(note=f"the configuration names no state Redis: {hint}")
    if not is_readable(server.url):
        return ReplicaRecords(note=f"the address of the state Redis cannot be read: {READABLE_REMEDY}")
    if named is None and not in_cluster and is_cluster_name(server.url, namespace):
        return ReplicaRecords(note=f"{shown(server.url)} is a name of the cluster's own: {hint}")
    return asyncio.run(_read(server, config.cluster.name, hint))


def _hint(config: Config, namespace: str) -> str:
    """How to reach the state Redis from outside; the chart's address begins with its Service's name."""
    address = urlsplit(config.redis.state_url or "")
    service = (address.hostname or "STATE-REDIS").partition(".")[0]
    port = address.port or DEFAULT_PORT
    return (
        f"kubectl -n {namespace} port-forward svc/{service} {port}, then --redis-url redis://127.0.0.1:{port} and "
        "--redis-password-env VARIABLE"
    )


async def _read(server: StateServer, cluster: str, hint: str) -> ReplicaRecords:
    from redis.exceptions import RedisError

    where = shown(server.url)
    try:
        redis = connect(server)
    except ValueError as error:
        return ReplicaRecords(note=f"{where}: {error}")
    try:
        async with asyncio.timeout(READ_TIMEOUT_S):
            store = LeaseStore(redis, cluster)
            return ReplicaRecords(note="ok", leases=await store.leases(), reports=await store.reports())
    except (RedisError, OSError) as error:  # a timeout is an OSError
        return ReplicaRecords(note=f"{where}: {error or type(error).__name__}: {hint}")
    finally:
        await redis.aclose()
