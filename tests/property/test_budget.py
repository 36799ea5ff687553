"""The learned context budget, for every text and every history."""

from __future__ import annotations

import random
from functools import cache
from operator import mul

from hypothesis import given
from hypothesis import strategies as st

from cluster.core.budget.features import FEATURES, SAMPLE_CHARS, PromptFeatures, TextClass, features_of, sample_of
from cluster.core.budget.learner import MAX_LOG_ERROR, TokenLearner
from cluster.core.budget.spread import LEAST_ERRORS, MISS_RATIO, WINDOW, Spread
from cluster.core.budget.weights import Weights

PIECES = st.sampled_from(
    [
        "the quick brown fox ",
        "def f(x):\n    return x\n",
        "\u4eca\u5929\u5929\u6c14",
        "aGVsbG8gd29y",
        "0123456789abcdef",
        "\0\0",
    ]
)
TEXTS = st.one_of(
    st.text(max_size=200),
    st.builds(lambda piece, times, end: piece * times + end, PIECES, st.integers(1, 2_000), st.text(max_size=20)),
)
RATES = st.floats(0.1, 9.0)
"""Tokens of a prompt for each that is expected: far more than any tokenizer differs."""


def features(text: str, *, is_plain: bool = True) -> PromptFeatures:
    return features_of([text], messages=1, is_plain=is_plain)


@cache
def taught(seed: int, prompts: int) -> TokenLearner:
    learner, chance = TokenLearner(), random.Random(seed)
    for _ in range(prompts):
        seen = features("some words and 12 numbers, xyz_1 " * chance.randint(1, 400))
        learner.learn(seen, max(int(learner.estimate(seen).likely_tokens * chance.uniform(0.8, 1.2)), 1))
    return learner


@given(text=TEXTS, prompts=st.sampled_from((0, 70, 300)), is_plain=st.booleans())
def test_intervals_are_ordered(text: str, prompts: int, is_plain: bool) -> None:
    interval = taught(3, prompts).estimate(features(text, is_plain=is_plain))
    assert 0 <= interval.low_tokens <= interval.likely_tokens <= interval.high_tokens


@given(history=st.lists(st.tuples(TEXTS, RATES, st.booleans()), min_size=1, max_size=100))
def test_what_was_just_learned_lies_in_its_interval(history: list[tuple[str, float, bool]]) -> None:
    learner = TokenLearner()
    for text, rate, is_plain in history:
        seen = features(text, is_plain=is_plain)
        tokens = max(int(learner.estimate(seen).likely_tokens * rate), 1)
        learner.learn(seen, tokens)
        interval = learner.estimate(seen)
        assert interval.low_tokens <= tokens <= interval.high_tokens


@given(text=st.text(max_size=2_000), more=st.text(max_size=2_000))
def test_more_text_never_has_fewer_tokens(text: str, more: str) -> None:
    learner = TokenLearner()
    one, both = learner.estimate(features(text)), learner.estimate(features(text + more))
    assert one.likely_tokens <= both.likely_tokens
    assert one.high_tokens <= both.high_tokens


@given(piece=PIECES, times=st.integers(1, 50), more=st.integers(0, 50), history=st.lists(RATES, max_size=80))
def test_more_of_the_same_never_has_fewer_tokens_whatever_was_learned(
    piece: str, times: int, more: int, history: list[float]
) -> None:
    learner = TokenLearner()
    for rate in history:
        seen = features(piece * 100)
        learner.learn(seen, max(int(learner.estimate(seen).likely_tokens * rate), 1))
    one, both = features(piece * times), features(piece * (times + more))
    if one.text_class is both.text_class:
        assert learner.estimate(one).likely_tokens <= learner.estimate(both).likely_tokens


@given(texts=st.lists(TEXTS, min_size=1, max_size=6), at=st.integers(0, 10_000))
def test_how_a_text_is_cut_into_parts_changes_nothing(texts: list[str], at: int) -> None:
    whole = "".join(texts)
    cut = at % (len(whole) + 1)
    expected = features_of([whole], messages=2, is_plain=True)
    assert features_of(texts, messages=2, is_plain=True) == expected
    assert features_of([whole[:cut], "", whole[cut:]], messages=2, is_plain=True) == expected


