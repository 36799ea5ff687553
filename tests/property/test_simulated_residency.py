"""The index turned around says what the core's index says."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.core.lease import ReplicaId
from cluster.core.prefix import PrefixFacts, PrefixIndex, ResidencyUpdate
from cluster.simulator.holders import Holders
from cluster.simulator.residency import BlockChain

BLOCK_TOKENS = 64
FACTS = PrefixFacts(model_digest="", chunk_bytes=1, block_tokens=BLOCK_TOKENS, adapters={})
REPLICAS = [ReplicaId(f"r{number}") for number in range(4)]
CHAINS = [[1, 2, 3, 4], [1, 2, 30, 40, 50], [1], [9, 8]]

changes = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(0, 5), st.booleans(), st.booleans()), max_size=25
)


@settings(max_examples=200, deadline=None)
@given(changes=changes, chain=st.sampled_from(CHAINS), prompt_tokens=st.one_of(st.none(), st.integers(1, 330)))
def test_both_find_the_same(
    changes: list[tuple[int, int, int, bool, bool]], chain: list[int], prompt_tokens: int | None
) -> None:
    index, holders = PrefixIndex(), Holders()
    held: dict[ReplicaId, dict[int, int]] = {}
    seqs = dict.fromkeys(REPLICAS, 0)
    for replica_id in REPLICAS:
        index.apply(replica_id, ResidencyUpdate(epoch=0, seq=0, is_cleared=True))
        holders.joined(replica_id)
        held[replica_id] = {}
    for which, family, depth, is_add, is_restart in changes:
        replica_id, keys = REPLICAS[which], CHAINS[family]
        if is_restart and not is_add:
            holders.left(replica_id)
            holders.joined(replica_id)
            index.apply(replica_id, ResidencyUpdate(epoch=0, seq=seqs[replica_id] + 1, is_cleared=True))
            seqs[replica_id] += 1
            held[replica_id] = {}
            continue
        adds, removes = [], []
        if is_add:
            adds = [(key, (place + 1) * BLOCK_TOKENS) for place, key in enumerate(keys[:depth])]
        else:  # Tables stay closed under prefixes: whatever goes, all chains lose what lies behind it.
            gone = set(keys[depth:])
            for other in CHAINS:
                first = next((place for place, key in enumerate(other) if key in gone), len(other))
                gone.update(other[first:])
            removes = sorted(gone & held[replica_id].keys())
        seqs[replica_id] += 1
        assert index.apply(replica_id, ResidencyUpdate(epoch=0, seq=seqs[replica_id], adds=adds, removes=removes))
        holders.update(replica_id, [key for key, _ in adds], removes)
        held[replica_id] = {
            key: tokens for key, tokens in (held[replica_id] | dict(adds)).items() if key not in removes
        }
    expected = index.resident(BlockChain(chain), REPLICAS, facts=FACTS, prompt_tokens=prompt_tokens)
    found = holders.resident(chain, BLOCK_TOKENS, prompt_tokens)
    assert found == expected
    assert list(found.values()) == sorted(found.values(), reverse=True)
    assert holders.of(chain[0]).keys() == {replica_id for replica_id in REPLICAS if chain[0] in held[replica_id]}
