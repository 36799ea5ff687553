"""A summary's figures by name, for thresholds and comparisons.

What must not live here: limits.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import nan

from loadtest.report.distribution import Distribution
from loadtest.report.groups import Group
from loadtest.report.summary import Summary

TIMES = ("ttft", "itl", "tpot", "e2e")
PARTS = ("mean", "p50", "p90", "p95", "p99")
TIME_NAMES = tuple(f"{time}_{part}_s" for time in TIMES for part in PARTS)
RATIO_NAMES = ("good_ratio", "hit_ratio", "error_ratio", "refused_ratio", "failed_ratio")
GROUP_NAMES = (*TIME_NAMES, *RATIO_NAMES, "requests")
"""Of all requests, or of those of one label."""
RUN_NAMES = (
    "offered_per_s", "answered_per_s", "goodput_per_s", "prompt_tokens_per_s", "output_tokens_per_s",
    "lag_p99_s", "knee_good_per_s", "knee_capacity_per_s", "memory_growth_bytes_per_h",
)  # fmt: skip
NAMES = (*GROUP_NAMES, *RUN_NAMES)


def group_figures(group: Group) -> Mapping[str, float]:
    """Under `GROUP_NAMES`; nan where nothing was measured."""
    requests = group.requests

    def share(count: int) -> float:
        return count / requests if requests else nan

    found: dict[str, float] = {}
    for time in TIMES:
        values: Distribution = getattr(group, f"{time}_s")
        found |= {f"{time}_{part}_s": getattr(values, part) for part in PARTS}
    found |= {
        "good_ratio": share(group.good),
        "hit_ratio": group.hit_ratio if group.prompt_tokens else nan,
        "error_ratio": share(group.refused + group.failed),
        "refused_ratio": share(group.refused),
        "failed_ratio": share(group.failed),
        "requests": float(requests),
    }
    return found


def run_figures(found: Summary) -> Mapping[str, float]:
    """Under `NAMES`; nan where nothing was measured."""
    knee = found.knee
    return {
        **group_figures(found.every),
        **{name: getattr(found, name) for name in RUN_NAMES[:5]},
        "lag_p99_s": found.lag_s.p99,
        "knee_good_per_s": nan if knee is None else knee.good_per_s,
        "knee_capacity_per_s": nan if knee is None else knee.capacity_per_s,
        "memory_growth_bytes_per_h": max((one.bytes_per_h for one in found.growth), default=nan),
    }
