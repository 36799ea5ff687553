"""The index after any history equals what replicas said, and a replica that lost the thread is forgotten alone."""

from __future__ import annotations

from collections.abc import Iterable

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from cluster.core.lease import ReplicaId
from cluster.core.prefix import PrefixChain, PrefixFacts, PrefixIndex, ResidencyUpdate, predicted_tokens
from cluster.core.prefix.index import HASH_STEP_LINKS

REPLICAS = [ReplicaId(f"r{number}") for number in range(3)]
IDS = st.sampled_from(REPLICAS)
KEYS = st.integers(0, 30).map(lambda number: (number * 0x9E3779B97F4A7C15 + 2) % 2**64)
ENTRIES = st.lists(st.tuples(KEYS, st.integers(1, 9)), max_size=12)
EPOCHS = st.integers(1, 2)
SEQS = st.integers(0, 5)
ROOT = bytes(16)
FACTS = PrefixFacts(model_digest="m", chunk_bytes=64, block_tokens=16, adapters={})


class IndexMachine(RuleBasedStateMachine):
    @initialize()
    def begin(self) -> None:
        self.index = PrefixIndex()
        self.known: dict[ReplicaId, tuple[int, int]] = {}
        self.held: dict[ReplicaId, dict[int, int]] = {}

    @rule(replica_id=IDS, epoch=EPOCHS, seq=SEQS, entries=ENTRIES)
    def snapshot(self, replica_id: ReplicaId, epoch: int, seq: int, entries: list[tuple[int, int]]) -> None:
        self.index.snapshot(replica_id, epoch, seq, iter(entries))
        self.known[replica_id], self.held[replica_id] = (epoch, seq), dict(entries)

    @rule(replica_id=IDS, adds=ENTRIES, removes=st.lists(KEYS, max_size=12), is_cleared=st.booleans())
    def next_update(
        self, replica_id: ReplicaId, adds: list[tuple[int, int]], removes: list[int], is_cleared: bool
    ) -> None:
        epoch, seq = self.known.get(replica_id, (1, 1))
        self.tell(replica_id, ResidencyUpdate(epoch, seq + 1, adds, removes, is_cleared))

    @rule(
        replica_id=IDS,
        update=st.builds(ResidencyUpdate, EPOCHS, SEQS, ENTRIES, st.lists(KEYS, max_size=12), st.booleans()),
    )
    def tell(self, replica_id: ReplicaId, update: ResidencyUpdate) -> None:
        known = self.known.get(replica_id)
        is_old = known is not None and known[0] == update.epoch and update.seq <= known[1]
        follows = known == (update.epoch, update.seq - 1) or update.is_cleared
        assert self.index.apply(replica_id, update) == (is_old or follows)
        if is_old:
            return
        if not follows:
            self.forget(replica_id)
            return
        held = {} if update.is_cleared else self.held[replica_id]
        held = {key: tokens for key, tokens in held.items() if key not in update.removes} | dict(update.adds)
        self.known[replica_id], self.held[replica_id] = (update.epoch, update.seq), held

    @rule(replica_id=IDS)
    def drop(self, replica_id: ReplicaId) -> None:
        self.index.drop(replica_id)
        self.forget(replica_id)

    def forget(self, replica_id: ReplicaId) -> None:
        self.known.pop(replica_id, None)
        self.held.pop(replica_id, None)

    @invariant()
    def equal(self) -> None:
        assert {one: self.index.known(one) for one in REPLICAS} == {one: self.known.get(one) for one in REPLICAS}
        assert len(self.index) == sum(map(len, self.held.values()))
        for replica_id, held in self.held.items():
            assert dict(self.index._replicas[replica_id].table) == held


TestIndex = IndexMachine.TestCase
TestIndex.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)


def holding(index: PrefixIndex, replica_id: ReplicaId, text: bytes, chunks: int, others: int) -> None:
    """Let a replica hold the first `chunks` of `text`, 16 tokens each, and `others` of another."""
    entries = []
    for held, count in ((text, chunks), (b"x" * 64 * others, others)):
        chain = PrefixChain(ROOT, held, 64)
        entries += [(chain.key(place), 16 * (place + 1)) for place in range(count)]
    index.snapshot(replica_id, 1, 1, entries)


@settings(max_examples=60, deadline=None)
@given(
    chunks=st.integers(0, 400),
    held=st.lists(st.tuples(st.integers(0, 400), st.integers(0, 300)), max_size=8),
    prompt_tokens=st.none() | st.integers(1, 7_000),
    hashed=st.integers(0, 25),
)
def test_everybody_is_predicted_by_what_they_hold(
    chunks: int, held: list[tuple[int, int]], prompt_tokens: int | None, hashed: int
) -> None:
    text = b"".join(b"%064d" % place for place in range(chunks))
    index = PrefixIndex()
    ids = [ReplicaId(f"r{number}") for number in range(len(held))]
    for replica_id, (count, others) in zip(ids, held, strict=True):
        holding(index, replica_id, text, min(count, chunks), others)
    chain = PrefixChain(ROOT, text + b"tail", 64)
    chain.hash_links(hashed)
    found = index.resident(chain, [*ids, ReplicaId("unknown")], facts=FACTS, prompt_tokens=prompt_tokens)
    expected = {}
    for replica_id, (count, _) in zip(ids, held, strict=True):
        leading = min(count, chunks)
        tokens = predicted_tokens(
            tokens=16 * leading, chunk_tokens=16 if leading else 0, block_tokens=16, prompt_tokens=prompt_tokens
        )
        if tokens:
            expected[replica_id] = tokens
    assert found == expected
    assert list(found.values()) == sorted(found.values(), reverse=True)
    longest = max((min(count, chunks) for count, _ in held), default=0)
    assert len(chain.link_keys) <= max(hashed, longest // 16 + HASH_STEP_LINKS)


@given(lengths=st.lists(st.integers(0, 40), min_size=2, max_size=6).map(sorted))
def test_a_longer_shared_prefix_never_lowers_the_prediction(lengths: list[int]) -> None:
    text = b"".join(b"%064d" % place for place in range(40))
    index = PrefixIndex()
    holding(index, REPLICAS[0], text, 40, 0)
    found = [resident(index, PrefixChain(ROOT, text[: 64 * length] + b"?" * 640, 64), REPLICAS) for length in lengths]
    assert found == sorted(found)


def resident(index: PrefixIndex, chain: PrefixChain, ids: Iterable[ReplicaId]) -> int:
    return index.resident(chain, ids, facts=FACTS).get(REPLICAS[0], 0)
