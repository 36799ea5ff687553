"""Times what a gateway asks before it routes: which of 100 replicas holds how much of a prompt.

What lives here: prompts, what replicas hold of them, and the clock. What must not: printing (cluster/cli), the index.
"""

from __future__ import annotations

import gc
import random
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass

from cluster.core.lease import ReplicaId
from cluster.core.prefix import ROOT_BYTES, PrefixChain, PrefixFacts, PrefixIndex, chunk_bytes_for

REPLICAS = 100
CHUNKS_PER_REPLICA = 10_000
"""A million in all; 64M tokens of prose."""
BLOCK_TOKENS = 128
"""vLLM's on CPUs."""
BYTES_PER_TOKEN = 4
PROMPT_TOKENS = (1_000, 32_000, 200_000)
LOOKUPS = 100
WARM_UP_LOOKUPS = 5
"""Not counted: the interpreter specializes what runs often."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexTiming:
    """What looking up prompts of one length costs; each is hashed for its lookup, as far as that needs."""

    replicas: int
    """Each holds another part of the prompt, the first all of it."""
    prompt_tokens: int
    chunk_bytes: int
    index_chunks: int
    index_lookup_us: float
    """The median."""
    index_lookup_p99_us: float
    index_hash_us: float
    """Of that, what hashing all links of the prompt takes."""
    index_bytes_per_chunk: float

    def row(self) -> dict[str, int | float]:
        """As plain data."""
        return asdict(self)


def measure_index(seed: int, *, lookups: int = LOOKUPS, chunks: int = CHUNKS_PER_REPLICA) -> list[IndexTiming]:
    """Time lookups among 100 replicas.

    Args:
        seed: for prompts and what is held of them.
        lookups: how many for each length.
        chunks: that each replica holds, of whatever prompts.
    """
    rng = random.Random(seed)  # noqa: S311 - repeatable, nothing secret
    return [_measure(tokens, rng, lookups, chunks) for tokens in PROMPT_TOKENS]


def _measure(prompt_tokens: int, rng: random.Random, lookups: int, chunks: int) -> IndexTiming:
    facts = PrefixFacts(
        model_digest="m", chunk_bytes=chunk_bytes_for(BLOCK_TOKENS), block_tokens=BLOCK_TOKENS, adapters={}
    )
    text = rng.randbytes(prompt_tokens * BYTES_PER_TOKEN)
    ids = [ReplicaId(f"replica-{number}") for number in range(REPLICAS)]
    whole = PrefixChain(bytes(ROOT_BYTES), text, facts.chunk_bytes)
    index = PrefixIndex()
    for number, replica_id in enumerate(ids):
        held = rng.randrange(len(whole)) if number else len(whole)
        index.snapshot(replica_id, 1, 1, _entries(whole, min(held, chunks), chunks, rng))
    lookup_ns: list[int] = []
    hash_ns: list[int] = []
    # Pauses of the collector would be counted to whichever lookup they hit.
    gc.collect()
    gc.disable()
    try:
        for _ in range(WARM_UP_LOOKUPS + lookups):
            rng.shuffle(ids)
            begin_ns = time.perf_counter_ns()
            index.resident(PrefixChain(bytes(ROOT_BYTES), text, facts.chunk_bytes), ids, facts=facts)
            looked_ns = time.perf_counter_ns()
            PrefixChain(bytes(ROOT_BYTES), text, facts.chunk_bytes).hash_links(whole.link_count)
            hash_ns.append(time.perf_counter_ns() - looked_ns)
            lookup_ns.append(looked_ns - begin_ns)
    finally:
        gc.enable()
    lookup_ns, hash_ns = sorted(lookup_ns[WARM_UP_LOOKUPS:]), sorted(hash_ns[WARM_UP_LOOKUPS:])
    return IndexTiming(
        replicas=REPLICAS,
        prompt_tokens=prompt_tokens,
        chunk_bytes=facts.chunk_bytes,
        index_chunks=len(index),
        index_lookup_us=round(lookup_ns[lookups // 2] / 1e3, 1),
        index_lookup_p99_us=round(lookup_ns[lookups * 99 // 100] / 1e3, 1),
        index_hash_us=round(hash_ns[lookups // 2] / 1e3, 1),
        index_bytes_per_chunk=round(index.memory_bytes / len(index), 1),
    )


def _entries(chain: PrefixChain, held: int, chunks: int, rng: random.Random) -> Iterator[tuple[int, int]]:
    for place in range(held):
        yield chain.key(place), (place + 1) * BLOCK_TOKENS // 2
    for _ in range(chunks - held):
        yield rng.getrandbits(64), 1