@given(piece=PIECES, times=st.integers(1, 100_000))
def test_the_sample_is_bounded(piece: str, times: int) -> None:
    text = piece * times
    sample = sample_of([text], len(text))
    assert len(sample) <= SAMPLE_CHARS + SAMPLE_CHARS // 64
    assert len(sample) >= min(len(text), SAMPLE_CHARS)


@given(text=st.text(alphabet=st.characters(), max_size=500))
def test_any_text_can_be_looked_at_even_half_a_character(text: str) -> None:
    seen = features("\ud800" + text + "\udfff")
    assert len(seen.counts) == len(FEATURES)
    assert min(seen.counts) >= 0


def test_memory_does_not_grow_with_traffic() -> None:
    learner = taught(1, 3_000)
    spreads = [*learner._classes.values(), *learner._sampled_classes.values(), learner._model, learner._sampled]
    assert all(len(spread._errors) <= WINDOW for spread in spreads)
    assert len(spreads) == len(TextClass) * 3 + 2


def test_a_length_that_cannot_be_this_prompts_teaches_nothing() -> None:
    learner, seen = taught(2, 100), features("some words and 12 numbers " * 100)
    before = learner.estimate(seen)
    for tokens in (0, 1, int(before.likely_tokens * 2.8**MAX_LOG_ERROR)):
        learner.learn(seen, tokens)
    assert learner.estimate(seen) == before


def test_the_class_is_what_most_tokens_come_from() -> None:
    expected = {
        "It was a bright cold day in April and the clocks were striking thirteen ": TextClass.PROSE,
        "{'a': [(x, y)], 'b': {'c': [z, w]}};\n": TextClass.MARKED,
        "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822c": TextClass.NUMBERS,
        "\u4eca\u5929\u5929\u6c14\u5f88\u597d": TextClass.HAN,
        "\u041f\u0440\u0438\u0432\u0435\u0442 ": TextClass.OTHER,
    }
    assert {text: features(text * 30).text_class for text in expected} == expected


@given(seed=st.integers(0, 1_000))
def test_weights_find_what_made_the_tokens(seed: int) -> None:
    chance = random.Random(seed)
    true = [chance.uniform(0.1, 2.0) for _ in range(4)]
    weights = Weights([0.5] * 4)
    for _ in range(400):
        counts = [chance.uniform(0.0, 1_000.0) for _ in true]
        weights.learn(counts, max(round(sum(map(mul, true, counts))), 1))
    wrong = 0.0
    for _ in range(20):
        counts = [chance.uniform(0.0, 1_000.0) for _ in true]
        tokens = sum(map(mul, true, counts))
        wrong += abs(weights.tokens(counts) / tokens - 1.0) / 20
    assert wrong < 0.08  # the worst of all these seeds has 0.05; 2,000 prompts bring it to 0.01


@given(counts=st.lists(st.lists(st.floats(0, 1e6), min_size=3, max_size=3), max_size=50), tokens=st.integers(1, 10**6))
def test_weights_are_never_negative(counts: list[list[float]], tokens: int) -> None:
    weights = Weights([0.5, 0.01, 1.0])
    for each in counts:
        weights.learn(each, tokens)
    assert min(weights.values) >= 0.0


def test_a_spread_misses_as_seldom_as_it_says() -> None:
    for draw in (lambda chance: chance.gauss(0.0, 0.03), lambda chance: chance.uniform(-0.1, 0.2)):
        chance, spread, missed, asked = random.Random(7), Spread(), 0, 0
        for _ in range(20_000):
            error = draw(chance)
            if spread.span is not None:
                asked += 1
                missed += not spread.span.low <= error <= spread.span.high
            spread.add(error)
        assert asked > 19_900
        assert missed <= MISS_RATIO * asked


def test_a_young_spread_says_nothing() -> None:
    spread = Spread()
    for _ in range(LEAST_ERRORS - 1):
        spread.add(0.01)
    assert spread.span is None
    spread.add(0.01)
    assert spread.span is not None
    assert spread.span.low <= 0.0 < spread.span.high
