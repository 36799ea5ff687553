"""Rounds and turns become figures: medians, percentiles, ratios, and whether a target was met.

What must not live here: measuring, drawing.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from loadtest.prefix.routing import POLICIES, PolicyRun
from loadtest.prefix.scrape import added
from loadtest.prefix.ttft import Round, Timed

MEGA = 1_000_000
DIGITS = 4
REDIS_SPEEDUP_MIN = 10.0
MISS_OVERHEAD_MAX = 0.01
TO_ROUND_ROBIN_MAX = 0.5
TO_IDEAL_MAX = 1.1
KINDS: dict[str, Callable[[Round], Timed]] = {
    "cold": lambda one: one.cold,
    "local": lambda one: one.local,
    "redis": lambda one: one.redis,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A figure and what it should be."""

    name: str
    figure: float | None
    limit: float
    is_most: bool
    """Whether `limit` is the most it may be, and not the least."""

    @property
    def is_met(self) -> bool | None:
        """None where the figure could not be had."""
        if self.figure is None:
            return None
        return self.figure <= self.limit if self.is_most else self.figure >= self.limit

    def row(self) -> dict[str, Any]:
        """As plain data."""
        return {
            "name": self.name,
            "figure": _rounded(self.figure),
            "most" if self.is_most else "least": self.limit,
            "met": self.is_met,
        }


def ttft_row(rounds: Sequence[Round]) -> dict[str, Any]:
    """The figures of the first part; null where no round gave a valid one, with the reasons in `invalid`."""
    row: dict[str, Any] = {
        "rounds": len(rounds),
        "prompt_tokens": int(median(one.cold.prompt_tokens for one in rounds)),
    }
    spread: dict[str, list[float]] = {}
    invalid: list[str] = []
    for kind, timed in KINDS.items():
        times = [timed(one) for one in rounds]
        valid = [each.ttft_s for each in times if each.why is None]
        row[f"ttft_{kind}_s"] = _rounded(median(valid)) if valid else None
        row[f"valid_{kind}"] = len(valid)
        if valid:
            spread[f"ttft_{kind}_s"] = [round(min(valid), DIGITS), round(max(valid), DIGITS)]
        invalid += [f"round {number}, {kind}: {each.why}" for number, each in enumerate(times, 1) if each.why]
        row[f"cached_{kind}_tokens"] = int(median(each.cached_tokens for each in times))
    cold_s, redis_s = row["ttft_cold_s"], row["ttft_redis_s"]
    row["redis_speedup"] = _rounded(cold_s / redis_s) if cold_s and redis_s else None
    misses = [one for one in rounds if one.cold.why is None]
    missed_s = sum(one.cold.ttft_s for one in misses)
    spent = added(one.miss for one in misses)
    row["miss_scheduler_ratio"] = _rounded(spent.scheduler_s / missed_s, digits=6) if missed_s else None
    row["miss_overhead_ratio"] = None
    row["misses_asked"] = spent.asked_prompts
    if not misses:
        invalid.append("miss_overhead_ratio: no prompt was cold")
    elif spent.ask_s is None:
        invalid.append("miss_overhead_ratio: the replicas do not export what their questions to Redis took")
    else:
        row["miss_overhead_ratio"] = _rounded((spent.scheduler_s + spent.ask_s) / missed_s, digits=6)
    moved = added(one.moved for one in rounds)
    row["load_mb_s"] = _speed(moved.read_bytes, moved.read_s)
    row["store_mb_s"] = _speed(moved.written_bytes, moved.write_s)
    row["loaded_mb"], row["stored_mb"] = _rounded(moved.read_bytes / MEGA), _rounded(moved.written_bytes / MEGA)
    return {**row, "dropped_blocks": int(moved.dropped_blocks), "failures": int(moved.failures), "spread": spread,
            "invalid": invalid}  # fmt: skip


def routing_rows(runs: Sequence[PolicyRun], facts: Mapping[str, Any], *, block_tokens: int) -> list[dict[str, Any]]:
    """A row a policy, each with `facts` of the cluster; ratios to round-robin are null without its run."""
    base = next((_prefilled(run) for run in runs if run.policy == POLICIES[0]), None)
    return [{**facts, **_routing_row(run, base, block_tokens)} for run in runs]


def _routing_row(run: PolicyRun, base: int | None, block_tokens: int) -> dict[str, Any]:
    times = sorted(one.answer.ttft_s for one in run.sent)
    prefilled = _prefilled(run)
    by_replica = Counter(one.answer.replica for one in run.sent)
    return {
        "policy": run.policy,
        "requests": len(run.sent),
        "ttft_p50_s": _rounded(percentile(times, 0.5)),
        "ttft_p99_s": _rounded(percentile(times, 0.99)),
        "prompt_tokens": sum(one.answer.prompt_tokens for one in run.sent),
        "prefilled_tokens": prefilled,
        "ideal_tokens": run.ideal_tokens,
        "prefilled_ratio_to_ideal": _rounded(prefilled / run.ideal_tokens),
        "prefilled_ratio_to_round_robin": _rounded(prefilled / base) if base else None,
        "loaded_tokens": int(run.moved.loaded_blocks) * block_tokens,
        "distinct_tokens": run.distinct_tokens,
        "requests_by_replica": sorted(by_replica.values(), reverse=True),
        "miscounted_prompts": run.miscounted,
    }


def targets(ttft: dict[str, Any] | None, routing: Sequence[dict[str, Any]]) -> list[Target]:
    """What the figures should be, for the parts that were measured."""
    found = []
    if ttft is not None:
        found += [
            Target(name="from Redis, times faster than cold", figure=ttft["redis_speedup"], limit=REDIS_SPEEDUP_MIN,
                   is_most=False),
            Target(name="tier's share of TTFT on misses", figure=ttft["miss_overhead_ratio"],
                   limit=MISS_OVERHEAD_MAX, is_most=True),
        ]  # fmt: skip
    for row in routing:
        if row["policy"] == "prefix" and row["tier"] == "off":
            where = f"policy prefix, cache share {row['cache_share']:g}, prefilled to"
            found += [
                Target(name=f"{where} ideal", figure=row["prefilled_ratio_to_ideal"], limit=TO_IDEAL_MAX, is_most=True),
                Target(name=f"{where} round-robin", figure=row["prefilled_ratio_to_round_robin"],
                       limit=TO_ROUND_ROBIN_MAX, is_most=True),
            ]  # fmt: skip
    return found


def percentile(ordered: Sequence[float], share: float) -> float:
    """The nearest-rank percentile of sorted values.

    Raises:
        ValueError: there are none.
    """
    if not ordered:
        raise ValueError("no values")
    return ordered[max(math.ceil(share * len(ordered)) - 1, 0)]


def _prefilled(run: PolicyRun) -> int:
    return sum(one.answer.computed_tokens for one in run.sent)


def _speed(size_bytes: float, seconds: float) -> float | None:
    return _rounded(size_bytes / seconds / MEGA) if seconds > 0 and size_bytes > 0 else None


def _rounded(value: float | None, *, digits: int = DIGITS) -> float | None:
    return None if value is None else round(value, digits)
