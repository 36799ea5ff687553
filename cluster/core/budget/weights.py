"""Tokens as a weighted sum of features, fitted as answers come in.

Least squares on the relative error, weights never below zero (a text with more in it has more tokens), older prompts
forgotten slowly, the weights before learning kept as a prior. What must not live here: how wrong the sum is (spread).
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import mul

MEMORY_PROMPTS = 2_000
"""A prompt counts 1/e after this many: enough for a stable fit of some 30 weights, and traffic may change."""
PRIOR_PROMPTS = 0.3
"""How many prompts, dense in a feature, its prior weight stands against."""


class Weights:
    """Non-negative weights of features, learned from prompts of known length.

    One sweep of coordinate descent a prompt (Wright, Coordinate descent algorithms, 2015) over the running sums of
    `x xᵀ` and `x`, where `x` are the features divided by the true tokens, so that `w · x` should be 1.
    """

    def __init__(self, prior: Sequence[float]) -> None:
        size = len(prior)
        self.values = list(prior)
        self.learned_prompts = 0
        self._prior = tuple(prior)
        # A feature's prior weight is worth PRIOR_PROMPTS prompts whose tokens come from that feature alone.
        self._prior_strength = [PRIOR_PROMPTS / max(weight, 0.1) ** 2 for weight in prior]
        self._products = [[0.0] * size for _ in range(size)]
        self._sums = [0.0] * size

    def tokens(self, counts: Sequence[float]) -> float:
        """The sum for a prompt with these counts."""
        return float(sum(map(mul, self.values, counts)))

    def learn(self, counts: Sequence[float], tokens: int) -> None:
        """Take in one prompt; `tokens` must be at least 1."""
        self.learned_prompts += 1
        keep = 1.0 - 1.0 / MEMORY_PROMPTS
        relative = [count / tokens for count in counts]
        self._sums = [keep * total + value for total, value in zip(self._sums, relative, strict=True)]
        for index, (value, row) in enumerate(zip(relative, self._products, strict=True)):
            if value:
                self._products[index] = [
                    keep * total + value * other for total, other in zip(row, relative, strict=True)
                ]
            else:
                self._products[index] = [keep * total for total in row]
        self._sweep()

    def _sweep(self) -> None:
        weights = self.values
        for index, row in enumerate(self._products):
            strength = self._prior_strength[index]
            gap = self._sums[index] - sum(map(mul, row, weights)) + strength * (self._prior[index] - weights[index])
            weights[index] = max(0.0, weights[index] + gap / (row[index] + strength))
