"""The packed table after any history equals a dict."""

from __future__ import annotations

import random
from bisect import bisect_left

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from cluster.core.prefix.table import SEGMENT_BITS, SEGMENT_SLOTS_MIN, TOKENS_MAX, ResidencyTable

TOP = 2**64 - 1
# Few low bits and few segments: long runs that wrap around, and gaps to close in the middle of them.
CROWDED = st.builds(lambda high, low: high << 58 | low, st.integers(0, 63), st.sampled_from([2, 13, 14, 15, 31, 47]))
KEYS = CROWDED | st.integers(2, TOP) | st.sampled_from([TOP, 2**63, 15])
TOKENS = st.integers(1, TOKENS_MAX)
EMPTY_BYTES = 12 * SEGMENT_SLOTS_MIN << SEGMENT_BITS


class TableMachine(RuleBasedStateMachine):
    @initialize(expected=st.integers(0, 2_000))
    def begin(self, expected: int) -> None:
        self.table = ResidencyTable(expected)
        self.model: dict[int, int] = {}

    @rule(key=KEYS, tokens=TOKENS)
    def put(self, key: int, tokens: int) -> None:
        self.table.put(key, tokens)
        self.model[key] = tokens

    @rule(seed=st.integers(0, 99), count=st.integers(1, 400))
    def put_many(self, seed: int, count: int) -> None:
        rng = random.Random(seed)
        entries = [(rng.getrandbits(64) & ~0b1110000 | 2, number + 1) for number in range(count)]
        self.table.update(entries)
        self.model.update(entries)

    @rule(key=KEYS)
    def discard(self, key: int) -> None:
        self.table.discard(key)
        self.model.pop(key, None)

    @rule(seed=st.integers(0, 99), share=st.floats(0, 1))
    def discard_many(self, seed: int, share: float) -> None:
        for key in random.Random(seed).sample(sorted(self.model), int(share * len(self.model))):
            self.table.discard(key)
            del self.model[key]

    @rule()
    def clear(self) -> None:
        self.table.clear()
        self.model.clear()
        assert self.table.memory_bytes == EMPTY_BYTES

    @rule(key=KEYS)
    def get(self, key: int) -> None:
        assert self.table.get(key) == self.model.get(key, 0)

    @invariant()
    def equal(self) -> None:
        assert len(self.table) == len(self.model)
        assert sorted(self.table) == sorted(self.model.items())
        assert all(self.table.get(key) == tokens for key, tokens in self.model.items())


TestTable = TableMachine.TestCase
TestTable.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


@given(tokens=st.integers(max_value=0) | st.integers(min_value=TOKENS_MAX + 1))
def test_tokens_that_mean_nothing_are_refused(tokens: int) -> None:
    table = ResidencyTable()
    with pytest.raises(ValueError, match="tokens"):
        table.put(5, tokens)
    assert len(table) == 0


def test_the_key_0_is_a_key() -> None:
    table = ResidencyTable()
    assert table.get(0) == 0
    table.put(0, 7)
    assert (table.get(0), len(table), table.leading([0], 0, 1)) == (7, 1, 1)
    table.discard(0)
    assert (table.get(0), len(table), table.leading([0], 0, 1)) == (0, 0, 0)


@given(keys=st.lists(st.integers(2, TOP), unique=True, max_size=200), data=st.data())
def test_a_prefix_is_found_by_its_length(keys: list[int], data: st.DataObject) -> None:
    resident = data.draw(st.integers(0, len(keys)))
    low, high = data.draw(st.integers(0, resident)), data.draw(st.integers(resident, len(keys)))
    table = ResidencyTable()
    table.update((key, 1) for key in keys[:resident])
    assert table.leading(keys, low, high) == resident == bisect_left(keys, x=True, key=lambda key: not table.get(key))


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**32), count=st.integers(3_000, 12_000), left=st.floats(0, 1))
def test_memory_follows_the_entries(seed: int, count: int, left: float) -> None:
    rng = random.Random(seed)
    keys = [rng.getrandbits(64) for _ in range(count)]
    table = ResidencyTable()
    for key in keys:
        table.put(key, 1)
    assert table.memory_bytes <= 48 * count
    keep = int(left * count)
    for key in keys[keep:]:
        table.discard(key)
    assert table.memory_bytes <= max(48 * keep, EMPTY_BYTES + 48 * keep // 2)
