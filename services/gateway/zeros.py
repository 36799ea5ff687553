"""Which counters begin at zero: those that only a fault or a rare event moves, for every label they can have.

Prometheus sees no increase where a series appears with 1: an alert would miss the first fault of each kind. What must
not live here: counting (metrics.py).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from cluster.core.request import Route
from services.gateway import metric_specs as names
from services.gateway.catalog import ServedModel
from services.gateway.metric_kinds import CounterSpec, Labels
from services.gateway.metric_labels import Moved, Repeated, Resumed
from services.http1.client import FailureKind

ENDINGS = ("ok", "refused", "unavailable", "broken", "client_gone", "expired")
"""services/api/account.py, `Ending`: which this package must not import, and a test compares."""
ATTEMPT_RESULTS = ("answered", "refused", "overloaded", "full", *(kind.value for kind in FailureKind))
"""What services/gateway/asking.py counts."""
WATCHED_REFUSALS = ("overloaded", "gateway_full", "no_replica_available", "requests_per_minute", "tokens_per_minute")
"""The refusals that alerts and dashboards ask for by name: of room, and of a tenant's quota."""
WATCHED_ROUTES = (Route.CHAT, Route.COMPLETIONS)
"""What nearly all traffic is; eight routes would make four times the series."""
TOKEN_KINDS = ("prompt", "cached", "output")
NO_POOL = "none"
"""The pool label of requests that reached none."""


def zeros(models: Sequence[ServedModel], tenants: Collection[str]) -> Iterator[tuple[CounterSpec, Labels]]:
    """Every series that begins at zero.

    Args:
        models: of the configuration.
        tenants: those that have series of their own.
    """
    pools = [pool.name for model in models for pool in model.pools]
    for pool in pools:
        yield from ((names.ATTEMPTS, (pool, result)) for result in ATTEMPT_RESULTS)
        yield from ((names.RESUMES, (pool, result.value)) for result in Resumed)
        yield from ((names.MOVES, (pool, why.value, result.value)) for why in Moved for result in Resumed)
        yield from ((names.BROKEN, (pool, kind.value)) for kind in FailureKind)
    for label in (*pools, NO_POOL):
        yield from ((names.REQUESTS, (route, label, ending)) for route in WATCHED_ROUTES for ending in ENDINGS)
    for model in models:
        ladder = sorted(model.pools, key=lambda pool: pool.context_tokens)
        yield from (
            (names.SPILLED, (small.name, large.name))
            for index, small in enumerate(ladder)
            for large in ladder[index + 1 :]
        )
        for served in ladder:
            yield from ((names.TOKENS, (kind, served.name, model.section.id)) for kind in TOKEN_KINDS)
    yield from ((names.REPEATS, (result.value,)) for result in Repeated)
    yield from ((names.REFUSED, (reason,)) for reason in WATCHED_REFUSALS)
    for tenant in sorted(tenants):
        yield from ((names.TENANT_TOKENS, (tenant, kind)) for kind in TOKEN_KINDS)
        yield from ((names.TENANT_REQUESTS, (tenant, ending)) for ending in ENDINGS)
        yield from ((names.TENANT_REFUSED, (tenant, reason)) for reason in WATCHED_REFUSALS)
