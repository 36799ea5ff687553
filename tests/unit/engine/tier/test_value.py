"""Values: what is written is accepted, and nothing else is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.engine.tier import value
from cluster.engine.tier.fingerprint import content_digest, fingerprint_of
from cluster.engine.tier.handshake import PARAMETER, WAIT_MAX_S, RequestTerms, TierFacts

KEY = b"kvb:f:0:\x00\xff"


def fault(key: bytes, stored: bytes, payload_bytes: int) -> value.Fault | None:
    """As a reader goes about it."""
    head, payload = stored[: value.HEADER_BYTES], stored[value.HEADER_BYTES :]
    if len(stored) != value.HEADER_BYTES + payload_bytes:
        return value.Fault.SIZE
    return value.header_fault(key, head, payload_bytes) or value.payload_fault(head, payload)


@given(st.binary(max_size=200), st.binary(max_size=500))
def test_what_was_written_is_accepted(key: bytes, payload: bytes) -> None:
    assert fault(key, value.header(key, payload) + payload, len(payload)) is None


@given(st.binary(min_size=1, max_size=300), st.data())
def test_any_damage_is_found(payload: bytes, data: st.DataObject) -> None:
    stored = bytearray(value.header(KEY, payload) + payload)
    at = data.draw(st.integers(0, len(stored) - 1))
    if 5 <= at < 8:
        return  # padding
    stored[at] ^= data.draw(st.integers(1, 255))
    assert fault(KEY, bytes(stored), len(payload)) is not None


@given(st.binary(max_size=300), st.integers(0, 350))
def test_any_other_length_is_refused(payload: bytes, size: int) -> None:
    stored = value.header(KEY, payload) + payload
    if size != len(stored):
        cut = (stored + b"\x00" * 400)[:size]
        assert fault(KEY, cut, len(payload)) is value.Fault.SIZE


def test_another_keys_value_is_refused() -> None:
    assert fault(b"other", value.header(KEY, b"abc") + b"abc", 3) is value.Fault.KEY


def test_another_version_is_refused() -> None:
    stored = bytearray(value.header(KEY, b"abc") + b"abc")
    stored[4] += 1
    assert fault(KEY, bytes(stored), 3) is value.Fault.FORMAT


@given(st.binary(max_size=100))
def test_noise_is_refused(noise: bytes) -> None:
    assert fault(KEY, noise, 64) is not None


def test_a_fingerprint_depends_on_every_field_and_on_no_order() -> None:
    fields = {"a": 1, "b": [1, 2], "c": None}
    first = fingerprint_of(fields)
    assert first == fingerprint_of(dict(reversed(fields.items())))
    assert len({first, fingerprint_of({**fields, "a": 2}), fingerprint_of({**fields, "d": 1})}) == 3


def test_content_is_what_decides_the_numbers(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    (tmp_path / "config.json").write_text("{}")
    first = content_digest(tmp_path)
    (tmp_path / "README.md").write_text("hello")
    assert content_digest(tmp_path) == first
    (tmp_path / "model.safetensors").write_bytes(b"weightz")
    assert content_digest(tmp_path) != first


def test_facts_travel_in_a_private_file(tmp_path: Path) -> None:
    facts = TierFacts(fingerprint="f" * 24, block_tokens=128, payload_bytes=1_572_864, host_blocks=60)
    path = tmp_path / "facts.json"
    facts.write(path)
    assert TierFacts.read(path) == facts
    assert path.stat().st_mode & 0o077 == 0
    assert facts.bytes_per_token == 12_288
    path.write_text("{}")
    with pytest.raises(ValueError, match="facts of a tier"):
        TierFacts.read(path)


def test_terms_travel_with_a_request() -> None:
    terms = RequestTerms(known_tokens=256, wait_s=0.5, tag="01234567.89abcdef")
    assert RequestTerms.of(json.loads(json.dumps(terms.parameter()))) == terms


@pytest.mark.parametrize(
    "parameters",
    [
        None,
        {},
        {PARAMETER: None},
        {PARAMETER: []},
        {PARAMETER: {"known": 5, "wait_s": 1}},
        {PARAMETER: {"known": 5, "wait_s": 1, "tag": "x" * 8}},
        {PARAMETER: {"known": "5", "wait_s": 1, "tag": "00000000"}},
    ],
)
def test_odd_terms_are_none(parameters: dict[str, object] | None) -> None:
    assert RequestTerms.of(parameters).known_tokens == 0


def test_a_wait_has_an_end() -> None:
    said = {PARAMETER: {"known": 5, "wait_s": 1e9, "tag": "00000000"}}
    assert RequestTerms.of(said).wait_s == WAIT_MAX_S
