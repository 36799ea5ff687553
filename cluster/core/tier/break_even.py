"""Whether fetching a prefix beats computing it: measured on this replica, never guessed.

Fetching n tokens takes `latency + n x fetch + steps`, computing them `n x prefill`. Every number is a mean over what
was measured lately. Two rules come out of it: how many tokens must be had before a fetch is asked for at all, and how
long a prompt must be before even the question may be asked. What must not live here: clocks, Redis, vLLM.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

WEIGHT = 0.2
"""Of a new measurement: the last ten or so count, so a change shows within a few requests."""
GAIN_RATIO = 0.8
"""A fetch must be expected to take at most this share of the computation: an estimate 25% off must not cost anybody."""
QUESTION_RATIO = 0.005
"""The question itself may take this share of the prompt's computation. The promise for misses is 1% of TTFT; half of
it is left for the spread of the answer's time around its mean."""
FETCH_STEPS = 2
"""Engine steps a fetch adds when the engine is busy with others: one until the load is seen, one until it starts."""
SAMPLE_TOKENS_MIN = 256
"""A prefill of fewer measures the engine's fixed costs."""
LATENCY_PRIOR_S = 0.002
"""A round trip, until one was measured."""


class Mean:
    """An exponentially weighted mean; None until something was measured."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value: float | None = None

    def add(self, value: float) -> None:
        """Take a measurement in."""
        self.value = value if self.value is None else self.value + WEIGHT * (value - self.value)


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakEvenState:
    """The numbers behind a decision, for metrics and for `explain`."""

    prefill_tokens_per_s: float | None
    fetch_bytes_per_s: float | None
    latency_s: float
    step_s: float
    min_fetch_tokens: int | None
    """None: nothing is worth fetching, or not everything is measured yet."""


class BreakEven:
    """One replica's break-even.

    Args:
        bytes_per_token: what Redis holds for a token, over all ranks.
    """

    def __init__(self, *, bytes_per_token: float) -> None:
        self._bytes_per_token = bytes_per_token
        self._prefill_s = Mean()
        self._fetch_s = Mean()
        self._latency_s = Mean()
        self._step_s = Mean()

    def prefilled(self, tokens: int, seconds: float) -> None:
        """The engine computed so many prompt tokens in so many seconds."""
        if tokens >= SAMPLE_TOKENS_MIN and seconds > 0:
            self._prefill_s.add(seconds / tokens)

    def expect_prefill(self, tokens_per_s: float) -> None:
        """What replicas like this one measured; counts until this one has measured for itself."""
        if self._prefill_s.value is None and tokens_per_s > 0:
            self._prefill_s.value = 1 / tokens_per_s

    def fetched(self, size_bytes: int, seconds: float) -> None:
        """So many bytes came from Redis in so many seconds."""
        if size_bytes > 0 and seconds > 0:
            self._fetch_s.add(seconds / size_bytes)

    def answered(self, seconds: float) -> None:
        """Redis answered a question after so many seconds; a question that was given up counts what it cost."""
        self._latency_s.add(seconds)

    def calibrated(self, latency_s: float) -> None:
        """Redis was found to answer in so many seconds; what it took before an outage or a change is forgotten."""
        self._latency_s.value = latency_s

    def stepped(self, seconds: float) -> None:
        """A step of the busy engine took so many seconds."""
        self._step_s.add(seconds)

    @property
    def prefill_tokens_per_s(self) -> float | None:
        """How fast prompts are computed."""
        return None if self._prefill_s.value is None else 1 / self._prefill_s.value

    def prefill_s(self, tokens: int) -> float:
        """How long computing so many tokens takes; 0 where nothing is known."""
        return tokens * (self._prefill_s.value or 0.0)

    def fetch_s(self, tokens: int, *, is_busy: bool) -> float | None:
        """How long fetching so many tokens takes; None where nothing is known."""
        if self._fetch_s.value is None:
            return None
        return self._fixed_s(is_busy=is_busy) + tokens * self._bytes_per_token * self._fetch_s.value

    def min_fetch_tokens(self, *, is_busy: bool) -> int | None:
        """Fewest tokens that are worth fetching; None when no number is, or when something is not measured yet."""
        if self._prefill_s.value is None or self._fetch_s.value is None:
            return None
        gain_s = GAIN_RATIO * self._prefill_s.value - self._bytes_per_token * self._fetch_s.value
        if gain_s <= 0:
            return None
        return int(self._fixed_s(is_busy=is_busy) / gain_s) + 1

    def may_ask(self, prompt_tokens: int, *, is_busy: bool) -> bool:
        """Whether Redis may be asked about a prompt of so many tokens: below this, zero lookups."""
        least = self.min_fetch_tokens(is_busy=is_busy)
        return (
            least is not None
            and prompt_tokens >= least
            and self._latency() <= QUESTION_RATIO * self.prefill_s(prompt_tokens)
        )

    def least_prompt_tokens(self) -> int | None:
        """The shortest prompt that an idle engine would ask Redis about; None when none is."""
        least = self.min_fetch_tokens(is_busy=False)
        if least is None or self._prefill_s.value is None:
            return None
        return max(least, math.ceil(self._latency() / (QUESTION_RATIO * self._prefill_s.value)))

    def cost_ratio(self) -> float:
        """What fetching a token takes of what computing it takes, beyond what every fetch takes; 1 where unknown."""
        if self._prefill_s.value is None or self._fetch_s.value is None:
            return 1.0
        return min(self._bytes_per_token * self._fetch_s.value / self._prefill_s.value, 1.0)

    def state(self) -> BreakEvenState:
        """What is known now, for an idle engine."""
        fetch_s = self._fetch_s.value
        return BreakEvenState(
            prefill_tokens_per_s=self.prefill_tokens_per_s,
            fetch_bytes_per_s=None if fetch_s is None else 1 / fetch_s,
            latency_s=self._latency(),
            step_s=self._step_s.value or 0.0,
            min_fetch_tokens=self.min_fetch_tokens(is_busy=False),
        )

    def _latency(self) -> float:
        return LATENCY_PRIOR_S if self._latency_s.value is None else self._latency_s.value

    def _fixed_s(self, *, is_busy: bool) -> float:
        return self._latency() + (FETCH_STEPS * (self._step_s.value or 0.0) if is_busy else 0.0)
