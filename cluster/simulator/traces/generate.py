"""Requests drawn from a fit: the same seed makes the same trace.

What must not live here: the fit (fit.py), when requests come (burst.py).
"""

from __future__ import annotations

import random
from bisect import bisect_left
from collections.abc import Sequence

from cluster.simulator.trace import Trace, TraceRequest
from cluster.simulator.traces.burst import draw_arrivals
from cluster.simulator.traces.fit import Sharing, TraceFit, band_of, quantile

PARENTS_MAX = 64
"""Earlier requests looked at for one to continue: where none of them is long enough, the longest is taken."""
UNKNOWN_BLOCK_TOKENS = 512


def generate(fit: TraceFit, *, requests: int, seed: int, requests_per_s: float | None = None) -> Trace:
    """A trace of so many requests.

    Args:
        fit: distributions.
        requests: how many.
        seed: of everything that is drawn.
        requests_per_s: in the mean; None is the fit's own rate. Gaps between the turns of a conversation stay: people
            do not think faster where there are more of them.

    Raises:
        ValueError: fewer than one request, or no rate.
    """
    rate = fit.requests_per_s if requests_per_s is None else requests_per_s
    if requests < 1 or rate <= 0:
        raise ValueError(f"{requests} requests at {rate} a second")
    rng = random.Random(seed)  # noqa: S311 - a seeded simulation, not a secret
    arrivals = draw_arrivals(requests, rate=rate, bursts=fit.bursts, rng=rng)
    made: list[TraceRequest] = []
    prefixes = _Prefixes(fit.sharing, rng) if fit.sharing is not None else None
    for arrival_s in arrivals:
        prompt_tokens = max(1, round(quantile(fit.prompt_tokens, rng.random())))
        band = band_of(prompt_tokens, fit.prompt_tokens)
        blocks = prefixes.blocks(made, arrival_s, prompt_tokens, band) if prefixes is not None else ()
        made.append(
            TraceRequest(
                arrival_s=arrival_s,
                prompt_tokens=prompt_tokens,
                output_tokens=max(1, round(quantile(fit.output_tokens[band], rng.random()))),
                blocks=blocks,
            )
        )
    block_tokens = fit.sharing.block_tokens if fit.sharing is not None else UNKNOWN_BLOCK_TOKENS
    return Trace(name=fit.name, block_tokens=block_tokens, requests=tuple(made))


class _Prefixes:
    """Gives prompts their blocks, and remembers which numbers are used."""

    def __init__(self, sharing: Sharing, rng: random.Random) -> None:
        self._sharing = sharing
        self._rng = rng
        self._root = tuple(range(sharing.root_blocks))
        self._fresh = sharing.root_blocks

    def blocks(
        self, earlier: Sequence[TraceRequest], arrival_s: float, prompt_tokens: int, band: int
    ) -> tuple[int, ...]:
        """Blocks of a prompt that comes now."""
        sharing = self._sharing
        count = -(-prompt_tokens // sharing.block_tokens)
        head = self._root[:count]
        if self._rng.random() < sharing.shares[band]:
            wanted = round(quantile(sharing.ratios, self._rng.random()) * count)
            since_s = arrival_s - quantile(sharing.gaps_s, self._rng.random())
            head = self._continued(earlier, since_s, min(max(wanted, len(head) + 1), count)) or head
        begin, self._fresh = self._fresh, self._fresh + count - len(head)
        return (*head, *range(begin, self._fresh))

    def _continued(self, earlier: Sequence[TraceRequest], since_s: float, wanted: int) -> tuple[int, ...]:
        """The head of an earlier prompt that came around `since_s`: of the nearest that is long enough."""
        place = bisect_left(earlier, since_s, key=lambda request: request.arrival_s)
        near = earlier[max(0, place - PARENTS_MAX // 2) : place + PARENTS_MAX // 2]
        if not near:
            return ()
        fitting = [request for request in near if len(request.blocks) >= wanted]
        # The shortest that is long enough: a conversation's next turn has nearly all of the last one.
        parent = min(fitting, key=lambda one: len(one.blocks)) if fitting else max(near, key=lambda o: len(o.blocks))
        return parent.blocks[:wanted]
