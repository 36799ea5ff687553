"""The names in a cache of KV blocks, what they say, and what a selection takes."""

from __future__ import annotations

import fnmatch
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.core.tier.about import TierAbout
from cluster.core.tier.contents import Contents, Selection, fingerprints_of, rows
from cluster.core.tier.keys import (
    NO_TAG,
    BlockOwner,
    about_fingerprint,
    about_key,
    block_key,
    owner_of,
    pattern,
    sample_key,
    speed_key,
    tag_of,
)

A, B = "a" * 24, "b" * 24
ABOUT = TierAbout(model="m", pool="p", dtype="float32", tensor_parallel=1, block_tokens=128, payload_bytes=1000)
OTHERS = (speed_key(A), about_key(A, "m"), about_key(A, "org/m:x*?"), sample_key(A, "0" * 16), b"kvb:x", b"", b"other")


def finds(wanted: bytes, key: bytes) -> bool:
    return fnmatch.fnmatchcase(key.decode("latin-1"), wanted.decode("latin-1"))


@given(
    block=st.binary(min_size=1, max_size=40),
    salt=st.none() | st.text(min_size=1, max_size=20),
    adapter=st.none() | st.text("0123456789abcdef", min_size=8, max_size=64),
)
def test_a_blocks_name_tells_its_owner_whatever_its_bytes(block: bytes, salt: str | None, adapter: str | None) -> None:
    key = block_key(A, tag_of(salt, adapter), block)
    owner = owner_of(key)
    assert owner == BlockOwner(A, tag_of(salt))
    assert about_fingerprint(key) is None
    for fingerprint in (None, A):
        for tag in (None, tag_of(salt)):
            assert finds(pattern(fingerprint=fingerprint, tenant_tag=tag), key)
    assert Selection(fingerprints=frozenset({A}), tenant_tag=tag_of(salt)).takes(owner)
    assert not Selection(tenant_tag=tag_of("somebody else")).takes(owner)
    assert not Selection(fingerprints=frozenset({B})).takes(owner)


@pytest.mark.parametrize("key", OTHERS)
def test_what_is_no_block_is_never_taken_for_one(key: bytes) -> None:
    assert owner_of(key) is None
    assert not finds(pattern(), key)
    assert not finds(pattern(fingerprint=A), key)


def test_a_record_comes_back_and_anything_else_is_refused() -> None:
    assert TierAbout.decode(ABOUT.encode()) == ABOUT
    assert about_fingerprint(about_key(A, "m")) == A
    good = json.loads(ABOUT.encode())
    bad = [{**good, "block_tokens": 0}, {**good, "block_tokens": True}, {**good, "model": 5}, {"model": "m"}, [], None]
    for text in (*(json.dumps(each).encode() for each in bad), b"\xff", b"[" * 5000, b"[" * 4000):
        with pytest.raises(ValueError, match=r".+"):
            TierAbout.decode(text)


def test_rows_add_up_and_say_what_is_not_known() -> None:
    acme = tag_of("acme's salt")
    contents = Contents(
        blocks={BlockOwner(A, acme): 30, BlockOwner(A, NO_TAG): 10, BlockOwner(B, acme): 5},
        value_bytes={A: 100, B: 200},
        abouts={A: [ABOUT]},
    )
    found = rows(contents, {acme: "acme"}, Selection())
    assert [(row.models, row.tenant, row.blocks, row.tokens, row.size_bytes, row.share_ratio) for row in found] == [
        (("m",), "acme", 30, 3840, 3000, 0.6),
        (("m",), None, 10, 1280, 1000, 0.2),
        ((), "acme", 5, None, 1000, 0.2),
    ]
    only = rows(contents, {}, Selection(fingerprints=frozenset({B})))
    assert [(row.tag, row.share_ratio) for row in only] == [(acme, 0.2)]


def test_a_models_name_stands_for_its_fingerprints() -> None:
    contents = Contents(blocks={BlockOwner(B, NO_TAG): 1}, value_bytes={}, abouts={A: [ABOUT]})
    assert fingerprints_of("m", contents, {"m", "idle"}) == {A}
    assert fingerprints_of("idle", contents, {"m", "idle"}) == frozenset()
    assert fingerprints_of(B, contents, ()) == {B}
    assert fingerprints_of("mm", contents, {"m", "idle"}) is None
    assert rows(contents, {}, Selection(fingerprints=frozenset())) == (), "an idle model is not all models"
