"""Prompt tokens that would be computed with one cache without end: the least that any routing can reach.

What must not live here: what was computed.
"""

from __future__ import annotations

from cluster.simulator.trace import Trace


def ideal_prefill_tokens(trace: Trace) -> int:
    """Tokens of blocks that no earlier prompt had at the same place; of each prompt one at least.

    A prefix is its blocks in order, so equal blocks behind unequal ones do not count.
    """
    known: set[int] = set()
    computed = 0
    for request in trace.requests:
        shared = 0
        for block in request.blocks:
            if block not in known:
                break
            shared += 1
        known.update(request.blocks)
        computed += max(1, request.prompt_tokens - shared * trace.block_tokens)
    return computed
