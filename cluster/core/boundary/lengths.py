"""What has come lately, by length: a histogram that forgets.

Bands are geometric, four to an octave, and counted from the smaller pool's limit, so that the limit is an edge. What
must not live here: pools, clocks.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from typing import NamedTuple

BANDS_PER_OCTAVE = 4
"""A boundary that is 19% off costs little, and each band has enough requests to be a mean of."""
LOWEST_BAND = -10 * BANDS_PER_OCTAVE
"""What is shorter than a thousandth of the limit is counted with it."""
HIGHEST_BAND = 12 * BANDS_PER_OCTAVE
MEMORY_S = 600.0
"""Requests count for 1/e after so long: long ones come seldom, and a boundary should not follow a single one."""
SPAN_MIN_S = 60.0
"""The first requests are taken to have come within no less."""
RESCALE_AGES = 27.0
"""Memories after which sums are brought down to the present: long before floats overflow."""


class Band(NamedTuple):
    """Requests of like length, means over them."""

    number: int
    """It holds needs up to `edge_tokens(number)`."""
    requests_per_s: float
    prefill_tokens: float
    """To compute, without what was cached."""
    output_tokens: float


class LengthsSeen(NamedTuple):
    """What has come lately, as of one moment."""

    requests: float
    """How many are remembered."""
    bands: Sequence[Band]
    """Shortest first."""


def together(parts: Iterable[LengthsSeen]) -> LengthsSeen:
    """What several gateways have seen of one pair's requests: rates add up, means are weighed by them."""
    requests, sums = 0.0, dict[int, list[float]]()
    for part in parts:
        requests += part.requests
        for band in part.bands:
            known = sums.setdefault(band.number, [0.0, 0.0, 0.0])
            known[0] += band.requests_per_s
            known[1] += band.requests_per_s * band.prefill_tokens
            known[2] += band.requests_per_s * band.output_tokens
    return LengthsSeen(
        requests,
        [
            Band(number, per_s, prefill / per_s, output / per_s)
            for number, (per_s, prefill, output) in sorted(sums.items())
            if per_s > 0
        ],
    )


class LengthWork:
    """One pair of pools' requests.

    Args:
        limit_tokens: the smaller pool's context limit.
    """

    def __init__(self, *, limit_tokens: int) -> None:
        self.limit_tokens = limit_tokens
        self._edges = [edge_tokens(number, limit_tokens) for number in range(LOWEST_BAND, HIGHEST_BAND)]
        self._bands: dict[int, list[float]] = {}
        """Requests, prefill tokens and output tokens, in units that grow as time passes instead of decaying."""
        self._begin_s: float | None = None
        self._since_s = 0.0

    def add(self, now_s: float, *, need_tokens: int, prefill_tokens: int, output_tokens: int) -> None:
        """A request came, or has ended: any moment at which all three are known, the same for all.

        Args:
            now_s: monotonic.
            need_tokens: prompt, as likely as it was known, and output it asked for: what preferences go by.
            prefill_tokens: prompt tokens that were to be computed.
            output_tokens: tokens that were generated, or are expected.
        """
        if self._begin_s is None:
            self._begin_s = self._since_s = now_s
        ages = (now_s - self._begin_s) / MEMORY_S
        if ages > RESCALE_AGES:
            kept = math.exp(-ages)
            self._bands = {number: [value * kept for value in sums] for number, sums in self._bands.items()}
            self._begin_s, ages = now_s, 0.0
        weight = math.exp(ages)
        # As `band_of` says, in a quarter of its time: gateways do this for every answer.
        band = LOWEST_BAND + bisect_left(self._edges, need_tokens)
        sums = self._bands.get(band)
        if sums is None:
            sums = self._bands[band] = [0.0, 0.0, 0.0]
        sums[0] += weight
        sums[1] += weight * prefill_tokens
        sums[2] += weight * output_tokens

    def requests(self, now_s: float) -> float:
        """How many are remembered."""
        return sum(sums[0] for sums in self._bands.values()) * self._kept(now_s)

    def seen(self, now_s: float) -> LengthsSeen:
        """All of it, to be put together with what others have seen."""
        return LengthsSeen(self.requests(now_s), self.bands(now_s))

    def bands(self, now_s: float) -> Sequence[Band]:
        """What came, shortest first."""
        # What a steady rate of one a second would have left by now.
        seen_s = -MEMORY_S * math.expm1(-max(now_s - self._since_s, SPAN_MIN_S) / MEMORY_S)
        per_s = self._kept(now_s) / seen_s
        return [
            Band(number, requests * per_s, prefill / requests, output / requests)
            for number, (requests, prefill, output) in sorted(self._bands.items())
            if requests > 0
        ]

    def _kept(self, now_s: float) -> float:
        return 0.0 if self._begin_s is None else math.exp(-(now_s - self._begin_s) / MEMORY_S)


def band_of(need_tokens: int, limit_tokens: int) -> int:
    """The band of a need; 0 ends at the limit itself."""
    number = math.ceil(BANDS_PER_OCTAVE * math.log2(max(need_tokens, 1) / limit_tokens))
    # Floats may put an edge on either side of itself.
    if need_tokens <= edge_tokens(number - 1, limit_tokens):
        number -= 1
    elif need_tokens > edge_tokens(number, limit_tokens):
        number += 1
    return min(max(number, LOWEST_BAND), HIGHEST_BAND)


def edge_tokens(number: int, limit_tokens: int) -> int:
    """The longest need of a band."""
    return int(limit_tokens * 2 ** (number / BANDS_PER_OCTAVE))
