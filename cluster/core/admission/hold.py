"""Holding a request for a pool that has no replica yet: how long, and when that is hopeless.

What must not live here: clocks, who orders replicas (cluster/core/autoscaling), the queue.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

RETRY_AFTER_UNKNOWN_S = 30
"""While no start has been measured: a replica with warm files takes half a minute, see docs/autoscaling.md."""
RETRY_AFTER_MAX_S = 600
"""A start of several minutes is worth waiting for as a whole: who comes earlier is refused again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """What a request is told that wants to wait for a replica's start."""

    limit_s: float
    """The longest it may wait (`limits.hold_s`); 0: not at all."""
    starts_in_s: float | None
    """Expected seconds until a replica serves; None: no start has been measured yet."""


def retry_after_s(starts_in_s: float | None) -> int:
    """When to come back for a pool that starts, in whole seconds from 1 to `RETRY_AFTER_MAX_S`."""
    if starts_in_s is None:
        return RETRY_AFTER_UNKNOWN_S
    return max(math.ceil(min(starts_in_s, RETRY_AFTER_MAX_S)), 1)
