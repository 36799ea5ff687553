"""A run in numbers: all requests, and by label, prompt length, pool and tenant.

What must not live here: tables, pages, thresholds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from cluster.simulator.report.table import finite
from loadtest.record import Record, Run
from loadtest.report.distribution import Distribution, distribution
from loadtest.report.groups import Group, by_band, by_label, by_pool, by_tenant, group_of
from loadtest.report.growth import Growth, growths
from loadtest.report.knee import Knee, find_knee
from loadtest.report.level import Level
from loadtest.report.timeline import Step, timeline
from loadtest.report.times import lag_s


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorCount:
    """One kind of failure."""

    error: str
    code: str
    """The server's own word; empty where it said none."""
    status: int
    requests: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """One run; requests of its warm-up are in `steps` alone."""

    scenario: str
    api: str
    begun: str
    arguments: Mapping[str, Any]
    level: Level
    span_s: float
    """From the end of the warm-up to the run's end or its last answer, whichever is later: what rates are over."""
    every: Group
    labels: tuple[Group, ...]
    bands: tuple[Group, ...]
    pools: tuple[Group, ...]
    tenants: tuple[Group, ...]
    warmup_requests: int
    offered_per_s: float
    """Requests that were due, a second."""
    answered_per_s: float
    goodput_per_s: float
    """Requests within the service level, a second."""
    prompt_tokens_per_s: float
    """Of answered requests, cached ones included; as are the next."""
    output_tokens_per_s: float
    lag_s: Distribution
    """How late requests were sent."""
    errors: tuple[ErrorCount, ...]
    """The most frequent first."""
    client: Mapping[str, float]
    stopped: str
    warnings: tuple[str, ...]
    """The client's, about itself."""
    knee: Knee | None
    growth: tuple[Growth, ...]
    steps: tuple[Step, ...]


def counted(run: Run) -> list[Record]:
    """The requests that sums are over: those due after the warm-up."""
    return [record for record in run.records if record.due_s >= run.warmup_s]


def summary(run: Run, level: Level) -> Summary:
    """The figures of a run."""
    records = counted(run)
    every = group_of("all", records, level)
    end_s = max([run.seconds, *(record.ended_s for record in records)])
    span_s = max(end_s - run.warmup_s, 0.0)
    per_s = 1 / span_s if span_s else 0.0
    return Summary(
        scenario=run.scenario,
        api=run.api,
        begun=run.begun,
        arguments=run.arguments,
        level=level,
        span_s=span_s,
        every=every,
        labels=by_label(records, level),
        bands=by_band(records, level),
        pools=by_pool(records, level),
        tenants=by_tenant(records, level),
        warmup_requests=len(run.records) - len(records),
        offered_per_s=every.requests * per_s,
        answered_per_s=every.answered * per_s,
        goodput_per_s=every.good * per_s,
        prompt_tokens_per_s=every.prompt_tokens * per_s,
        output_tokens_per_s=every.output_tokens * per_s,
        lag_s=distribution(map(lag_s, records)),
        errors=_errors(records),
        client=run.client,
        stopped=run.stopped,
        warnings=tuple(run.warnings),
        knee=find_knee(records, level),
        growth=growths(run.metrics, run.warmup_s),
        steps=timeline(run.records, run.seconds),
    )


def as_json(found: Summary) -> dict[str, Any]:
    """For programs; what was not measured is null."""
    data = asdict(found)
    for name in ("labels", "bands", "pools", "tenants"):
        for row, group in zip(data[name], getattr(found, name), strict=True):
            row |= {"good_ratio": group.good_ratio, "hit_ratio": group.hit_ratio}
    data["every"] |= {"good_ratio": found.every.good_ratio, "hit_ratio": found.every.hit_ratio}
    plain: dict[str, Any] = finite(data)
    return plain


def _errors(records: Sequence[Record]) -> tuple[ErrorCount, ...]:
    counts = Counter((record.error, record.code, record.status) for record in records if record.error)
    return tuple(
        ErrorCount(error=error, code=code, status=status, requests=requests)
        for (error, code, status), requests in sorted(counts.items(), key=lambda entry: (-entry[1], entry[0]))
    )
