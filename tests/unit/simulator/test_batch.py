from __future__ import annotations

import pytest

from cluster.simulator.batch import Batch, Running
from tests.simulated import COST

BLOCK_TOKENS = 4


def batch_of(*lengths: tuple[int, int]) -> Batch:
    """Sequences with so many tokens computed, and so many steps to go."""
    batch = Batch(COST, BLOCK_TOKENS)
    for number, (computed, left) in enumerate(lengths):
        one = Running(number, prompt=computed, output=left + 1, keys=(), arrived_s=0.0)
        one.computed, one.generated = computed, 1
        batch.join(one)
    return batch


def plain_seconds(lengths: list[int], steps: int) -> float:
    return sum(
        COST.step_s(
            prefill_tokens=0,
            attended_tokens=0,
            decoding=len(lengths),
            context_tokens=sum(length + step + 1 for length in lengths),
        )
        for step in range(steps)
    )


def test_many_steps_take_the_sum_of_each() -> None:
    assert batch_of((100, 90), (7, 50)).seconds(37) == pytest.approx(plain_seconds([100, 7], 37))


def test_the_step_under_way_is_the_last_that_began() -> None:
    batch = batch_of((100, 90), (7, 50))
    ends = [batch.seconds(steps) for steps in range(51)]
    for steps in range(50):
        middle = (ends[steps] + ends[steps + 1]) / 2
        assert batch.steps_until(middle, 50) == steps + 1
    assert batch.steps_until(0.0, 50) == 1
    assert batch.steps_until(1e9, 50) == 50


def test_blocks_are_needed_where_lengths_pass_a_block() -> None:
    batch = batch_of((8, 90), (7, 90))
    assert [batch.blocks(step, step + 1) for step in range(6)] == [1, 1, 0, 0, 1, 1]
    assert batch.blocks(0, 6) == 4
    assert batch.blocks(2, 11) == 4
    assert [batch.steps_within(blocks, 60) for blocks in range(1, 5)] == [1, 4, 5, 8]


def test_they_end_in_their_step_and_hold_what_they_took() -> None:
    batch = batch_of((8, 3), (7, 5))
    assert batch.steps_left() == 3
    batch.steps += 3
    (done,) = batch.ended()
    assert (done.number, done.computed, done.generated, done.own) == (0, 11, 4, 1)
    assert (len(batch), batch.steps_left(), batch.context_tokens) == (1, 2, 11)


def test_who_leaves_early_does_not_end() -> None:
    batch = batch_of((8, 3), (7, 5))
    first = next(iter(batch.members))
    batch.leave(first)
    assert batch.steps_left() == 5
    batch.steps += 5
    assert [one.number for one in batch.ended()] == [1]
