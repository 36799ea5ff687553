"""Goodput, TTFT and ITL by prompt length, and what it took: one run in numbers.

A request that was refused or lost counts: its TTFT is infinite, its ITL is not known, and it is not within the service
level. So a policy cannot better its percentiles by refusing. What must not live here: tables, pages.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil, inf, isnan

from cluster.core.autoscaling import ServiceLevel
from cluster.core.lease import PoolName
from cluster.simulator.outcome import Fate, PoolUse, Record, Result
from cluster.simulator.report.prefill import ideal_prefill_tokens
from cluster.simulator.trace import Trace

BANDS = (0, 4_096, 32_768, 131_072)
"""Where bands of prompts begin: chat, documents, long, beyond what public traces have. The first is the issue's own."""
LONG_TOKENS = BANDS[2]
"""What comparisons call long."""
PERCENTILES = (50, 95, 99)
LOST = frozenset({Fate.LOST, Fate.GAVE_UP, Fate.OPEN})
"""Accepted, and then not answered in full; whatever else is not done was refused."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Percentiles:
    """Nearest rank: the smallest value that so many of a hundred do not exceed; inf where those were not served."""

    p50: float
    p95: float
    p99: float


@dataclass(frozen=True, slots=True, kw_only=True)
class BandFigures:
    """Requests whose prompts have `from_tokens` or more, and fewer than the next band's; or all."""

    from_tokens: int
    requests: int
    done: int
    refused: int
    lost: int
    good: int
    """Done, and within the service level."""
    ttft_s: Percentiles
    """Of all requests; inf for those that were refused or lost."""
    itl_s: Percentiles
    """Of those with two tokens or more."""

    @property
    def good_ratio(self) -> float:
        """Of all requests, those within the service level; 1 where there are none."""
        return self.good / self.requests if self.requests else 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """One run."""

    trace: str
    policy: str
    offered_per_s: float
    """Requests that came, over the time in which they came."""
    goodput_per_s: float
    """Those of them that were answered within the service level."""
    every: BandFigures
    bands: tuple[BandFigures, ...]
    """Those with requests."""
    long: BandFigures
    """All with prompts of `LONG_TOKENS` or more."""
    prompt_tokens: int
    prefilled_tokens: int
    """Computed, again after a preemption included."""
    ideal_prefill_tokens: int
    """With one cache without end."""
    output_tokens: int
    gpu_hours: float
    """From each replica's order to the last answer, start-up included."""
    preemptions: int
    busy_ratio: float
    """Of the replicas' time, what they spent in steps."""

    @property
    def short(self) -> BandFigures | None:
        """The first band, under 4,096 tokens; None where it has no requests."""
        return next((band for band in self.bands if band.from_tokens == BANDS[0]), None)


def figures_of(result: Result, trace: Trace, *, level: ServiceLevel, ideal_tokens: int | None = None) -> Figures:
    """The figures of a run.

    Args:
        result: the run.
        trace: what was run.
        level: what counts as good.
        ideal_tokens: `ideal_prefill_tokens` of the trace, where it is known already.
    """
    rows: list[list[Record]] = [[] for _ in BANDS]
    for record in result.outcomes:
        rows[bisect_right(BANDS, record.prompt_tokens) - 1].append(record)
    every = [record for band in rows for record in band]
    total = band_figures(every, from_tokens=0, level=level)
    arrivals_s = max((record.arrived_s for record in every), default=0.0)
    per_s = 1.0 / arrivals_s if arrivals_s else 0.0
    return Figures(
        trace=result.trace,
        policy=result.router,
        offered_per_s=len(every) * per_s,
        goodput_per_s=total.good * per_s,
        every=total,
        bands=tuple(
            band_figures(band, from_tokens=begin, level=level) for begin, band in zip(BANDS, rows, strict=True) if band
        ),
        long=band_figures(
            [record for record in every if record.prompt_tokens >= LONG_TOKENS], from_tokens=LONG_TOKENS, level=level
        ),
        prompt_tokens=sum(record.prompt_tokens for record in every),
        prefilled_tokens=sum(record.prefilled_tokens for record in every),
        ideal_prefill_tokens=ideal_prefill_tokens(trace) if ideal_tokens is None else ideal_tokens,
        output_tokens=sum(record.output_tokens for record in every),
        gpu_hours=sum(use.gpu_s for use in result.pools.values()) / 3600.0,
        preemptions=sum(record.preemptions for record in every),
        busy_ratio=_busy_ratio(result.pools),
    )


def band_figures(records: Sequence[Record], *, from_tokens: int, level: ServiceLevel) -> BandFigures:
    """The figures of these requests."""
    done = [record for record in records if record.fate is Fate.DONE]
    lost = sum(record.fate in LOST for record in records)
    waits = [record.ttft_s for record in done] + [inf] * (len(records) - len(done))
    return BandFigures(
        from_tokens=from_tokens,
        requests=len(records),
        done=len(done),
        refused=len(records) - len(done) - lost,
        lost=lost,
        good=sum(is_good(record, level) for record in done),
        ttft_s=percentiles(waits),
        itl_s=percentiles([itl_s for record in done if not isnan(itl_s := record.itl_s)]),
    )


def is_good(record: Record, level: ServiceLevel) -> bool:
    """Whether a request got what is promised: done, its first token and the others in time."""
    if record.fate is not Fate.DONE:
        return False
    limit_s = level.ttft_s + level.ttft_s_per_1k_tokens * record.prompt_tokens / 1000.0
    return record.ttft_s <= limit_s and not record.itl_s > level.itl_s  # nan: one token, no interval


def percentiles(values: Iterable[float]) -> Percentiles:
    """Of these values; 0 where there are none."""
    ordered = sorted(values)
    p50, p95, p99 = (percentile(ordered, percent) for percent in PERCENTILES)
    return Percentiles(p50=p50, p95=p95, p99=p99)


def percentile(ordered: Sequence[float], percent: float) -> float:
    """Nearest rank among values in order; 0 where there are none."""
    return ordered[max(ceil(percent / 100.0 * len(ordered)) - 1, 0)] if ordered else 0.0


def _busy_ratio(pools: Mapping[PoolName, PoolUse]) -> float:
    replica_s = sum(use.replica_s for use in pools.values())
    return sum(use.busy_s for use in pools.values()) / replica_s if replica_s else 0.0
