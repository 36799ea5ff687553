"""Every metric of a gateway at this moment, its standing read anew.

What must not live here: counting (services/gateway/metrics.py), showing (exposition.py, otlp_metrics.py).
"""

from __future__ import annotations

import time

from cluster.core.tenant import Priority
from services.api.gateway import Gateway
from services.gateway.exposition import Snapshot
from services.gateway.process import program_version, resident_bytes


def snapshot_of(gateway: Gateway) -> Snapshot:
    """The tallies, with what is read only when somebody asks."""
    metrics = gateway.metrics
    metrics.directory(gateway.directory.states(gateway.current.catalog), gateway.directory.age_s)
    for priority in Priority:
        metrics.queue_length(priority, gateway.room.length(priority))
    metrics.held({pool: line.requests for pool, line in gateway.room.standing().items()})
    metrics.autoscaling(gateway.scaling.records, time.time())
    metrics.boundaries(gateway.boundaries.tokens)
    metrics.residency(gateway.residency.chunks)
    metrics.process(program_version(), time.process_time(), resident_bytes())
    return metrics.snapshot()
