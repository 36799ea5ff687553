"""Which pools a set of cards runs."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from cluster.core.capacity import CONTEXTS_HELD, USUAL_CONTEXT_RATIO, CardSupply, ModelNeed, Sizing, size_pools
from cluster.core.capacity.pools import SHORT_TOKENS
from tests.unit.core.capacity.test_replica import GIB, MIB, QWEN3_4B, models

supplies = st.lists(
    st.builds(
        CardSupply,
        kind=st.sampled_from(["a", "b", "c"]),
        memory_bytes=st.integers(4 * GIB, 200 * GIB),
        cards_by_node=st.lists(st.integers(0, 8), max_size=6).map(tuple),
        spans=st.booleans(),
    ),
    max_size=3,
    unique_by=lambda supply: supply.kind,
)


def l4(*cards: int) -> CardSupply:
    return CardSupply(kind="l4", memory_bytes=23_034 * MIB, cards_by_node=cards)


def h100(*cards: int) -> CardSupply:
    return CardSupply(kind="h100", memory_bytes=81_559 * MIB, cards_by_node=cards)


def plan(*cards: CardSupply, wanted: int | None = None) -> Sizing:
    return size_pools(QWEN3_4B, cards, memory_ratio=0.9, wanted_tokens=wanted)


def shape(sizing: Sizing) -> list[tuple[str, int, int, int]]:
    return [(pool.kind, pool.context_tokens, pool.tensor_parallel, pool.replicas) for pool in sizing.pools]


@given(models, supplies, st.floats(0.3, 1.0), st.none() | st.integers(1, 3_000_000))
def test_a_plan_uses_only_cards_there_are_and_promises_only_what_they_hold(
    model: ModelNeed, cards: list[CardSupply], ratio: float, wanted: int | None
) -> None:
    sizing = size_pools(model, cards, memory_ratio=ratio, wanted_tokens=wanted)
    by_kind = {supply.kind: supply for supply in cards}
    used: Counter[str] = Counter()
    for pool in sizing.pools:
        used[pool.kind] += pool.replicas * pool.tensor_parallel
        assert pool.replicas >= 1
        assert pool.tensor_parallel <= max(by_kind[pool.kind].cards_by_node)
        assert pool.tensor_parallel == 1 or by_kind[pool.kind].spans
        assert 0 < pool.context_tokens <= min(model.context_tokens, wanted or model.context_tokens)
        assert pool.context_tokens * CONTEXTS_HELD <= pool.kv_tokens
        usual = max(int(pool.context_tokens * USUAL_CONTEXT_RATIO), pool.shorter_tokens, 1)
        assert 1 <= pool.max_running <= pool.kv_tokens / usual
        assert pool.shorter_tokens < pool.context_tokens
    assert all(count <= sum(by_kind[kind].cards_by_node) for kind, count in used.items())
    assert {pool.kind for pool in sizing.pools} | {small.kind for small in sizing.left_out} == set(by_kind)
    assert sizing.reached_tokens <= sizing.wanted_tokens
    contexts = [pool.context_tokens for pool in sizing.pools]
    assert contexts == sorted(contexts)
    assert {pool.shorter_tokens for pool in sizing.pools} == {0, *sorted(set(contexts))[:-1]} if contexts else True


@given(models, supplies, st.floats(0.3, 1.0))
def test_more_memory_never_shortens_the_longest_context(
    model: ModelNeed, cards: list[CardSupply], ratio: float
) -> None:
    larger = [replace(supply, memory_bytes=supply.memory_bytes * 2) for supply in cards]
    now = size_pools(model, cards, memory_ratio=ratio).reached_tokens
    assert now <= size_pools(model, larger, memory_ratio=ratio).reached_tokens


def test_cheap_cards_alone_go_together_for_the_long_context() -> None:
    assert shape(plan(l4(4, 4))) == [("l4", plan(l4(1)).reached_tokens, 1, 4), ("l4", 262_144, 4, 1)]


def test_cheap_cards_serve_short_and_large_ones_long() -> None:
    assert shape(plan(l4(4, 4), h100(8))) == [("l4", plan(l4(1)).reached_tokens, 1, 8), ("h100", 262_144, 1, 8)]


def test_one_kind_of_large_cards_is_split_so_that_long_prompts_block_nobody() -> None:
    assert shape(plan(h100(8))) == [("h100", SHORT_TOKENS, 1, 6), ("h100", 262_144, 1, 2)]
    assert shape(plan(h100(1))) == [("h100", 262_144, 1, 1)]


def test_a_pool_at_its_limit_runs_few_at_once() -> None:
    """24 GB hold 1.3 full contexts; a large card more of the short ones."""
    assert [pool.max_running for pool in plan(l4(1)).pools] == [5]
    assert [pool.max_running for pool in plan(h100(8)).pools] == [55, 6]


def test_a_shorter_wish_needs_no_tensor_parallelism() -> None:
    assert shape(plan(l4(4), wanted=50_000)) == [("l4", 50_000, 1, 4)]


def test_cards_in_different_nodes_do_not_go_together() -> None:
    sizing = plan(l4(1, 1, 1, 1))
    assert {pool.tensor_parallel for pool in sizing.pools} == {1}
    assert sizing.reached_tokens < sizing.wanted_tokens


def test_what_does_not_fit_is_told_with_its_numbers() -> None:
    sizing = plan(CardSupply(kind="small", memory_bytes=8 * GIB, cards_by_node=(1, 1)))
    assert sizing.pools == ()
    assert "7.5 GiB of weights" in sizing.left_out[0].why
    assert "no card of this kind is free" in plan(l4(0)).left_out[0].why
