"""The ideal: whole blocks once, never a prompt's last token for free."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from loadtest.prefix.ideal import IdealCache


def test_a_prefix_is_computed_once() -> None:
    cache = IdealCache(4)
    document = list(range(10))
    assert cache.computed([*document, 90, 91]) == 12
    cache.learn([*document, 90, 91, 92, 93])
    assert cache.computed([*document, 80, 81]) == 12 - 8
    # Its third block has begun to differ; the answer of the first made a fourth.
    assert cache.computed([*document, 90, 91, 92, 93, 94]) == 15 - 12
    assert cache.tokens == 12


def test_the_last_token_is_always_computed() -> None:
    cache = IdealCache(4)
    cache.learn(range(8))
    assert cache.computed(range(8)) == 4
    assert cache.computed(range(9)) == 1


def test_a_block_behind_another_beginning_is_another_block() -> None:
    cache = IdealCache(2)
    cache.learn([1, 2, 3, 4])
    assert cache.computed([9, 9, 3, 4, 5]) == 5
    assert cache.computed([1, 2, 9, 9, 5]) == 3


@given(st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=20), max_size=8), st.integers(1, 4))
def test_it_is_what_comparing_with_every_earlier_prompt_gives(prompts: list[list[int]], block: int) -> None:
    cache = IdealCache(block)
    for number, prompt in enumerate(prompts):
        longest = 0
        for earlier in prompts[:number]:
            shared = next((at for at, (a, b) in enumerate(zip(prompt, earlier, strict=False)) if a != b), None)
            longest = max(longest, min(len(prompt), len(earlier)) if shared is None else shared)
        reused = min(longest, len(prompt) - 1) // block * block
        assert cache.computed(prompt) == len(prompt) - reused
        cache.learn(prompt)
