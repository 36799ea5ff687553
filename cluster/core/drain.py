"""How long everything takes that ends a pod, and so what its grace period has to be.

On Kubernetes a pod that is deleted runs its preStop hook (cluster/engine/node_drain.py), then gets SIGTERM, and is
killed `terminationGracePeriodSeconds` after the deletion, whatever it is doing. The terms, for a worker:

    the hook          START_S + the pool's `engine.drain_s` + NOTICE_S
    Ray, on SIGTERM   RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S (`ray_drain_s`), then STOP_S

Ray Serve's own shutdown (`graceful_shutdown_timeout_s`) is not a term: it runs inside Ray's drain, and finds nothing in
flight. The head waits for the slowest worker, and until that one's lease is gone. What must not live here: waiting.
"""

from __future__ import annotations

from math import ceil

from cluster.core.lease import LEASE_TTL_S

NOTICE_S = 2.0
"""A drained worker stays this long, so that no gateway still has it for usable: a lease is renewed twice and read four
times a second."""
START_S = 10.0
"""The hook is a Python program that starts beside a busy engine; a second where nothing else runs."""
STOP_S = 20.0
"""`ray start --block` ends its children within two seconds when asked (measured); GPUs give memory back slowly."""
HEAD_NOTICE_S = 30.0
"""The head leaves when nobody has drained for this long. When a cluster is deleted, its workers' hooks start at about
the same time as the head's, later on a loaded node; and replicas without any CPU were seen to miss a lease's 4 s."""


def worker_hook_s(drain_s: float) -> int:
    """The longest a worker's hook takes; `drain_s` is the longest of the pools that may run on it."""
    return ceil(START_S + drain_s + NOTICE_S)


def worker_grace_s(drain_s: float, *, ray_drain_s: float = 0.0) -> int:
    """`terminationGracePeriodSeconds` of a worker."""
    return ceil(worker_hook_s(drain_s) + ray_drain_s + STOP_S)


def rank_limit_s(drain_s: float) -> int:
    """How long a pod's hook waits for the replicas on several hosts, of which it may hold ranks, to be surely idle."""
    return ceil(worker_hook_s(drain_s) + LEASE_TTL_S)


def rank_grace_s(drain_s: float, *, ray_drain_s: float = 0.0) -> int:
    """`terminationGracePeriodSeconds` of such a pod."""
    return ceil(START_S + rank_limit_s(drain_s) + ray_drain_s + STOP_S)


def head_limit_s(drain_s: float, *, ray_drain_s: float = 0.0, spans_hosts: bool = False) -> int:
    """How long the head's hook waits at most.

    Args:
        drain_s: the longest of all pools.
        ray_drain_s: as above.
        spans_hosts: replicas of some pool do.
    """
    slowest_s = (rank_grace_s if spans_hosts else worker_grace_s)(drain_s, ray_drain_s=ray_drain_s)
    return ceil(slowest_s + LEASE_TTL_S + HEAD_NOTICE_S)


def head_grace_s(drain_s: float, *, ray_drain_s: float = 0.0, spans_hosts: bool = False) -> int:
    """`terminationGracePeriodSeconds` of the head."""
    limit_s = head_limit_s(drain_s, ray_drain_s=ray_drain_s, spans_hosts=spans_hosts)
    return ceil(START_S + limit_s + ray_drain_s + STOP_S)
