"""Chains share exactly the chunks that texts share, under one root only."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.core.prefix.chain import (
    LINK_BYTES,
    ROOT_BYTES,
    PrefixChain,
    chain_root,
    chunk_bytes_for,
    key_of,
    next_digest,
)

ROOT = chain_root(model_digest="m", adapter_digest="", salt="")
CHUNK_BYTES = st.integers(1, 9) | st.sampled_from([64, 256])
TEXTS = (
    st.binary(max_size=60)
    | st.binary(min_size=1, max_size=30).map(lambda part: part * 90)
    | st.binary(max_size=900)
    | st.text(max_size=40).map(str.encode)
)
PARTS = st.text(alphabet="ab1:\x00\ud800", max_size=4)


def keys_of(chain: PrefixChain) -> list[int]:
    return [chain.key(place) for place in range(len(chain))]


def common_bytes(one: bytes, other: bytes) -> int:
    return next(
        (at for at, pair in enumerate(zip(one, other, strict=False)) if pair[0] != pair[1]), min(len(one), len(other))
    )


@given(chunk_bytes=CHUNK_BYTES, common=TEXTS, one=TEXTS, other=TEXTS)
def test_chains_share_what_texts_share(chunk_bytes: int, common: bytes, one: bytes, other: bytes) -> None:
    texts = common + one, common + other
    first, second = (keys_of(PrefixChain(ROOT, text, chunk_bytes)) for text in texts)
    shared = common_bytes(*texts) // chunk_bytes
    assert first[:shared] == second[:shared]
    assert not set(first[shared:]) & set(second)
    assert not set(second[shared:]) & set(first)


@given(chunk_bytes=CHUNK_BYTES, text=TEXTS, places=st.lists(st.integers(0, 1_000), max_size=5))
def test_any_way_of_asking_gives_the_replicas_keys(chunk_bytes: int, text: bytes, places: list[int]) -> None:
    digest, expected = ROOT, []
    for start in range(0, len(text) - chunk_bytes + 1, chunk_bytes):
        digest = next_digest(digest, text[start : start + chunk_bytes])
        expected.append(key_of(digest))
    chain = PrefixChain(ROOT, text, chunk_bytes)
    assert len(chain) == len(expected)
    for place in places:
        if place < len(expected):
            assert chain.key(place) == expected[place]
        else:
            with pytest.raises(IndexError):
                chain.key(place)
    assert keys_of(chain) == expected
    assert all(0 <= key < 2**64 for key in expected)


@given(one=st.tuples(PARTS, PARTS, PARTS), other=st.tuples(PARTS, PARTS, PARTS), text=st.binary(min_size=8))
def test_nothing_is_shared_between_roots(one: tuple[str, str, str], other: tuple[str, str, str], text: bytes) -> None:
    roots = [chain_root(model_digest=model, adapter_digest=adapter, salt=salt) for model, adapter, salt in (one, other)]
    assert [len(root) for root in roots] == [ROOT_BYTES, ROOT_BYTES]
    assert (roots[0] == roots[1]) == (one == other)
    first, second = (set(keys_of(PrefixChain(root, text, 4))) for root in roots)
    assert first == second if one == other else not first & second


def test_hashing_goes_only_as_far_as_asked() -> None:
    chain = PrefixChain(ROOT, bytes(100 * LINK_BYTES + 500), 64)
    assert (len(chain), chain.link_count, chain.chunks_per_link) == (1_607, 100, 16)
    assert chain.link_keys == []
    chain.key(9 * 16 + 3)
    assert len(chain.link_keys) == 9
    chain.hash_links(5)
    assert len(chain.link_keys) == 9
    chain.hash_links(1_000)
    assert chain.link_keys == [chain.key(16 * link + 15) for link in range(100)]
    with pytest.raises(IndexError):
        chain.key(-1)


@given(chunk_bytes=CHUNK_BYTES, text=st.binary(max_size=3_000))
def test_digests_stay_short(chunk_bytes: int, text: bytes) -> None:
    digest = ROOT
    for start in range(0, len(text), chunk_bytes):
        digest = next_digest(digest, text[start : start + chunk_bytes])
        assert ROOT_BYTES <= len(digest) < ROOT_BYTES + LINK_BYTES


@settings(max_examples=200)
@given(block_tokens=st.integers(1, 4_096))
def test_a_chunk_holds_about_a_block(block_tokens: int) -> None:
    size = chunk_bytes_for(block_tokens)
    assert 64 <= size <= 512
    assert size & (size - 1) == 0
    assert size <= 2 * block_tokens or size == 64
    assert 2 * size > 2 * block_tokens or size == 512


@pytest.mark.parametrize("block_tokens", [0, -1])
def test_a_block_without_tokens_is_refused(block_tokens: int) -> None:
    with pytest.raises(ValueError, match="block"):
        chunk_bytes_for(block_tokens)


@pytest.mark.parametrize(("root", "chunk_bytes"), [(b"", 64), (bytes(32), 64), (ROOT, 0), (ROOT, -64)])
def test_a_chain_needs_a_root_and_chunks(root: bytes, chunk_bytes: int) -> None:
    with pytest.raises(ValueError, match="bytes"):
        PrefixChain(root, b"text", chunk_bytes)


def test_keys_stay_what_they_are() -> None:
    """Replicas and gateways of two versions meet; another form needs another CHAIN_FORMAT."""
    root = chain_root(model_digest="model", adapter_digest="adapter", salt="salt")
    assert root.hex() == "3a175a1b661763a21b02e660328cf227"
    chain = PrefixChain(root, bytes(range(256)) * 5, 64)
    assert [chain.key(place) for place in (3, 15, 16)] == [0x4CFF54D04D808722, 0xF8FA2EC84672EEC8, 0xBE30DC8E0A01CBEE]
