"""What a replica says of itself, and how gateways read it.

A lease means "engine steps advance and this address answers": it is written only after a self-probe, renewed every
`LEASE_RENEW_S`, and gone `LEASE_TTL_S` after the last renewal. Fields added later have defaults, because gateways and
replicas of two versions meet while a cluster is upgraded. What must not live here: Redis, clocks.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NewType

ReplicaId = NewType("ReplicaId", str)
PoolName = NewType("PoolName", str)

LEASE_RENEW_S = 0.5
"""How often a replica renews. A draining replica must be marked within a second, so renewals come twice as often."""
LEASE_TTL_S = 4.0
"""How long a lease outlives its last renewal: long enough for a busy event loop, short enough for a dead host."""


class ReplicaState(StrEnum):
    """What a lease says about taking new work."""

    READY = "ready"
    DRAINING = "draining"


class ReplicaPhase(StrEnum):
    """Where a replica is in its life, for people; requests are routed by leases alone."""

    IMPORTING = "importing"
    LOADING = "loading"
    PROBING = "probing"
    SERVING = "serving"
    DRAINING = "draining"
    STALLED = "stalled"
    FAILED = "failed"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """One live replica of a pool."""

    replica_id: ReplicaId
    pool: PoolName
    model: str
    url: str
    """Base URL, without a trailing slash and without /v1."""
    state: ReplicaState
    context_tokens: int
    running: int
    """Sequences in the engine's running batch."""
    waiting: int
    """Sequences queued in the engine."""
    kv_use_ratio: float
    """Share of KV cache blocks in use, 0 to 1."""
    step_age_s: float
    """Seconds since the engine last proved that its steps advance."""
    max_running: int = 0
    """Sequences the engine runs at once; 0 is not known."""
    max_waiting: int = 0
    """Requests the replica takes beyond those, before it refuses."""
    prefill_tokens: int = 0
    """Prompt tokens of requests that have been tokenized and have no first token yet."""
    adapters: tuple[str, ...] = ()
    """LoRA adapters it serves, by name."""
    prefix: dict[str, Any] | None = field(default=None, hash=False)
    """How its residency is to be read: `PrefixFacts.to_dict` (cluster/core/prefix); None where it publishes none."""
    is_drained: bool = False
    """An operator took it out of use (`LeaseStore.drain`); its state then says draining, whatever the replica wrote."""
    tier: dict[str, Any] | None = field(default=None, hash=False)
    """What it fetches from Redis: `TierTerms.to_dict` (cluster/core/tier); None where, or while, it fetches nothing."""
    revision: str = ""
    """What it calls itself, for canaries (`pools[].revision`); empty where it has no name."""
    ray_cluster: str = ""
    """The Ray cluster it runs in, so that its head can outlive it; empty where nobody named one."""
    work: dict[str, Any] | None = field(default=None, hash=False)
    """What it has done and how fast: `ReplicaWork.to_dict` (cluster/core/autoscaling); None where it does not tell."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaReport:
    """What `longreach status` shows of a replica; it outlives the lease, so that a failure can be read later."""

    replica_id: ReplicaId
    pool: PoolName
    phase: ReplicaPhase
    detail: str
    pid: int
    node: str
    phase_s: float
    """Seconds since the replica began to start, when this report was written."""
    written_s: float
    """When it was written, seconds since the epoch: reports outlive runs, and the latest must be told from the last."""
    last_error: str = ""
    start_s: dict[str, float] = field(default_factory=dict, hash=False)
    """Seconds by stage of its start, so far (cluster/core/start.py)."""
