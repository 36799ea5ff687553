"""However many replicas hold a prompt's opening, residency says what the core's index says."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.core.lease import PoolName, ReplicaId
from cluster.core.prefix import PrefixFacts, PrefixIndex, ResidencyUpdate
from cluster.simulator import residency
from cluster.simulator.residency import BlockChain, Residency
from cluster.simulator.router import Report

BLOCK_TOKENS = 64
FACTS = PrefixFacts(model_digest="", chunk_bytes=1, block_tokens=BLOCK_TOKENS, adapters={})
REPLICAS = [ReplicaId(f"r{number}") for number in range(4)]
CHAINS = [[1, 2, 3, 4, 5, 6], [1, 2, 30, 40, 50], [1], [1, 2, 3, 4, 51]]

changes = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(0, 6), st.booleans(), st.booleans()), max_size=25
)


class Both:
    """What is told to one is told to the other."""

    def __init__(self) -> None:
        self.index, self.residency = PrefixIndex(), Residency(BLOCK_TOKENS)
        self.held: dict[ReplicaId, dict[int, int]] = {}
        self.seqs = dict.fromkeys(REPLICAS, -1)
        for replica_id in REPLICAS:
            self.join(replica_id)

    def join(self, replica_id: ReplicaId) -> None:
        self.seqs[replica_id] += 1
        self.index.apply(replica_id, ResidencyUpdate(epoch=0, seq=self.seqs[replica_id], is_cleared=True))
        self.residency.left(replica_id)
        self.residency.joined(replica_id)
        self.held[replica_id] = {}

    def change(self, replica_id: ReplicaId, adds: list[tuple[int, int]], removes: list[int]) -> None:
        self.seqs[replica_id] += 1
        update = ResidencyUpdate(epoch=0, seq=self.seqs[replica_id], adds=adds, removes=removes)
        assert self.index.apply(replica_id, update)
        self.residency.reported(replica_id, Report(0, PoolName("p"), 0, 0, 0.0, 0, adds, removes))
        kept = {**self.held[replica_id], **dict(adds)}
        self.held[replica_id] = {key: tokens for key, tokens in kept.items() if key not in removes}


@pytest.mark.parametrize("asked_max", [0, 2, 32])
@settings(max_examples=150, deadline=None)
@given(changes=changes, chain=st.sampled_from(CHAINS), prompt_tokens=st.one_of(st.none(), st.integers(1, 450)))
def test_both_find_the_same(
    asked_max: int, changes: list[tuple[int, int, int, bool, bool]], chain: list[int], prompt_tokens: int | None
) -> None:
    both = Both()
    for which, family, depth, is_add, is_restart in changes:
        replica_id, keys = REPLICAS[which], CHAINS[family]
        if is_restart and not is_add:
            both.join(replica_id)
        elif is_add:
            both.change(replica_id, [(key, (place + 1) * BLOCK_TOKENS) for place, key in enumerate(keys[:depth])], [])
        else:  # Tables stay closed under prefixes: with a block goes all that lies behind it, in every chain.
            gone = set(keys[depth:])
            for other in CHAINS:
                first = next((place for place, key in enumerate(other) if key in gone), len(other))
                gone.update(other[first:])
            both.change(replica_id, [], sorted(gone & both.held[replica_id].keys()))
    expected = both.index.resident(BlockChain(chain), REPLICAS, facts=FACTS, prompt_tokens=prompt_tokens)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(residency, "ASKED_MAX", asked_max)
        found = both.residency.resident(BlockChain(chain), prompt_tokens, 0.0)
    assert found == expected
    assert list(found.values()) == sorted(found.values(), reverse=True)


def test_what_was_sent_is_expected_until_the_replica_speaks_for_itself() -> None:
    known = Residency(BLOCK_TOKENS)
    known.joined(REPLICAS[0])
    first, second = BlockChain([1, 2, 3]), BlockChain([1, 2, 30])
    known.sent(7, first, REPLICAS[0])
    assert known.resident(second, None, 0.0) == {REPLICAS[0]: 2 * BLOCK_TOKENS}
    known.settled(7, first, 1.0)
    assert known.resident(second, None, 1.0 + residency.LINGER_S) == {}
    known.forget(7, first)
    assert known.resident(second, None, 0.0) == {}
