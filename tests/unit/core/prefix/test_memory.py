"""What the index really takes, objects and growth included, as the allocator sees it."""

from __future__ import annotations

import random
import tracemalloc

from cluster.core.lease import ReplicaId
from cluster.core.prefix import PrefixIndex, ResidencyUpdate

CHUNKS = 120_000
BATCH = 1_000
BYTES_PER_CHUNK_MAX = 64


def test_a_resident_chunk_takes_at_most_64_bytes() -> None:
    rng = random.Random(1)
    index, replica_id = PrefixIndex(), ReplicaId("r")
    index.snapshot(replica_id, 1, 0, ())
    tracemalloc.start()
    try:
        for number in range(CHUNKS // BATCH):
            adds = [(rng.getrandbits(64), 1_000) for _ in range(BATCH)]
            assert index.apply(replica_id, ResidencyUpdate(epoch=1, seq=number + 1, adds=adds))
            del adds
            if number * BATCH >= CHUNKS // 4:
                tracemalloc.reset_peak()
        now, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(index) == CHUNKS
    assert index.memory_bytes <= now <= peak <= BYTES_PER_CHUNK_MAX * CHUNKS
