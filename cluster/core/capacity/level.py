"""How many replicas meet a service level, and what decides that number.

What must not live here: the model behind it (load.py), choosing cards and boundaries (cluster/planner).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from math import inf

from cluster.core.autoscaling.target import ServiceLevel
from cluster.core.capacity.load import LoadOutcome, OfferedLoad, ReplicaSpec, RequestClass, outcome, own_prefill_s

MET_RATIO = 0.95
"""Of the requests of each band of lengths, those that are to get their time to first token. Of each band, for the level
is by length: in a mean over all, long prompts, which are given much time, would make up for short ones that wait."""
BAND_TOKENS = 4_096
"""The first band of prompt lengths ends here, each other is a doubling."""
USE_MAX = 0.85
"""Of a replica's time. Above it, waiting grows with the smallest error of the model, and no room is left for a replica
that fails."""
KV_MAX = 0.8
"""Of the KV cache, in the mean: the number that runs varies, and a full cache preempts."""
REPLICAS_MAX = 1_000
"""As the configuration allows."""


class Limit(StrEnum):
    """What keeps one replica fewer from sufficing."""

    TTFT = "ttft"
    ITL = "itl"
    USE = "use"
    KV = "kv"
    RUNNING = "running"
    NONE = "none"
    """One replica is enough."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sufficient:
    """A number of replicas that meets the level."""

    replicas: int
    limit: Limit
    met_ratio: float
    """Of the requests of the band that fares worst, those that get their time to first token."""
    outcome: LoadOutcome


@dataclass(frozen=True, slots=True, kw_only=True)
class Unreachable:
    """No number of such replicas meets it."""

    why: str


def replicas_for(load: OfferedLoad, spec: ReplicaSpec, level: ServiceLevel) -> Sufficient | Unreachable:
    """The fewest replicas that meet `level`: each limit eases as their number grows, so halving finds it."""
    why = _out_of_reach(load, spec, level)
    at_most = None if why is not None else _missed(load, spec, level, REPLICAS_MAX)
    if at_most is not None:
        why = f"not even {REPLICAS_MAX:,} such replicas would do ({at_most})"
    if why is not None:
        return Unreachable(why=why)
    too_few, enough = 0, 1
    while _missed(load, spec, level, enough) is not None:
        too_few, enough = enough, min(2 * enough, REPLICAS_MAX)
    while enough - too_few > 1:
        middle = (too_few + enough) // 2
        if _missed(load, spec, level, middle) is None:
            enough = middle
        else:
            too_few = middle
    found = outcome(load, spec, enough)
    limit = _missed(load, spec, level, enough - 1) if enough > 1 else Limit.NONE
    return Sufficient(
        replicas=enough,
        limit=limit or Limit.NONE,
        met_ratio=met_ratio(load, spec, level, found),
        outcome=found,
    )


def met_ratio(load: OfferedLoad, spec: ReplicaSpec, level: ServiceLevel, found: LoadOutcome) -> float:
    """The share of requests whose time to first token is within the level for their length, of the worst band."""
    if found.slowdown == inf:
        return 0.0
    late = []
    for one in load.classes:
        own_s = own_prefill_s(spec, load, one.prompt_tokens) * found.slowdown + found.itl_s
        late.append((one, found.waiting.over(allowed_s(level, one.prompt_tokens) - own_s)))
    return 1 - _worst_band(late)


def allowed_s(level: ServiceLevel, prompt_tokens: int) -> float:
    """Time to the first token that the level gives a prompt."""
    return level.ttft_s + level.ttft_s_per_1k_tokens * prompt_tokens / 1_000


def _missed(load: OfferedLoad, spec: ReplicaSpec, level: ServiceLevel, replicas: int) -> Limit | None:
    """The first limit that so many replicas do not keep."""
    found = outcome(load, spec, replicas)
    if found.use_ratio > USE_MAX:
        return Limit.USE
    if found.itl_s > level.itl_s:
        return Limit.ITL
    if found.kv_ratio > KV_MAX:
        return Limit.KV
    if found.running > spec.max_running:
        return Limit.RUNNING
    return Limit.TTFT if met_ratio(load, spec, level, found) < MET_RATIO else None


def _out_of_reach(load: OfferedLoad, spec: ReplicaSpec, level: ServiceLevel) -> str | None:
    """Why even an idle replica does not meet the level."""
    step_s = spec.cost.base_s + spec.cost.weights_s + spec.cost.sequence_s
    if step_s > level.itl_s:
        return f"a step that decodes takes {step_s * 1000:.0f} ms at least, over itl = {level.itl_s * 1000:.0f} ms"
    late = []
    worst = ""
    for one in load.classes:
        own_s, most_s = own_prefill_s(spec, load, one.prompt_tokens) + step_s, allowed_s(level, one.prompt_tokens)
        late.append((one, float(own_s > most_s)))
        if own_s > most_s:
            worst = f"prefill of {one.prompt_tokens:,} tokens alone takes {own_s:.1f} s, over {most_s:.1f} s"
    return worst if _worst_band(late) > 1 - MET_RATIO else None


def _worst_band(late: Sequence[tuple[RequestClass, float]]) -> float:
    """Of the requests of the band that fares worst, the part that is late; given of each class."""
    every: dict[int, float] = {}
    missed: dict[int, float] = {}
    for one, part in late:
        band = (max(one.prompt_tokens, BAND_TOKENS) - 1).bit_length()
        every[band] = every.get(band, 0.0) + one.share
        missed[band] = missed.get(band, 0.0) + one.share * part
    return max(missed[band] / every[band] for band in every)
