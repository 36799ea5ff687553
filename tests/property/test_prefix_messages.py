"""Updates and snapshots come back as they went; everything else raises ValueError and nothing else."""

from __future__ import annotations

import random
from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.core.prefix import messages
from cluster.core.prefix.messages import (
    ResidencyUpdate,
    decode_snapshot,
    decode_update,
    encode_snapshot,
    encode_update,
)

U64 = st.integers(0, 2**64 - 1)
ENTRIES = st.lists(st.tuples(U64, st.integers(1, 2**32 - 1)), max_size=20)
UPDATES = st.builds(
    ResidencyUpdate, epoch=U64, seq=U64, adds=ENTRIES, removes=st.lists(U64, max_size=20), is_cleared=st.booleans()
)
SAMPLE = ResidencyUpdate(epoch=3, seq=4, adds=[(5, 6), (7, 8)], removes=[9], is_cleared=True)


def columns(entries: list[tuple[int, int]]) -> tuple[array[int], array[int]]:
    return array("Q", [key for key, _ in entries]), array("I", [tokens for _, tokens in entries])


@given(update=UPDATES)
def test_an_update_comes_back(update: ResidencyUpdate) -> None:
    assert decode_update(encode_update(update)) == update


@given(epoch=U64, seq=U64, entries=ENTRIES)
def test_a_snapshot_comes_back(epoch: int, seq: int, entries: list[tuple[int, int]]) -> None:
    keys, tokens = columns(entries)
    assert decode_snapshot(encode_snapshot(epoch, seq, keys, tokens)) == (epoch, seq, keys, tokens)


@given(update=UPDATES, entries=ENTRIES, data=st.data())
def test_another_length_is_refused(
    update: ResidencyUpdate, entries: list[tuple[int, int]], data: st.DataObject
) -> None:
    for encoded, decode in (
        (encode_update(update), decode_update),
        (encode_snapshot(1, 2, *columns(entries)), decode_snapshot),
    ):
        length = data.draw(st.integers(0, len(encoded) - 1))
        with pytest.raises(ValueError, match=r"bytes|version"):
            decode(encoded[:length])
        with pytest.raises(ValueError, match="bytes"):
            decode(encoded + data.draw(st.binary(min_size=1)))


@given(data=st.binary(max_size=80) | st.binary(max_size=80).map(lambda rest: b"\x01\x01" + rest))
def test_noise_is_refused_or_read(data: bytes) -> None:
    for decode in (decode_update, decode_snapshot):
        try:
            decode(data)
        except ValueError:
            continue


@given(seed=st.integers(0, 2**32), flips=st.integers(1, 6))
def test_flipped_bits_never_raise_anything_else(seed: int, flips: int) -> None:
    rng = random.Random(seed)
    for encoded, decode in (
        (encode_update(SAMPLE), decode_update),
        (encode_snapshot(1, 2, *columns([(5, 6), (7, 8)])), decode_snapshot),
    ):
        changed = bytearray(encoded)
        for _ in range(flips):
            changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
        try:
            decode(bytes(changed))
        except ValueError:
            continue


def test_one_kind_is_not_read_as_the_other() -> None:
    with pytest.raises(ValueError, match="kind"):
        decode_snapshot(encode_update(SAMPLE))
    with pytest.raises(ValueError, match="kind"):
        decode_update(encode_snapshot(1, 2, *columns([(5, 6)] * 4)))


@pytest.mark.parametrize(
    ("place", "value", "match"),
    [(0, 2, "version"), (0, 0, "version"), (1, 9, "kind"), (2, 2, "flags"), (2, 129, "flags")],
)
def test_what_is_not_understood_is_refused(place: int, value: int, match: str) -> None:
    changed = bytearray(encode_update(SAMPLE))
    changed[place] = value
    with pytest.raises(ValueError, match=match):
        decode_update(bytes(changed))


@pytest.mark.parametrize(
    "update",
    [
        SAMPLE._replace(epoch=-1),
        SAMPLE._replace(seq=2**64),
        SAMPLE._replace(adds=[(2**64, 1)]),
        SAMPLE._replace(adds=[(-1, 1)]),
        SAMPLE._replace(adds=[(1, 0)]),
        SAMPLE._replace(adds=[(1, 2**32)]),
        SAMPLE._replace(removes=[2**64]),
        SAMPLE._replace(removes=[-1]),
    ],
)
def test_an_update_that_fits_no_field_is_refused(update: ResidencyUpdate) -> None:
    with pytest.raises(ValueError, match=r"update|tokens"):
        encode_update(update)


@pytest.mark.parametrize(
    ("epoch", "keys", "tokens"),
    [
        (-1, array("Q"), array("I")),
        (1, array("Q", [1]), array("I")),
        (1, array("I", [1]), array("I", [1])),
        (1, array("Q", [1]), array("Q", [1])),
        (1, array("Q", [1]), array("I", [0])),
    ],
)
def test_a_snapshot_of_wrong_columns_is_refused(epoch: int, keys: array[int], tokens: array[int]) -> None:
    with pytest.raises(ValueError, match=r"columns|snapshot|tokens"):
        encode_snapshot(epoch, 1, keys, tokens)


def test_a_chunk_without_tokens_is_refused() -> None:
    encoded = encode_snapshot(1, 2, *columns([(5, 6)]))
    with pytest.raises(ValueError, match="tokens"):
        decode_snapshot(encoded[:-4] + bytes(4))


def test_limits_hold_both_ways(monkeypatch: pytest.MonkeyPatch) -> None:
    update, snapshot = encode_update(SAMPLE), encode_snapshot(1, 2, *columns([(5, 6), (7, 8)]))
    monkeypatch.setattr(messages, "UPDATE_ENTRIES_MAX", 3)
    monkeypatch.setattr(messages, "SNAPSHOT_ENTRIES_MAX", 2)
    assert encode_update(decode_update(update)) == update
    assert encode_snapshot(*decode_snapshot(snapshot)) == snapshot
    monkeypatch.setattr(messages, "UPDATE_ENTRIES_MAX", 2)
    monkeypatch.setattr(messages, "SNAPSHOT_ENTRIES_MAX", 1)
    for refused in (
        lambda: decode_update(update),
        lambda: encode_update(SAMPLE),
        lambda: decode_snapshot(snapshot),
        lambda: encode_snapshot(1, 2, *columns([(5, 6), (7, 8)])),
    ):
        with pytest.raises(ValueError, match="entries"):
            refused()


def test_counts_that_lie_cost_nothing() -> None:
    header = bytearray(encode_update(ResidencyUpdate(epoch=1, seq=1)))
    header[-8:] = b"\xff" * 8
    with pytest.raises(ValueError, match="entries"):
        decode_update(bytes(header))


def test_the_bytes_stay_what_they_are() -> None:
    """Replicas and gateways of two versions meet; another form needs another MESSAGE_VERSION."""
    assert encode_update(ResidencyUpdate(epoch=1, seq=2, adds=[(3, 4)], removes=[5])).hex() == (
        "01010000" "0100000000000000" "0200000000000000" "01000000" "01000000"
        "0300000000000000" "04000000" "0500000000000000"
    )  # fmt: skip
    assert encode_snapshot(1, 2, *columns([(3, 4)])).hex() == (
        "01020000" "0100000000000000" "0200000000000000" "01000000" "0300000000000000" "04000000"
    )  # fmt: skip
