"""Ids that follow from a key: the same at both replicas, others for any other request."""

from __future__ import annotations

import string

from hypothesis import given
from hypothesis import strategies as st

from cluster.engine.resume.draws import Draws

KEYS = st.binary(min_size=16, max_size=32)
ALPHABET = string.ascii_letters + string.digits


@given(key=KEYS, asked=st.lists(st.booleans(), max_size=20))
def test_two_replicas_draw_the_same(key: bytes, asked: list[bool]) -> None:
    one, other = ([d.digits() if a else d.characters(ALPHABET, 9) for a in asked] for d in (Draws(key), Draws(key)))
    assert one == other


@given(keys=st.lists(KEYS, unique=True, max_size=4), count=st.integers(0, 50))
def test_no_id_comes_twice(keys: list[bytes], count: int) -> None:
    found = [draws.digits() for draws in map(Draws, keys) for _ in range(count)]
    assert len(set(found)) == len(keys) * count
    assert all(len(one) == 16 and int(one, 16) >= 0 for one in found)


@given(key=KEYS)
def test_characters_are_of_the_alphabet_and_all_of_them_come(key: bytes) -> None:
    draws = Draws(key)
    found = [draws.characters(ALPHABET, 9) for _ in range(200)]
    assert {len(one) for one in found} == {9}
    assert {character for one in found for character in one} == set(ALPHABET)
