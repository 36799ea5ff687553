from __future__ import annotations

import random

from cluster.core.prompt import CountKind
from cluster.simulator.lengths import COUNT_TOKEN_S, Lengths

BOUNDARIES = (4_000, 200_000)


def taught(lengths: Lengths) -> Lengths:
    rng = random.Random(2)
    for _ in range(1_000):
        prompt_tokens = rng.randint(1_000, 30_000)
        counted = lengths.count(prompt_tokens, BOUNDARIES)
        lengths.learn(counted.tokens, prompt_tokens)
    return lengths


def test_a_short_prompt_is_bounded_by_its_bytes() -> None:
    counted = Lengths(random.Random(1)).count(300, BOUNDARIES)
    assert counted.tokens.kind is CountKind.AT_MOST
    assert counted.tokens.tokens >= 300
    assert counted.wait_s == 0


def test_what_nobody_taught_is_counted_and_takes_time() -> None:
    counted = Lengths(random.Random(1)).count(50_000, BOUNDARIES)
    assert (counted.tokens.kind, counted.tokens.tokens) == (CountKind.EXACT, 50_000)
    assert counted.wait_s == 50_000 * COUNT_TOKEN_S


def test_once_it_learned_it_estimates_far_from_boundaries_and_counts_near_them() -> None:
    lengths = taught(Lengths(random.Random(1)))
    kinds = [lengths.count(50_000, BOUNDARIES).tokens.kind for _ in range(20)]
    assert kinds == [CountKind.ABOUT] * 20
    kinds = [lengths.count(4_000, BOUNDARIES).tokens.kind for _ in range(20)]
    assert kinds == [CountKind.EXACT] * 20


def test_estimates_bound_the_truth() -> None:
    lengths, rng = taught(Lengths(random.Random(1))), random.Random(3)
    truths = [rng.randint(8_000, 100_000) for _ in range(500)]
    counts = [lengths.count(truth, BOUNDARIES).tokens.tokens for truth in truths]
    missed = sum(count < truth for count, truth in zip(counts, truths, strict=True))
    assert missed <= 3
    assert all(count < 1.3 * truth for count, truth in zip(counts, truths, strict=True))
