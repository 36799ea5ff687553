"""Several copies of a trace as other people's requests, and all of them at once.

What must not live here: copies one after the other (day.py).
"""

from __future__ import annotations

from dataclasses import replace
from itertools import chain
from operator import attrgetter

from cluster.simulator.trace import Trace, TraceRequest
from cluster.simulator.traces.reader import REQUESTS_MAX
from cluster.simulator.traces.shape import duration_s, rate_per_s


class Copies:
    """Makes a trace's requests anew, with prompts and sessions of their own: a copy finds nothing of another cached."""

    def __init__(self, trace: Trace) -> None:
        requests = trace.requests
        self._blocks = 1 + max(chain.from_iterable(request.blocks for request in requests), default=-1)
        self._sessions = 1 + max((one.session for one in requests if one.session is not None), default=-1)

    def request(self, one: TraceRequest, copy: int, arrival_s: float) -> TraceRequest:
        """A request of the trace in one of its copies; copy 0 has the trace's own prompts."""
        return one._replace(
            arrival_s=arrival_s,
            blocks=tuple(block + copy * self._blocks for block in one.blocks) if copy else one.blocks,
            session=None if one.session is None else one.session + copy * self._sessions,
        )


def overlaid(trace: Trace, copies: int) -> Trace:
    """So many such traces at once, each on the trace's own clock and begun elsewhere in it.

    More requests a second with `faster` squeezes minutes into seconds, bursts included; of many groups of users bursts
    even out instead.

    Args:
        trace: two requests or more, not all at one moment.
        copies: 1 or more; the k-th of n begins at k/n of the trace, and goes on with its beginning.

    Raises:
        ValueError: there are no copies, the trace has no rate, or all would not fit in memory.
    """
    if copies < 1:
        raise ValueError(f"{copies} copies at once: 1 or more")
    if copies * len(trace.requests) > REQUESTS_MAX:
        raise ValueError(f"{copies} copies have {copies * len(trace.requests):,} requests, at most {REQUESTS_MAX:,}")
    # One mean gap lies between a copy's last request and its first.
    round_s, begin_s = duration_s(trace) + 1.0 / rate_per_s(trace), trace.requests[0].arrival_s
    anew = Copies(trace)
    every = [
        anew.request(one, copy, (one.arrival_s - begin_s - copy * round_s / copies) % round_s)
        for copy in range(copies)
        for one in trace.requests
    ]
    every.sort(key=attrgetter("arrival_s"))
    return replace(trace, name=f"{trace.name}-x{copies}", requests=tuple(every))
