"""A comparison as rows of text and as JSON.

What must not live here: judging.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from statistics import median
from typing import Any

from loadtest.judges.agreement import (
    JUDGED,
    TOLERANCE_RATIO,
    Agreement,
    Comparison,
    Verdict,
    chance_ratio,
    compared,
)
from loadtest.judges.taken import Figures
from loadtest.report.table import NONE, number, seconds

TITLES: Mapping[str, str] = {
    "ttft_mean_s": "TTFT mean, from sending",
    "ttft_p50_s": "TTFT p50, from sending",
    "ttft_p95_s": "TTFT p95, from sending",
    "tpot_mean_s": "TPOT mean",
    "tpot_p95_s": "TPOT p95",
    "output_tokens_per_s": "output tokens a second",
    "requests_per_s": "requests a second",
    "due_ttft_p50_s": "TTFT p50, from due",
    "due_ttft_p95_s": "TTFT p95, from due",
    "late_p95_s": "sent late by, p95",
    "prompt_tokens": "prompt tokens, mean",
    "output_tokens": "output tokens, mean",
}
"""In the order of the table; those that are not judged last."""
SAYINGS: Mapping[Verdict, str] = {
    Verdict.AGREES: "Both measure the same within noise.",
    Verdict.DIFFERS: "They do not measure the same.",
    Verdict.NOISY: (
        "It is too noisy to tell: no figure differs, but rounds of the same tool lie too far apart, or medians further "
        "than the noise. Repeat it in quiet, or with more requests."
    ),
    Verdict.UNKNOWN: "They cannot be compared.",
}
HEADS = ("median of rounds (least to most)", "ours", "theirs", "theirs to ours", "noise", "")


def rows(found: Agreement, ours: Sequence[Figures], theirs: Sequence[Figures]) -> list[tuple[str, ...]]:
    """Under `HEADS`."""
    judged = {one.name: one for one in found.figures}
    pairs = [judged.get(name) or compared(name, ours, theirs) for name in TITLES]
    return [_row(one, verdict=str(one.verdict) if one.name in judged else "") for one in pairs]


def closing(found: Agreement, rounds: int) -> list[str]:
    """What is said below the table."""
    said = [f"Take care: {one}." for one in found.faults]
    chance = (
        f"A figure differs where all {rounds} rounds of one lie above all of the other, and the medians are over "
        f"{TOLERANCE_RATIO:.0%} apart; of tools that are the same, that would be {chance_ratio(rounds):.1%} of figures "
        "by chance."
    )
    return [*said, SAYINGS[found.verdict], chance]


def as_json(found: Agreement, ours: Sequence[Figures], theirs: Sequence[Figures]) -> dict[str, Any]:
    """For programs; what was not measured is nan until the caller makes it null."""
    return {
        "verdict": str(found.verdict),
        "faults": list(found.faults),
        "chance_ratio": chance_ratio(len(ours)),
        "figures": {
            one.name: {
                "ours": median(one.ours),
                "theirs": median(one.theirs),
                "ratio": one.ratio,
                "noise_ratio": one.noise_ratio,
                "verdict": str(one.verdict),
            }
            for one in found.figures
        },
        "rounds": {"ours": [asdict(one) for one in ours], "theirs": [asdict(one) for one in theirs]},
    }


def _row(one: Comparison, *, verdict: str) -> tuple[str, ...]:
    shown = seconds if one.name.endswith("_s") and not one.name.endswith("_per_s") else number
    ratio, noise = one.ratio, one.noise_ratio
    return (
        TITLES[one.name],
        *(_cell(values, shown) for values in (one.ours, one.theirs)),
        NONE if ratio != ratio else f"{ratio:.3f}",  # noqa: PLR0124 - nan
        NONE if noise != noise or one.name not in JUDGED else f"{noise:.0%}",  # noqa: PLR0124 - nan
        verdict,
    )


def _cell(values: Sequence[float], shown: Any) -> str:
    middle = shown(median(values))
    return middle if middle == NONE else f"{middle} ({shown(min(values))} to {shown(max(values))})"
