"""From single starts to medians, and how they compare.

What must not live here: measuring, tables.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from cluster.core.start import StartStage
from loadtest.start.configuration import Way
from loadtest.start.measure import Start

TARGET_RATIO = 0.5
"""A new replica is to have its first token in at most this share of the time."""


def summary(starts: Sequence[Start]) -> list[dict[str, Any]]:
    """A row for each way that was measured."""
    return [_row(way, [start for start in starts if start.way is way]) for way in Way if _has(starts, way)]


def ratio(rows: Sequence[Mapping[str, Any]]) -> float | None:
    """The forked way's median time to first token over the spawned one's; None without both."""
    medians = {row["way"]: row["first_token_s"] for row in rows}
    if Way.SPAWNED not in medians or Way.FORKED not in medians:
        return None
    return float(medians[Way.FORKED] / medians[Way.SPAWNED])


def _has(starts: Sequence[Start], way: Way) -> bool:
    return any(start.way is way for start in starts)


def _row(way: Way, starts: Sequence[Start]) -> dict[str, Any]:
    totals = [start.first_token_s for start in starts]
    return {
        "way": str(way),
        "starts": len(starts),
        "first_token_s": statistics.median(totals),
        "first_token_spread_s": [min(totals), max(totals)],
        "stages_s": {
            str(stage): statistics.median(start.stages_s.get(stage, 0.0) for start in starts)
            for stage in StartStage
            if any(stage in start.stages_s for start in starts)
        },
        "ttft_s": statistics.median(start.ttft_s for start in starts),
        "replaced_s": statistics.median(start.replaced_s for start in starts),
        "pss_mib": statistics.median(start.pss_mib for start in starts),
        "load_1min": statistics.median(start.load_1min for start in starts),
    }
