"""Judges' parts for tests: a load, where it goes, rounds with given figures.

What must not live here: tests.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from loadtest.judges.load import Goal, Load, Order
from loadtest.judges.taken import Figures

LOAD = Load(prompt_tokens=60, output_tokens=8, requests=5, rate_per_s=2.5)
FIGURES = Figures(
    answered=50,
    failed=0,
    prompt_tokens=512,
    output_tokens=64,
    ttft_mean_s=0.2,
    ttft_p50_s=0.18,
    ttft_p95_s=0.4,
    due_ttft_p50_s=0.19,
    due_ttft_p95_s=0.41,
    late_p95_s=0.01,
    tpot_mean_s=0.02,
    tpot_p95_s=0.03,
    output_tokens_per_s=128,
    requests_per_s=2,
)


def goal(tokenizer: Path, **fields: Any) -> Goal:
    """A gateway that nobody asks."""
    usual = {
        "url": "http://gateway.example",
        "model": "tiny",
        "context_tokens": 4096,
        "tokenizer": tokenizer,
        "template_tokens": 10,
    }
    return Goal(**{**usual, **fields})


def order(folder: Path, *, load: Load = LOAD, **fields: Any) -> Order:
    """An order whose tokenizer is in its own folder."""
    return Order(folder=folder, load=load, goal=goal(folder, **fields), seed=7, fresh=123_456)


def figures(**fields: float) -> Figures:
    """Usual figures but for what is given."""
    return replace(FIGURES, **fields)
