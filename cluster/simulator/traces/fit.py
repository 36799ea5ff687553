"""A trace in small numbers: quantiles of its lengths, how prompts share prefixes, how unevenly they come.

What must not live here: making requests of them (generate.py), the fits that come with Longreach (library.py).
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from cluster.simulator.trace import Trace, TraceRequest
from cluster.simulator.traces.burst import Bursts, fit_bursts
from cluster.simulator.traces.shape import duration_s

PROBABILITIES = (
    0.0, 0.01, 0.025, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9,
    0.925, 0.95, 0.975, 0.99, 0.995, 0.999, 1.0,
)  # fmt: skip
"""At which quantiles are kept; between two of them a quantile is interpolated."""
PROMPT_BANDS = 4
"""Outputs and sharing are kept for each quarter of the prompts by length: short prompts are answered otherwise."""
FIRST_REQUESTS_MIN = 100
"""Fewer make no distribution."""

Quantiles = tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sharing:
    """Prefixes that come again: a prompt continues an earlier one, or begins as all do and then is new."""

    block_tokens: int
    root_blocks: int
    """With which all prompts begin: a system prompt."""
    shares: tuple[float, ...]
    """For each band of prompts, how many of them continue an earlier one beyond the root."""
    ratios: Quantiles
    """Of those, how much of the prompt that earlier one has."""
    gaps_s: Quantiles
    """And how long ago its last block was last asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceFit:
    """What `generate` needs; every `Quantiles` belongs to `PROBABILITIES`."""

    name: str
    source: str
    """Where the trace came from, its licence included."""
    requests_per_s: float
    prompt_tokens: Quantiles
    output_tokens: tuple[Quantiles, ...]
    """For each band of prompts."""
    bursts: Bursts
    sharing: Sharing | None
    """None: unknown, prompts then share nothing."""


def quantile(quantiles: Quantiles, probability: float) -> float:
    """Linear between the two next known ones."""
    upper = min(max(bisect_right(PROBABILITIES, probability), 1), len(PROBABILITIES) - 1)
    low, high = PROBABILITIES[upper - 1], PROBABILITIES[upper]
    share = (probability - low) / (high - low)
    return quantiles[upper - 1] + min(max(share, 0.0), 1.0) * (quantiles[upper] - quantiles[upper - 1])


def quantiles_of(values: Sequence[float]) -> Quantiles:
    """Of these values, one or more."""
    ordered = sorted(values)
    last = len(ordered) - 1
    found = []
    for probability in PROBABILITIES:
        place = probability * last
        below = int(place)
        above = min(below + 1, last)
        found.append(round(ordered[below] + (place - below) * (ordered[above] - ordered[below]), 4))
    return tuple(found)


def band_of(prompt_tokens: float, quantiles: Quantiles) -> int:
    """The quarter that a prompt's length falls into, 0 for the shortest."""
    edges = [quantile(quantiles, band / PROMPT_BANDS) for band in range(1, PROMPT_BANDS)]
    return bisect_left(edges, prompt_tokens)


def fit_trace(trace: Trace, *, source: str) -> TraceFit:
    """The fit of a trace.

    Raises:
        ValueError: it has too few requests.
    """
    requests = trace.requests
    if len(requests) < FIRST_REQUESTS_MIN:
        raise ValueError(f"{len(requests)} requests make no distribution: {FIRST_REQUESTS_MIN} at least")
    prompts = quantiles_of([request.prompt_tokens for request in requests])
    outputs: list[list[float]] = [[] for _ in range(PROMPT_BANDS)]
    for request in requests:
        outputs[band_of(request.prompt_tokens, prompts)].append(request.output_tokens)
    every = [float(request.output_tokens) for request in requests]
    return TraceFit(
        name=trace.name,
        source=source,
        requests_per_s=round(len(requests) / max(duration_s(trace), 1e-9), 4),
        prompt_tokens=prompts,
        output_tokens=tuple(quantiles_of(band or every) for band in outputs),
        bursts=fit_bursts([request.arrival_s for request in requests]),
        sharing=_sharing(trace, prompts),
    )


def _sharing(trace: Trace, prompts: Quantiles) -> Sharing | None:
    requests = trace.requests
    if not any(request.blocks for request in requests):
        return None
    root_blocks = _root_blocks(requests)
    last_s: dict[int, float] = {}
    ratios: list[float] = []
    gaps_s: list[float] = []
    seen, continued = [0] * PROMPT_BANDS, [0] * PROMPT_BANDS
    for request in requests:
        band = band_of(request.prompt_tokens, prompts)
        seen[band] += 1
        shared = shared_blocks(request, last_s)
        if shared > root_blocks:
            continued[band] += 1
            ratios.append(shared / len(request.blocks))
            gaps_s.append(request.arrival_s - last_s[request.blocks[shared - 1]])
        last_s.update(dict.fromkeys(request.blocks, request.arrival_s))
    return Sharing(
        block_tokens=trace.block_tokens,
        root_blocks=root_blocks,
        shares=tuple(round(many / max(among, 1), 4) for many, among in zip(continued, seen, strict=True)),
        ratios=quantiles_of(ratios or [0.0]),
        gaps_s=quantiles_of(gaps_s or [0.0]),
    )


def shared_blocks(request: TraceRequest, known: dict[int, float]) -> int:
    """Blocks at the head of a prompt that are known."""
    shared = 0
    for block in request.blocks:
        if block not in known:
            break
        shared += 1
    return shared


def _root_blocks(requests: Sequence[TraceRequest]) -> int:
    """Blocks with which nine prompts of ten begin."""
    root = 0
    heads = [request.blocks for request in requests if request.blocks]
    while heads and root < len(heads[len(heads) // 2]):
        common = heads[len(heads) // 2][root]
        if sum(len(blocks) > root and blocks[root] == common for blocks in heads) < 0.9 * len(heads):
            break
        root += 1
    return root


def is_rising(quantiles: Quantiles) -> bool:
    """Whether these are quantiles at all."""
    return len(quantiles) == len(PROBABILITIES) and all(low <= high for low, high in pairwise(quantiles))
