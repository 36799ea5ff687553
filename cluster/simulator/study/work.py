"""How much work requests are, and where to divide them so that pools have equal shares of it.

What must not live here: running anything.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import NamedTuple

from cluster.core.capacity.step import StepCost, prefill_pairs
from cluster.simulator.trace import Trace

USUAL_BATCH = 16
"""Sequences that share a decode step's fixed cost; only the ratio between short and long requests depends on it."""
BOUNDARY_STEP_TOKENS = 512
"""Boundaries are round numbers."""


class Work(NamedTuple):
    """One request."""

    context_tokens: int
    """By which it is given a pool: its prompt, and the output it is taken to ask for."""
    seconds: float
    """Of a replica."""


def works(trace: Trace, cost: StepCost, *, output_tokens: int) -> list[Work]:
    """The work of each request, what earlier prompts had taken off; shortest context first.

    Args:
        trace: the requests.
        cost: the replica's.
        output_tokens: what a request is taken to ask for that gets no more.
    """
    known: set[int] = set()
    found = []
    for request in trace.requests:
        shared = 0
        for block in request.blocks:
            if block not in known:
                break
            shared += 1
        known.update(request.blocks)
        prompt_tokens = request.prompt_tokens
        cached = min(shared * trace.block_tokens, prompt_tokens - 1)
        pairs = prefill_pairs(cached, prompt_tokens)
        prefill_s = cost.request_s + (prompt_tokens - cached) * cost.token_s + pairs * cost.attention_s
        fixed_s = (cost.base_s + cost.weights_s) / USUAL_BATCH + cost.token_s + cost.sequence_s
        step_s = fixed_s + prompt_tokens * cost.context_token_s
        found.append(
            Work(prompt_tokens + max(request.output_tokens, output_tokens), prefill_s + request.output_tokens * step_s)
        )
    found.sort()
    return found


def boundary(ordered: Sequence[Work], share: float) -> int:
    """The context limit under which this share of the work is, in steps of `BOUNDARY_STEP_TOKENS`."""
    sums = list(accumulate(work.seconds for work in ordered))
    if not sums:
        return BOUNDARY_STEP_TOKENS
    wanted = share * sums[-1]
    place = next((place for place, total in enumerate(sums) if total >= wanted), len(sums) - 1)
    return -(-ordered[place].context_tokens // BOUNDARY_STEP_TOKENS) * BOUNDARY_STEP_TOKENS


def share_below(ordered: Sequence[Work], limit_tokens: int) -> float:
    """The share of the work of requests that a limit admits."""
    total = sum(work.seconds for work in ordered)
    return sum(work.seconds for work in ordered if work.context_tokens <= limit_tokens) / total if total else 0.0
