"""Traces made of others: faster, shorter, or with a tail of very long prompts.

What must not live here: whole traces that are made up (generate.py).
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from itertools import chain
from math import ceil, exp, log
from operator import attrgetter

from cluster.simulator.trace import Trace, TraceRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class Tail:
    """Prompts beyond what public traces have, whose longest is 126,195 tokens.

    Lengths are log-uniform, so that every doubling of length is equally frequent; arrivals are uniform over the trace
    (a Poisson process of known count); outputs are drawn from the trace's own, at most `output_tokens_max`. No two
    share a prefix, which is the hardest case: nothing of a document is ever cached.
    """

    share: float = 0.01
    """Requests of the tail for each request of the trace."""
    shortest_tokens: int = 65_536
    longest_tokens: int = 262_144
    """Prompt and output together."""
    output_tokens_max: int = 1_024


def with_tail(trace: Trace, tail: Tail, *, seed: int) -> Trace:
    """The trace and its tail; the same seed gives the same.

    Raises:
        ValueError: the tail's numbers contradict each other.
    """
    room_tokens = tail.longest_tokens - tail.output_tokens_max
    if not (0 <= tail.share <= 1 and 1 <= tail.shortest_tokens <= room_tokens):
        raise ValueError(f"a tail from {tail.shortest_tokens} to {room_tokens} tokens for {tail.share} of the requests")
    rng = random.Random(seed)  # noqa: S311 - a seeded simulation, not a secret
    requests = trace.requests
    end_s = duration_s(trace)
    fresh = 1 + max(chain.from_iterable(request.blocks for request in requests), default=0)
    has_blocks = any(request.blocks for request in requests)
    added = []
    for _ in range(ceil(len(requests) * tail.share)):
        prompt_tokens = int(exp(rng.uniform(log(tail.shortest_tokens), log(room_tokens))))
        blocks = -(-prompt_tokens // trace.block_tokens) if has_blocks else 0
        added.append(
            TraceRequest(
                arrival_s=rng.uniform(0.0, end_s),
                prompt_tokens=prompt_tokens,
                output_tokens=min(rng.choice(requests).output_tokens, tail.output_tokens_max),
                blocks=tuple(range(fresh, fresh + blocks)),
            )
        )
        fresh += blocks
    every = sorted(chain(requests, added), key=attrgetter("arrival_s"))
    return replace(trace, name=f"{trace.name}+tail", requests=tuple(every))


def faster(trace: Trace, factor: float) -> Trace:
    """The same requests, `factor` times as many a second.

    Raises:
        ValueError: the factor is not above 0.
    """
    if factor <= 0:
        raise ValueError(f"a trace cannot be {factor} times as fast")
    requests = tuple(request._replace(arrival_s=request.arrival_s / factor) for request in trace.requests)
    return replace(trace, requests=requests)


def first(trace: Trace, requests: int) -> Trace:
    """Its first so many requests."""
    return replace(trace, requests=tuple(trace.requests[:requests]))


def duration_s(trace: Trace) -> float:
    """From the first request to the last."""
    return trace.requests[-1].arrival_s - trace.requests[0].arrival_s if trace.requests else 0.0


def rate_per_s(trace: Trace) -> float:
    """Requests a second in the mean.

    Raises:
        ValueError: all come at one moment.
    """
    seconds = duration_s(trace)
    if not seconds:
        raise ValueError(f"the requests of {trace.name} come at one moment: they have no rate")
    return len(trace.requests) / seconds
