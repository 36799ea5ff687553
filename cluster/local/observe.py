"""Looking at a cluster: its pools and replicas as Redis tells, its processes as the journal and the kernel tell.

What must not live here: printing (cluster/cli), changing anything.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from redis.exceptions import RedisError

from cluster.config import Config, PoolSection, load_config
from cluster.core.errors import SetupError
from cluster.core.lease import Lease, PoolName, ReplicaId, ReplicaPhase, ReplicaReport, ReplicaState
from cluster.deployment import Deployment, load_deployment
from cluster.environment import read_environment
from cluster.local.client import GatewayClient
from cluster.local.gateway_ready import grpc_url_of
from cluster.local.journal import Journal, Phase, read_journal
from cluster.local.rundir import RunDir
from cluster.local.state_view import PoolScaling, StateView, read_state
from cluster.local.stores import CACHE_PROCESS
from cluster.state.leases import connect
from cluster.state.login import state_address, state_server

STARTING = (ReplicaPhase.IMPORTING, ReplicaPhase.LOADING, ReplicaPhase.PROBING)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaStatus:
    """One replica, alive or not."""

    replica_id: str
    pid: int
    phase: str
    detail: str
    phase_s: float
    lease: str
    """`ready`, `draining`, `drained` where an operator did it, or empty without a lease."""
    url: str
    running: int
    waiting: int
    kv_use_ratio: float
    last_error: str
    tier: dict[str, Any] | None = None
    """What it fetches from Redis (`TierTerms`, cluster/core/tier); None without a tier, or while it fetches nothing."""
    start_s: dict[str, float] = field(default_factory=dict)
    """Seconds by stage of its start (cluster/core/start.py)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolStatus:
    """One pool."""

    name: str
    model: str
    context_tokens: int
    is_static: bool
    ready: int
    target: int
    phase: str
    detail: str
    running: int
    waiting: int
    kv_use_ratio: float
    last_error: str
    """The latest, until a replica that began to serve after it proves that it is over; then empty."""
    last_error_age_s: float | None
    replicas: tuple[ReplicaStatus, ...]
    has_tier: bool = False
    """Whether its replicas keep KV blocks in Redis."""
    wanted: int | None = None
    """Replicas by the latest decision; None where the number is fixed, or nobody has decided yet."""
    pinned: int | None = None
    """Replicas that an operator wants whatever the load."""
    held: int = 0
    """Requests that wait at gateways."""
    held_s: float = 0.0
    """How long the oldest of them has waited."""

    @property
    def is_ready(self) -> bool:
        """Whether as many replicas serve as the configuration asks for."""
        return self.ready >= self.target


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessStatus:
    """One process that `up` started."""

    name: str
    pid: int
    alive: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterStatus:
    """Everything `longreach status` shows."""

    cluster: str
    phase: str
    """`running`, `starting`, or `stopped`."""
    url: str
    grpc_url: str | None
    """None where the gateway serves no gRPC, or does not listen."""
    gateway_healthy: bool
    redis: str
    """`ok`, or why it cannot be reached."""
    cache: str
    """Of the server for KV blocks that came with the cluster: `ok`, or why it cannot be reached; `none` without one."""
    dropped_pools: tuple[str, ...]
    pools: tuple[PoolStatus, ...]
    processes: tuple[ProcessStatus, ...]
    run_dir: str


def scaled_pools(config: Config) -> tuple[PoolName, ...]:
    """The pools that requests may be held for, or whose replicas follow the load."""
    return tuple(PoolName(pool.name) for pool in config.pools if not pool.is_static)


def pool_statuses(config: Config, state: StateView) -> tuple[PoolStatus, ...]:
    """Every pool of the configuration, in its order."""
    return tuple(_pool(pool, state) for pool in config.pools)


def observe(run_dir: RunDir, *, cluster: str) -> ClusterStatus:
    """The cluster at `run_dir`.

    Raises:
        ConfigError: its configuration was changed by hand and has mistakes.
    """
    journal = read_journal(run_dir.journal)
    if journal is None or not run_dir.config.exists():
        return _stopped(cluster, run_dir.root)
    config = load_config(run_dir.config)
    deployment = _deployment(run_dir)
    state = _state(config, deployment).since(journal.began_s)
    has_state = deployment is not None and state_server(config.redis, own=deployment.state_url) is not None
    client = GatewayClient(journal.url) if journal.url else None
    healthy = client is not None and client.is_healthy()
    return ClusterStatus(
        cluster=config.cluster.name,
        phase=phase_of(journal),
        url=journal.url,
        grpc_url=grpc_url_of(run_dir),
        gateway_healthy=healthy,
        redis=state.error or ("ok" if has_state else "none"),
        cache=_ping(None if deployment is None else deployment.cache_url),
        dropped_pools=journal.dropped_pools,
        pools=pool_statuses(config, state),
        processes=tuple(
            ProcessStatus(name=entry.name, pid=entry.pid, alive=entry.is_alive()) for entry in journal.processes
        ),
        run_dir=str(run_dir.root),
    )


def phase_of(journal: Journal) -> str:
    """`running` when everything that must run does, `starting` while `up` works, else `broken`.

    Without the server for KV blocks a cluster serves, at cold speed; the next `up` starts it again.
    """
    servers = [entry for entry in journal.processes if entry.name not in {"apply", CACHE_PROCESS}]
    if not all(entry.is_alive() for entry in servers):
        return "broken"
    return str(Phase.RUNNING if journal.phase is Phase.RUNNING else Phase.STARTING)


