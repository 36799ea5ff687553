"""A quality run's figures for programs, as JSON can hold them.

What must not live here: judging, texts (table.py).
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from cluster.simulator.report.table import finite
from loadtest.quality.answered import Asked, Condition, QualityRun
from loadtest.quality.held import cached_ratio
from loadtest.quality.verdict import Accuracy, Comparison, Verdict, accuracy, grouped


def as_json(run: QualityRun, found: Verdict) -> dict[str, Any]:
    """A run and its verdict; what is not known is null."""
    plain: dict[str, Any] = finite(
        {
            "begun": run.begun,
            "api": run.api,
            "arguments": dict(run.arguments),
            "passes": found.passes,
            "conditions": {str(one): _condition(run, one, found) for one in run.conditions},
            "comparisons": [comparison_json(one) for one in found.comparisons],
        }
    )
    return plain


def comparison_json(found: Comparison) -> dict[str, Any]:
    """Two conditions, with every question whose answers differ."""
    data = asdict(found) | {"agrees": found.agrees, "difference": found.pairs.difference}
    plain: dict[str, Any] = finite(data)
    return plain


def _condition(run: QualityRun, condition: Condition, found: Verdict) -> dict[str, Any]:
    replies = [one for one in run.replies(condition).values() if not one.error]
    return {
        **_accuracy(accuracy(run.asked, condition)),
        "answered": len(replies),
        "cached_ratio": cached_ratio(replies),
        "pools": sorted({one.pool for one in replies}),
        "replicas": sorted({one.replica for one in replies}),
        "failings": [why for name, why in found.failings if name == condition],
        "groups": [
            {"kind": kind, "language": language, "prompt_tokens": length, "depth": depth}
            | _accuracy(accuracy(asked, condition))
            for (kind, language, length, depth), asked in grouped(run.asked, _cell).items()
        ],
    }


def _cell(one: Asked) -> tuple[str, str, int, float | None]:
    return str(one.kind), str(one.language), one.prompt_tokens, one.depth


def _accuracy(found: Accuracy) -> dict[str, Any]:
    low, high = found.interval
    return {**asdict(found), "accuracy": found.ratio, "low": low, "high": high}
