"""Idempotency keys: what is the same request, what a record means, and that what is kept stays within bounds."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from cluster.core.idempotency import (
    ENTRY_BYTES,
    FINGERPRINT_BYTES,
    KEY_CHARS_MAX,
    BadKey,
    Claim,
    KeptAnswer,
    Room,
    Shelf,
    Slot,
    decode,
    encode_answer,
    encode_claim,
    fingerprint_of,
    read_key,
    slot_of,
)
from cluster.core.request import Route
from cluster.core.tenant import TenantName

FINGERPRINTS = st.binary(min_size=FINGERPRINT_BYTES, max_size=FINGERPRINT_BYTES)
NAMES = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?", fullmatch=True)
PRINTABLE = st.text(st.characters(min_codepoint=32, max_codepoint=126))
ANSWERS = st.builds(
    KeptAnswer,
    fingerprint=FINGERPRINTS,
    status=st.integers(200, 299),
    is_static=st.booleans(),
    headers=st.dictionaries(NAMES, st.text(max_size=30), max_size=4),
    body=st.binary(max_size=2000),
)


@given(st.text())
def test_a_key_is_short_printable_ascii_or_refused(text: str) -> None:
    key = read_key(text)
    if isinstance(key, BadKey):
        return
    assert 1 <= len(key) <= KEY_CHARS_MAX
    assert key.isascii()
    assert key.isprintable()
    assert key in text


@given(PRINTABLE.filter(lambda text: 0 < len(text.strip()) <= KEY_CHARS_MAX and '"' not in text))
def test_quotes_around_a_key_do_not_count(text: str) -> None:
    key = text.strip()
    assert read_key(f'"{key}"') == read_key(key) == key


@given(NAMES, st.text(min_size=1), NAMES, st.text(min_size=1))
def test_no_two_keys_and_no_two_tenants_share_a_slot(one: str, its: str, other: str, others: str) -> None:
    same = slot_of(TenantName(one), its) == slot_of(TenantName(other), others)
    assert same is ((one, its) == (other, others))


@given(st.sampled_from(Route), st.binary(), st.sampled_from(Route), st.binary())
def test_route_and_body_make_the_request(one: Route, its: bytes, other: Route, others: bytes) -> None:
    same = fingerprint_of(one, its) == fingerprint_of(other, others)
    assert same is ((one, its) == (other, others))


@given(ANSWERS)
def test_an_answer_is_read_as_it_was_written(answer: KeptAnswer) -> None:
    assert decode(encode_answer(answer)) == answer


@given(FINGERPRINTS, st.text(min_size=1))
def test_a_claim_is_read_as_it_was_written(fingerprint: bytes, owner: str) -> None:
    claim = Claim(fingerprint=fingerprint, owner=owner)
    assert decode(encode_claim(claim)) == claim


@given(ANSWERS, st.data())
def test_half_a_record_is_none(answer: KeptAnswer, data: st.DataObject) -> None:
    record = encode_answer(answer)
    assert decode(record[: data.draw(st.integers(0, len(record) - 1))]) is None


@given(st.binary(max_size=200))
def test_any_bytes_can_be_read(record: bytes) -> None:
    found = decode(record)
    assert found is None or found.fingerprint == record[1 : 1 + FINGERPRINT_BYTES]


class ShelfRules(RuleBasedStateMachine):
    """A shelf beside a plain dictionary."""

    def __init__(self) -> None:
        super().__init__()
        self.shelf: Shelf[int] = Shelf()
        self.kept: dict[Slot, tuple[int, int, float]] = {}
        self.room = Room(answers=4, total_bytes=10 * ENTRY_BYTES)
        self.now_s = 0.0
        self.number = 0

    @rule(name=st.sampled_from("abcdefgh"), size_bytes=st.integers(0, 11 * ENTRY_BYTES), life_s=st.integers(1, 20))
    def put(self, name: str, size_bytes: int, life_s: int) -> None:
        self.number += 1
        slot = Slot(name)
        alive = {one for one, (_, _, until_s) in self.kept.items() if until_s > self.now_s} | {slot}
        self.kept.pop(slot, None)
        self.kept[slot] = (self.number, size_bytes + ENTRY_BYTES, self.now_s + life_s)
        gone = self.shelf.put(
            slot, self.number, size_bytes, until_s=self.now_s + life_s, now_s=self.now_s, room=self.room
        )
        assert set(gone) <= alive, "what had expired is not missed"
        for one in gone:
            del self.kept[one]
        if size_bytes + ENTRY_BYTES <= self.room.total_bytes:
            assert slot not in gone, "others make room for what fits"

    @rule(name=st.sampled_from("abcdefgh"))
    def drop(self, name: str) -> None:
        self.shelf.drop(Slot(name))
        self.kept.pop(Slot(name), None)

    @rule(seconds=st.integers(1, 15))
    def wait(self, seconds: int) -> None:
        self.now_s += seconds

    @rule(answers=st.integers(1, 8), entries=st.integers(1, 12))
    def reload(self, answers: int, entries: int) -> None:
        self.room = Room(answers=answers, total_bytes=entries * ENTRY_BYTES)

    @invariant()
    def it_holds_what_it_says(self) -> None:
        for slot, (value, _, until_s) in self.kept.items():
            assert self.shelf.get(slot, self.now_s) == (value if until_s > self.now_s else None)

    @rule(name=st.sampled_from("abcdefgh"))
    def room_is_kept_to(self, name: str) -> None:
        self.put(name, 0, 5)
        assert len(self.shelf) <= self.room.answers
        assert self.shelf.total_bytes <= self.room.total_bytes


TestShelf = ShelfRules.TestCase
