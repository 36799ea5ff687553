"""One model's tokens per text: an estimate with an interval, learned from prompts whose length became known.

Each class of text has weights and a spread of errors of its own. Where a spread is young, the model's answers, widened,
then the prior. Memory is bounded by the number of classes, not by traffic.
What must not live here: which boundary matters, where true lengths come from.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from math import ceil, exp, floor, log, sqrt

from cluster.core.budget.features import FEATURES, SAMPLE_SLICES, PromptFeatures, TextClass
from cluster.core.budget.spread import Span, Spread
from cluster.core.budget.weights import Weights

PRIOR_SPAN = Span(low=-log(2.5), high=log(2.0))
"""Before anything is known. The weights are those of one tokenizer with 150,000 entries: one with 600 makes up to
twice the tokens of them, one that takes three digits at once makes 0.4 of them of numbers."""
PRIOR_SAMPLED_SPAN = Span(low=-0.15, high=0.15)
"""Of estimates from a tokenized sample. The worst of 4,000 prompts was off by 0.09."""
STRANGER_STRETCH = 2.0
"""A class that has told too little takes the model's span, this much wider: classes differ by about that."""
SHORT_TOKENS = 2_500
"""Errors of short prompts are larger (fewer words to average over): by sqrt(1 + this / tokens). That fits their
standard deviation: 3.7% around 2,000 tokens, 2.5% beyond 10,000. Spreads hold errors divided by it."""
TINY_TOKENS = 250
"""Below this, intervals grow no wider: no pool is that small."""
WARM_UP_PROMPTS = (64, 256)
"""After so many prompts of a class its weights are much better than they were: the errors of before are dropped."""
SETTLED_PROMPTS = 512
"""After so many prompts of a class its weights hardly move."""
SETTLED_EVERY = 4
"""Then one prompt in four is enough to follow traffic that changes: fitting costs 0.1 ms, noting an error 5 us."""
MAX_LOG_ERROR = log(20.0)
"""Truth further off than this is a report of something else (a cut prompt, pictures) and teaches nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenInterval:
    """A prompt's length: most likely, and the ends that hold it but for one in a thousand prompts."""

    low_tokens: int
    likely_tokens: int
    high_tokens: int
    is_learned: bool
    """Whether prompts of this kind taught it; else other kinds did, or nobody, and a tokenizer knows better."""


class TokenLearner:
    """Learns one model."""

    def __init__(self) -> None:
        prior = [feature.tokens for feature in FEATURES]
        self._weights = {text_class: Weights(prior) for text_class in TextClass}
        kinds = tuple(product(TextClass, (False, True)))
        self._classes = {kind: Spread() for kind in kinds}
        self._learned_prompts = 0
        self._model = Spread()
        self._prior = PRIOR_SPAN
        self._sampled_classes = {text_class: Spread() for text_class in TextClass}
        self._sampled = Spread()
        self._sampled_prior = PRIOR_SAMPLED_SPAN

    def estimate(self, features: PromptFeatures) -> TokenInterval:
        """The length of a prompt with these features; `low <= likely <= high`, all at least 0."""
        tokens, span, is_learned = self._tokens(features), self._prior, False
        if features.sampled_tokens is not None:
            span = self._sampled_classes[features.text_class].span or self._sampled.span or self._sampled_prior
            tokens, span, is_learned = features.sampled_tokens, span.times(_sample_scale(features)), True
        elif (own := self._classes[features.text_class, features.is_plain].span) is not None:
            span, is_learned = own.times(_scale(tokens)), True
        elif (model := self._model.span) is not None:
            span = model.times(STRANGER_STRETCH * _scale(tokens))
        return TokenInterval(
            low_tokens=max(floor(tokens * exp(span.low)), 0),
            likely_tokens=round(tokens),
            high_tokens=ceil(tokens * exp(span.high)),
            is_learned=is_learned,
        )

    def learn(self, features: PromptFeatures, tokens: int) -> None:
        """Take in that a prompt with these features has exactly `tokens`; the interval for it holds that from now on.

        A length that is off by more than `MAX_LOG_ERROR` is passed over.
        """
        estimate = self._tokens(features)
        if tokens < 1 or abs(log(tokens / estimate)) > MAX_LOG_ERROR:
            return
        if features.sampled_tokens is not None:
            error = log(tokens / features.sampled_tokens) / _sample_scale(features)
            self._sampled_classes[features.text_class].add(error)
            self._sampled.add(error)
            self._sampled_prior = self._sampled_prior.around(error)
        spreads = (self._classes[features.text_class, features.is_plain], self._model)
        self._prior = self._prior.around(log(tokens / estimate))
        for spread in spreads:
            spread.add(log(tokens / estimate) / _scale(estimate))
        weights = self._weights[features.text_class]
        self._learned_prompts += 1
        is_settled = weights.learned_prompts >= SETTLED_PROMPTS
        if not features.is_plain or (is_settled and self._learned_prompts % SETTLED_EVERY):
            return
        if weights.learned_prompts in WARM_UP_PROMPTS:
            self._forget(features.text_class)
        weights.learn(features.counts, tokens)
        # The estimate moved: what was just learned must not fall out of its interval.
        estimate = self._tokens(features)
        self._prior = self._prior.around(log(tokens / estimate))
        for spread in spreads:
            spread.stretch(log(tokens / estimate) / _scale(estimate))

    def _tokens(self, features: PromptFeatures) -> float:
        return max(self._weights[features.text_class].tokens(features.counts), 1.0)

    def _forget(self, text_class: TextClass) -> None:
        for is_plain in (False, True):
            self._classes[text_class, is_plain].forget()


def _scale(tokens: float) -> float:
    return sqrt(1.0 + SHORT_TOKENS / max(tokens, TINY_TOKENS))


def _sample_scale(features: PromptFeatures) -> float:
    """Errors of a sample shrink with its square root; spreads hold what they would be of `SAMPLE_SLICES` slices."""
    return sqrt(SAMPLE_SLICES / features.sampled_slices)
