"""The rule on live pools: what it is told of them comes from what their replicas have measured of themselves.

The sums are those of autoscaling (cluster/core/autoscaling/need.py): a token takes its part of the step of a batch that
is full. What must not live here: measuring speed, counting replicas.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from cluster.core.autoscaling.demand import PoolSpeed
from cluster.core.autoscaling.need import KV_FULL_RATIO, step_of
from cluster.core.boundary.adaptive import AdaptiveBoundary, Boundary
from cluster.core.boundary.lengths import Band, LengthsSeen, edge_tokens, together
from cluster.core.boundary.waits import Station

MIDDLE_RATIO = 0.9
"""Of a band's longest request, its middle one: bands span 19%."""


class LivePool(NamedTuple):
    """One of the two pools, now."""

    replicas: int
    """That take requests."""
    speed: PoolSpeed | None
    """Of one of them, as measured; where it never had much to compute, it is taken for no faster. None: not known."""


def decide_live(
    boundary: AdaptiveBoundary, now_s: float, smaller: LivePool, larger: LivePool, others: Sequence[LengthsSeen] = ()
) -> Boundary | None:
    """Where the boundary is from now on; None, and nothing has moved, while a pool's speed is not known.

    Args:
        boundary: told of this gateway's requests.
        now_s: monotonic.
        smaller: the pool with the limit.
        larger: the next larger one.
        others: what other gateways have seen of the same pair.
    """
    limit_tokens = boundary.work.limit_tokens
    bands = together([boundary.work.seen(now_s), *others]).bands
    below, above = list[Band](), list[Band]()
    for band in bands:
        (below if edge_tokens(band.number, limit_tokens) <= boundary.tokens else above).append(band)
    one = station_of(smaller, held_tokens=mean_need_tokens(below, limit_tokens))
    other = station_of(larger, held_tokens=mean_need_tokens(above, limit_tokens))
    if one is None or other is None:
        return None
    return boundary.decide(now_s, one, other, others)


def station_of(pool: LivePool, *, held_tokens: float = 0.0) -> Station | None:
    """The pool's replicas; None while their speed is not known.

    Args:
        pool: as it is.
        held_tokens: of a request in the KV cache, on average, so that no batch is taken for full that would not fit;
            0: not known.
    """
    speed = pool.speed
    if speed is None or speed.prefill_tokens_per_s <= 0:
        return None
    batch = _full_batch(speed, held_tokens)
    return Station(
        replicas=pool.replicas,
        prefill_tokens_per_s=speed.prefill_tokens_per_s,
        token_s=step_of(speed, batch) / batch,
    )


def mean_need_tokens(bands: Sequence[Band], limit_tokens: int) -> float:
    """What a request of these bands holds in the KV cache at its end, on average; 0: there is none."""
    requests = sum(band.requests_per_s for band in bands)
    if requests <= 0:
        return 0.0
    held = sum(band.requests_per_s * edge_tokens(band.number, limit_tokens) for band in bands)
    return MIDDLE_RATIO * held / requests


def _full_batch(speed: PoolSpeed, held_tokens: float) -> float:
    """Sequences that a replica decodes when it has enough to do: by its own limit, and by its KV cache."""
    batch = float(speed.max_running) or speed.decode_sequences
    if speed.kv_tokens and held_tokens > 0:
        batch = min(batch, KV_FULL_RATIO * speed.kv_tokens / held_tokens)
    return max(batch, 1.0)
