"""The prediction against a simulated engine: tokens of uneven length, whole blocks, text that parts anywhere."""

from __future__ import annotations

import random
from array import array
from bisect import bisect_right
from itertools import accumulate

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.core.lease import ReplicaId
from cluster.core.prefix import PrefixChain, PrefixFacts, PrefixIndex, chunk_bytes_for, predicted_tokens

REPLICA = ReplicaId("r")
ROOT = bytes(16)


class Engine:
    """Has answered one prompt, whose tokens have `lengths` bytes, and evicted the end of it."""

    def __init__(self, rng: random.Random, block_tokens: int, lengths: list[int]) -> None:
        self.block_tokens = block_tokens
        self.chunk_bytes = chunk_bytes_for(block_tokens)
        self.facts = PrefixFacts(model_digest="m", chunk_bytes=self.chunk_bytes, block_tokens=block_tokens, adapters={})
        self.ends = array("Q", accumulate(lengths))
        """Where each token ends in the text, in bytes."""
        self.text = rng.randbytes(self.ends[-1])
        self.blocks = rng.randint(0, len(lengths) // block_tokens)
        """Leading ones that are still resident."""

    def tell(self, index: PrefixIndex) -> None:
        """What its replica publishes: chunks that end within resident blocks, and tokens before their ends."""
        resident = self.ends[self.blocks * self.block_tokens - 1] if self.blocks else 0
        chain = PrefixChain(ROOT, self.text, self.chunk_bytes)
        entries = [
            (chain.key(place), self.tokens_within((place + 1) * self.chunk_bytes))
            for place in range(resident // self.chunk_bytes)
        ]
        index.snapshot(REPLICA, 1, 1, entries)

    def tokens_within(self, size: int) -> int:
        return bisect_right(self.ends, size)

    def found(self, shared_bytes: int, prompt_tokens: int) -> int:
        """Tokens it reuses for a prompt that shares `shared_bytes` of the text."""
        same = self.tokens_within(shared_bytes) // self.block_tokens
        return min(same, self.blocks, (prompt_tokens - 1) // self.block_tokens) * self.block_tokens

    def error_blocks(self, index: PrefixIndex, rng: random.Random, *, tail_tokens: int, is_length_known: bool) -> int:
        """How far the prediction is off for a prompt that shares some of the text, then goes on otherwise."""
        shared_bytes = rng.randint(0, len(self.text))
        # Random bytes: the next one may be the same by chance, never a whole chunk.
        tail = b"".join(rng.randbytes(rng.randint(1, 16)) for _ in range(tail_tokens))
        prompt_tokens = max(self.tokens_within(shared_bytes) + tail_tokens, 1)
        predicted = index.resident(
            PrefixChain(ROOT, self.text[:shared_bytes] + tail, self.chunk_bytes),
            [REPLICA],
            facts=self.facts,
            prompt_tokens=prompt_tokens if is_length_known else None,
        ).get(REPLICA, 0)
        assert predicted % self.block_tokens == 0
        return abs(predicted - self.found(shared_bytes, prompt_tokens)) // self.block_tokens


@settings(max_examples=200, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    block_tokens=st.sampled_from([16, 32, 64, 128, 256, 48, 100]),
    tokens=st.integers(1, 6_000),
    tail_tokens=st.integers(0, 500),
    is_length_known=st.booleans(),
)
def test_the_prediction_is_right_within_a_block(
    seed: int, block_tokens: int, tokens: int, tail_tokens: int, is_length_known: bool
) -> None:
    rng = random.Random(seed)
    engine = Engine(rng, block_tokens, [rng.randint(1, 16) for _ in range(tokens)])
    index = PrefixIndex()
    engine.tell(index)
    assert engine.error_blocks(index, rng, tail_tokens=tail_tokens, is_length_known=is_length_known) <= 1


@pytest.mark.parametrize("block_tokens", [64, 128])
def test_texts_that_change_their_kind_are_right_within_a_block_99_times_in_100(block_tokens: int) -> None:
    rng = random.Random(1)
    kinds = [lambda: max(1, round(rng.gauss(4.5, 2)))] * 3 + [lambda: rng.choice((1, 1, 2, 3, 4, 6)), lambda: 1]
    errors = []
    for _ in range(200):
        lengths: list[int] = []
        while len(lengths) < 4_000:
            kind = rng.choice(kinds)
            lengths += [kind() for _ in range(rng.randint(50, 800))]
        engine = Engine(rng, block_tokens, lengths)
        index = PrefixIndex()
        engine.tell(index)
        errors += [engine.error_blocks(index, rng, tail_tokens=40, is_length_known=True) for _ in range(10)]
    assert sum(error <= 1 for error in errors) >= 0.99 * len(errors)


@given(
    tokens=st.integers(0, 10**6),
    chunk_tokens=st.integers(0, 512),
    block_tokens=st.integers(1, 512),
    prompt_tokens=st.none() | st.integers(0, 10**6),
)
def test_whole_blocks_and_never_the_whole_prompt(
    tokens: int, chunk_tokens: int, block_tokens: int, prompt_tokens: int | None
) -> None:
    predicted = predicted_tokens(
        tokens=tokens, chunk_tokens=chunk_tokens, block_tokens=block_tokens, prompt_tokens=prompt_tokens
    )
    assert predicted >= 0
    assert predicted % block_tokens == 0
    assert predicted <= tokens + 0.75 * chunk_tokens
    if prompt_tokens is not None:
        assert predicted < max(prompt_tokens, 1)


@pytest.mark.parametrize(
    ("tokens", "chunk_tokens", "prompt_tokens", "expected"),
    [
        (0, 0, None, 0),
        (600, 53, None, 512),
        (600, 54, None, 640),
        (640, 64, 640, 512),
        (640, 64, 641, 640),
        (1, 1, 0, 0),
    ],
)
def test_three_quarters_of_the_next_chunk_decide(
    tokens: int, chunk_tokens: int, prompt_tokens: int | None, expected: int
) -> None:
    found = predicted_tokens(tokens=tokens, chunk_tokens=chunk_tokens, block_tokens=128, prompt_tokens=prompt_tokens)
    assert found == expected
