"""The simulator's replica, which takes many steps at once, against the scheduler step by step."""

from __future__ import annotations

from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.core.capacity.step import StepCost
from cluster.simulator.batch import Running
from cluster.simulator.cluster import ReplicaSpec
from cluster.simulator.replica import Replica
from tests.naive_engine import NaiveEngine, Sequence

CHUNK_TOKENS = 8
COST = StepCost(base_s=0.00311, weights_s=0.00707, token_s=0.00083, attention_s=0.0000131, context_token_s=0.0000517)


class Asked(NamedTuple):
    gap: int
    prompt: int
    output: int
    family: int
    priority: int


asked = st.builds(
    Asked,
    gap=st.integers(0, 40),
    prompt=st.integers(1, 60),
    output=st.integers(1, 40),
    family=st.integers(0, 2),
    priority=st.sampled_from([0, 0, 0, 10]),
)
specs = st.builds(
    lambda kv_blocks, block_tokens, max_running, spare, most: ReplicaSpec(
        cost=COST,
        kv_tokens=kv_blocks * block_tokens,
        block_tokens=block_tokens,
        max_running=max_running,
        batch_tokens=max_running + spare,
        long_prefill_tokens=most,
    ),
    kv_blocks=st.integers(50, 90),
    block_tokens=st.sampled_from([2, 2, 4, 8]),
    max_running=st.integers(1, 6),
    spare=st.integers(0, 30),
    most=st.sampled_from([0, 0, 1, 4, 9]),
)


def keys_of(one: Asked) -> tuple[int, ...]:
    return tuple(one.family * 1_000 + place for place in range(one.prompt // CHUNK_TOKENS))


def held_blocks(replica: Replica) -> int:
    """Blocks in use, counted from the sequences."""
    block_tokens, cache = replica._spec.block_tokens, replica.kv
    own = sum(
        -(-(one.base + replica.batch.steps) // block_tokens) - one.shared * cache.chunk_blocks
        for one in replica.batch.members
    )
    own += sum(one.own for one in replica._begun)
    return own + len(cache._held) * cache.chunk_blocks


def run_fast(spec: ReplicaSpec, requests: list[Asked]) -> tuple[list[Running], dict[int, float], dict[int, float]]:
    replica, now_s, coming = Replica(spec, chunk_tokens=CHUNK_TOKENS), 0.0, []
    for number, one in enumerate(requests):
        now_s += one.gap * 0.00731
        coming.append(
            Running(
                number,
                prompt=one.prompt,
                output=one.output,
                keys=keys_of(one),
                arrived_s=now_s,
                priority=one.priority,
            )
        )
    first, ended, left, last_s = {}, {}, list(coming), 0.0
    while left or replica.until_s is not None:
        if left and (replica.until_s is None or left[0].arrived_s <= replica.until_s):
            replica.enter(left[0], left[0].arrived_s)
            left.pop(0)
        else:
            at_s = replica.until_s
            assert at_s is not None
            assert at_s >= last_s
            last_s = at_s
            advanced = replica.advance()
            first.update((one.number, at_s) for one in advanced.answered)
            for one in advanced.ended:
                assert one.number not in ended
                ended[one.number] = at_s
        cache = replica.kv
        assert cache.blank >= 0
        assert sum(cache._idle.values()) == cache.idle
        assert 0 <= replica.kv_use_ratio(last_s) <= 1
        begun = replica._first_blocks
        assert held_blocks(replica) + begun + cache.free == cache.total
    assert replica.kv.free == replica.kv.total
    assert replica.prefill_tokens == 0
    return coming, first, ended


@settings(max_examples=300, deadline=None)
@given(spec=specs, requests=st.lists(asked, min_size=1, max_size=14))
def test_the_replica_does_what_the_scheduler_does_step_by_step(spec: ReplicaSpec, requests: list[Asked]) -> None:
    fast, first, ended = run_fast(spec, requests)
    plain = [
        Sequence(
            number=one.number,
            prompt=one.prompt,
            output=one.output,
            keys=one.keys,
            arrived_s=one.arrived_s,
            priority=one.priority,
        )
        for one in fast
    ]
    NaiveEngine(spec, CHUNK_TOKENS).run(plain)
    assert [one.preemptions for one in fast] == [one.preemptions for one in plain]
    assert [one.cached for one in fast] == [one.cached for one in plain]
    assert first == pytest.approx({one.number: one.first_token_s for one in plain}, rel=1e-9)
    assert ended == pytest.approx({one.number: one.ended_s for one in plain}, rel=1e-9)
