"""What a card holds: properties of the sum, and the numbers of the reference model."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.core.capacity import (
    CONTEXTS_HELD,
    RANK_RESERVE_BYTES,
    STEP_RESERVE_BYTES,
    ModelNeed,
    context_limit,
    kv_tokens,
    running_limit,
)
from cluster.core.capacity.replica import LIMIT_MIN_TOKENS, RUNNING_MAX, USUAL_CONTEXT_RATIO

GIB = 2**30
MIB = 2**20
QWEN3_4B = ModelNeed(context_tokens=262_144, kv_bytes_per_token=147_456, weights_bytes=8_045_000_000, kv_heads=8)
models = st.builds(
    ModelNeed,
    context_tokens=st.integers(LIMIT_MIN_TOKENS, 2_000_000),
    kv_bytes_per_token=st.integers(256, 2_000_000),
    weights_bytes=st.integers(1, 400 * GIB),
    kv_heads=st.sampled_from([None, 1, 2, 4, 8, 12, 32]),
)
cards = st.integers(GIB, 300 * GIB)
ratios = st.floats(0.1, 1.0)


@given(models, cards, st.integers(0, 50 * GIB), ratios, st.sampled_from([1, 2, 4, 8]))
def test_more_memory_never_lowers_the_limit(model: ModelNeed, card: int, more: int, ratio: float, ranks: int) -> None:
    ranks = model.ranks(ranks)[-1]
    small = context_limit(model, card_bytes=card, ranks=ranks, memory_ratio=ratio)
    assert small <= context_limit(model, card_bytes=card + more, ranks=ranks, memory_ratio=ratio)
    assert small <= context_limit(model, card_bytes=card, ranks=ranks, memory_ratio=min(1.0, ratio * 1.1))


@given(models, cards, ratios, st.sampled_from([1, 2, 4, 8]))
def test_no_limit_claims_more_than_fits(model: ModelNeed, card: int, ratio: float, ranks: int) -> None:
    """Counted the other way round: what a replica at its limit would put on each card."""
    ranks = model.ranks(ranks)[-1]
    limit = context_limit(model, card_bytes=card, ranks=ranks, memory_ratio=ratio)
    assert limit <= model.context_tokens
    if limit == 0:
        return
    shards = ranks if model.kv_heads else 1
    kv = limit * CONTEXTS_HELD * model.kv_bytes_per_token / shards
    reserve = STEP_RESERVE_BYTES + (RANK_RESERVE_BYTES if ranks > 1 else 0)
    assert model.weights_bytes / ranks + kv + reserve <= card * ratio


@given(models, st.integers(0, 64))
def test_ranks_divide_the_heads(model: ModelNeed, most: int) -> None:
    found = model.ranks(most)
    assert found[0] == 1
    assert all(ranks <= max(most, 1) and ranks & (ranks - 1) == 0 for ranks in found)
    assert all((model.kv_heads or 1) % ranks == 0 for ranks in found)


@given(st.integers(1, 10**7), st.integers(0, 10**7), st.integers(16, 2_000_000), st.integers(0, 2_000_000), st.data())
def test_as_many_run_as_usually_fit(held: int, more: int, limit: int, shorter: int, data: st.DataObject) -> None:
    shorter = min(shorter, limit - 1)

    def running(held_tokens: int) -> int:
        return running_limit(held_tokens=held_tokens, context_tokens=limit, shorter_tokens=shorter)

    found = running(held)
    assert 1 <= found <= RUNNING_MAX
    usual = max(int(limit * USUAL_CONTEXT_RATIO), shorter)
    assert found == 1 or found * usual <= held, "what runs at once fits"
    assert found == RUNNING_MAX or (found + 1) * usual > held, "no place is left unused"
    assert found <= running(held + more)
    other = data.draw(st.integers(0, shorter))
    assert found <= running_limit(held_tokens=held, context_tokens=limit, shorter_tokens=other)


@pytest.mark.parametrize(
    ("card_mib", "ranks", "low", "high"),
    [
        # Known cards, as their drivers report them; the bounds are what vLLM's users see, wide on purpose.
        (23_034, 1, 50_000, 70_000),  # L4: some 80,000 tokens of KV, of which a limit leaves a fifth
        (23_034, 2, 140_000, 170_000),
        (23_034, 4, 262_144, 262_144),
        (81_559, 1, 262_144, 262_144),  # one H100 holds the longest context
        (15_360, 1, 20_000, 30_000),  # T4
        (8_192, 1, 0, 0),  # 8 GB of weights
    ],
)
def test_limits_of_the_reference_model(card_mib: int, ranks: int, low: int, high: int) -> None:
    limit = context_limit(QWEN3_4B, card_bytes=card_mib * MIB, ranks=ranks, memory_ratio=0.9)
    assert low <= limit <= high


def test_heads_that_are_not_divided_are_refused() -> None:
    with pytest.raises(ValueError, match="2 ranks"):
        kv_tokens(
            ModelNeed(context_tokens=1, kv_bytes_per_token=1, weights_bytes=1), card_bytes=1, ranks=2, memory_ratio=1
        )