def _pool(pool: PoolSection, state: StateView) -> PoolStatus:
    leases = {lease.replica_id: lease for lease in state.leases if lease.pool == pool.name}
    reports = {report.replica_id: report for report in state.reports if report.pool == pool.name}
    replicas = tuple(
        _replica(replica_id, leases.get(replica_id), reports.get(replica_id))
        for replica_id in sorted(leases.keys() | reports.keys())
    )
    ready = frozenset(lease.replica_id for lease in leases.values() if lease.state is ReplicaState.READY)
    target = 0 if pool.is_static else pool.replicas.min
    scaling = state.scaling.get(PoolName(pool.name), PoolScaling())
    wanted = None if scaling.record is None else scaling.record.decision.replicas
    drained = tuple(sorted(lease.replica_id for lease in leases.values() if lease.is_drained))
    needed = max(target, wanted or 0)
    phase, detail = _pool_phase(pool, ready=ready, target=needed, reports=reports, drained=drained)
    if scaling.held:
        held = f"{scaling.held} held for up to {scaling.oldest_wait_s:.0f} s"
        detail = f"{held}; {detail}" if detail else held
    error = _last_error(tuple(reports.values()))
    return PoolStatus(
        name=pool.name,
        model=pool.model,
        context_tokens=pool.context_tokens,
        is_static=pool.is_static,
        ready=len(ready),
        target=target,
        phase=phase,
        detail=detail,
        running=sum(lease.running for lease in leases.values()),
        waiting=sum(lease.waiting for lease in leases.values()),
        kv_use_ratio=max((lease.kv_use_ratio for lease in leases.values()), default=0.0),
        last_error=error.last_error if error else "",
        last_error_age_s=max(0.0, state.read_s - error.written_s) if error else None,
        replicas=replicas,
        has_tier=pool.has_tier,
        wanted=wanted,
        pinned=scaling.pinned,
        held=scaling.held,
        held_s=scaling.oldest_wait_s,
    )


def _pool_phase(
    pool: PoolSection,
    *,
    ready: frozenset[ReplicaId],
    target: int,
    reports: Mapping[ReplicaId, ReplicaReport],
    drained: tuple[ReplicaId, ...],
) -> tuple[str, str]:
    if pool.is_static:
        return "static", ", ".join(endpoint.url for endpoint in pool.endpoints)
    if len(ready) >= target:
        return ("ready", "") if ready or pool.replicas.min else ("empty", "a request makes it start")
    starting = [report for report in reports.values() if report.phase in STARTING]
    if starting:
        newest = max(starting, key=_written)
        return str(newest.phase), newest.detail
    latest = max(reports.values(), key=_written, default=None)
    if latest is not None and latest.phase is ReplicaPhase.FAILED:
        return "failed", ""
    if drained:
        return "waiting", f"drained by an operator: {', '.join(drained)}"
    return "waiting", _waits_for(ready, reports.keys())


def _waits_for(ready: frozenset[ReplicaId], known: Iterable[ReplicaId]) -> str:
    if set(known) - ready:
        return "waiting for Serve to start a replacement"
    if ready:
        return "waiting for Serve to start another replica"
    return "waits for its turn: pools start one after the other on few cores"


def _replica(replica_id: str, lease: Lease | None, report: ReplicaReport | None) -> ReplicaStatus:
    return ReplicaStatus(
        replica_id=replica_id,
        pid=report.pid if report else 0,
        phase=str(report.phase) if report else "?",
        detail=report.detail if report else "",
        phase_s=report.phase_s if report else 0.0,
        lease=_lease_word(lease) if lease else "",
        url=lease.url if lease else "",
        running=lease.running if lease else 0,
        waiting=lease.waiting if lease else 0,
        kv_use_ratio=lease.kv_use_ratio if lease else 0.0,
        last_error=report.last_error if report else "",
        tier=lease.tier if lease else None,
        start_s=report.start_s if report else {},
    )


def _lease_word(lease: Lease) -> str:
    return "drained" if lease.is_drained else str(lease.state)


def _last_error(reports: Sequence[ReplicaReport]) -> ReplicaReport | None:
    """The report with the latest error; None without one, or when a replica has begun to serve since."""
    latest = max((report for report in reports if report.last_error), key=_written, default=None)
    if latest is None:
        return None
    healed = any(
        report.phase is ReplicaPhase.SERVING and report.written_s > latest.written_s and not report.last_error
        for report in reports
    )
    return None if healed else latest


def _written(report: ReplicaReport) -> float:
    return report.written_s


def _deployment(run_dir: RunDir) -> Deployment | None:
    try:
        return load_deployment(run_dir.deployment)
    except SetupError:
        return None


def _state(config: Config, deployment: Deployment | None) -> StateView:
    """What the state store holds; a password that is not here is a reason not to know."""
    if deployment is None:
        return StateView()
    try:
        url = state_address(config.redis, read_environment().secret, own=deployment.state_url)
    except SetupError as error:
        return StateView(read_s=time.time(), error=error.problem)
    return read_state(url, config.cluster.name, scaled_pools(config))


def _ping(url: str | None) -> str:
    if url is None:
        return "none"

    async def ask() -> None:
        redis = connect(url)
        try:
            await redis.ping()
        finally:
            await redis.aclose()

    try:
        asyncio.run(ask())
    except (RedisError, OSError) as error:
        return str(error) or type(error).__name__
    return "ok"


def _stopped(cluster: str, run_dir: Path) -> ClusterStatus:
    return ClusterStatus(
        cluster=cluster,
        phase="stopped",
        url="",
        grpc_url=None,
        gateway_healthy=False,
        redis="none",
        cache="none",
        dropped_pools=(),
        pools=(),
        processes=(),
        run_dir=str(run_dir),
    )
