"""Prompts' lengths as a gateway knows them: estimated from text by the core's learner, or counted where that decides.

A trace has no texts. So each prompt is given the counts that `features_of` makes of prose or code of its length, off by
as much as real texts are. What is written anew is the order in which services/gateway/tokens.py asks: a proven bound,
the learned interval, the tokenizer (its cheaper sample is left out). What must not live here: how learning works
(cluster/core/budget).
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from math import exp, sqrt
from typing import NamedTuple

from cluster.core.budget.features import FEATURES, PromptFeatures, TextClass, features_of
from cluster.core.budget.learner import SHORT_TOKENS, TINY_TOKENS, TokenLearner
from cluster.core.prompt import CountKind, PromptTokens

ERROR_RATIO = 0.025
"""Standard deviation of a long text's tokens against what its features tell; shorter ones err more, by
sqrt(1 + SHORT_TOKENS / tokens). Both as measured for cluster/core/budget (docs/decisions/0013)."""
COUNT_TOKEN_S = 0.5e-6
"""To tokenize one token of a prompt: facts.md has 50 ms for 100,000."""
ROUGH_BOUND_TOKENS = 4_096
USUAL_BYTES_PER_TOKEN = 4
EAGER_LESSONS = 4_096
LATER_EVERY = 16
"""These four as services/gateway/tokens.py has them."""
_SAMPLES = (
    (
        "The committee met again in the afternoon and went through the report line by line, without much haste. "
        "Several members asked why the figures of the second year were so much lower than those of the first. "
    ),
    (
        "def load(path: str, *, limit: int = 100) -> list[Row]:\n    with open(path) as file:\n"
        "        rows = [parse(line) for line in file if line.strip()]\n"
        "    return sorted(rows, key=lambda row: row.name)[:limit]\n"
    ),
)


class _Kind(NamedTuple):
    """A kind of text."""

    counts: tuple[float, ...]
    """Of its features, for one token."""
    bytes_per_token: float
    text_class: TextClass


class Counted(NamedTuple):
    """What is known of a prompt's length, and after how long."""

    tokens: PromptTokens
    wait_s: float


class Lengths:
    """One model's learner and the texts it reads."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._learner = TokenLearner()
        self._lessons = 0
        self._kinds = tuple(_kind(sample) for sample in _SAMPLES)

    def count(self, prompt_tokens: int, boundaries: Sequence[int]) -> Counted:
        """The length of a prompt that has `prompt_tokens`.

        Args:
            prompt_tokens: the truth.
            boundaries: for each pool, the most prompt tokens that it takes; at least one.
        """
        kind, features = self._text(prompt_tokens)
        bound = round(prompt_tokens * kind.bytes_per_token)
        if bound <= min(boundaries):
            likely = -(-bound // USUAL_BYTES_PER_TOKEN)
            if bound <= ROUGH_BOUND_TOKENS:
                return Counted(PromptTokens(tokens=bound, kind=CountKind.AT_MOST, expected_tokens=likely), 0.0)
            likely = min(self._learner.estimate(features).likely_tokens, bound)
            return Counted(
                PromptTokens(tokens=bound, kind=CountKind.AT_MOST, expected_tokens=likely, features=features), 0.0
            )
        interval = self._learner.estimate(features)
        low, high = interval.low_tokens, interval.high_tokens
        is_decided = interval.is_learned and not any(low <= boundary < high for boundary in boundaries)
        if is_decided and low <= max(boundaries):
            about = PromptTokens(
                tokens=high, kind=CountKind.ABOUT, expected_tokens=interval.likely_tokens, features=features
            )
            return Counted(about, 0.0)
        self._learner.learn(features, prompt_tokens)
        return Counted(PromptTokens(tokens=prompt_tokens, kind=CountKind.EXACT), prompt_tokens * COUNT_TOKEN_S)

    def learn(self, counted: PromptTokens, prompt_tokens: int) -> None:
        """A replica told the true length of a prompt."""
        if counted.features is None:
            return
        self._lessons += 1
        if self._lessons <= EAGER_LESSONS or self._lessons % LATER_EVERY == 0:
            self._learner.learn(counted.features, prompt_tokens)

    def _text(self, prompt_tokens: int) -> tuple[_Kind, PromptFeatures]:
        rng = self._rng
        kind = self._kinds[rng.random() < 1 / 2]
        error = ERROR_RATIO * sqrt(1.0 + SHORT_TOKENS / max(prompt_tokens, TINY_TOKENS))
        scale = prompt_tokens * exp(rng.gauss(0.0, error))
        counts = tuple([count * scale for count in kind.counts])
        return kind, PromptFeatures(counts=counts, text_class=kind.text_class, is_plain=True)


def _kind(sample: str) -> _Kind:
    """What one token of a text like this looks like, its tokens taken as what the learner believes at first."""
    features = features_of([sample], messages=0, is_plain=True)
    tokens = sum(count * feature.tokens for count, feature in zip(features.counts, FEATURES, strict=True))
    return _Kind(tuple(count / tokens for count in features.counts), len(sample) / tokens, features.text_class)
