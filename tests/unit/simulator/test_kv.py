from __future__ import annotations

from cluster.simulator.kv import KvCache


def cache(blocks: int = 10, chunk_blocks: int = 2) -> KvCache:
    return KvCache(blocks=blocks, chunk_blocks=chunk_blocks)


def compute(kv: KvCache, keys: tuple[int, ...], own: int = 0) -> None:
    """A sequence computes these chunks, and some blocks of its own, and ends."""
    kv.take(len(keys) * kv.chunk_blocks + own)
    for place, key in enumerate(keys):
        assert kv.share(key, (place + 1) * 32)
    kv.let_go(keys, len(keys), own)


def test_what_was_computed_is_found_by_the_next() -> None:
    kv = cache()
    compute(kv, (1, 2), own=1)
    assert kv.match((1, 2, 3), 3) == (2, 4)
    assert kv.match((1, 2), 1) == (1, 2)
    assert kv.free == kv.total


def test_what_is_held_is_no_longer_free() -> None:
    kv = cache()
    compute(kv, (1, 2))
    kv.hold((1, 2), 1)
    assert (kv.free, kv.use_ratio) == (8, 0.19999999999999996)
    assert kv.match((1, 2), 2) == (2, 2)


def test_the_tail_goes_first_and_the_oldest_first() -> None:
    kv = cache()
    compute(kv, (1, 2))
    compute(kv, (3,), own=2)
    assert kv.blank == 2
    kv.take(3)
    assert kv.match((1, 2), 2) == (1, 2)
    assert kv.match((3,), 1) == (1, 2)
    kv.take(3)
    assert kv.match((1, 2), 2) == (0, 0)
    assert kv.match((3,), 1) == (1, 2)
    assert kv.resident_chunks == 1


def test_changes_are_told_once_and_only_the_last_of_a_key() -> None:
    kv = cache(blocks=4)
    compute(kv, (1, 2))
    assert kv.changes() == ([(1, 32), (2, 64)], [])
    assert kv.changes() == ([], [])
    kv.take(4)
    assert kv.changes() == ([], [2, 1])
    kv.blank += 4
    compute(kv, (1,))
    kv.take(4)
    assert kv.changes() == ([], [1])


def test_a_chunk_computed_twice_is_kept_once() -> None:
    kv = cache()
    kv.take(4)
    assert kv.share(1, 32)
    assert not kv.share(1, 32)
