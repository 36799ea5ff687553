"""Which bodies the quick reader answers for, and which it leaves to the careful one."""

from __future__ import annotations

import json

import pytest

from cluster.core.request import InferenceRequest, RequestId, Route
from services.api.decode import decode, request_id_of
from services.api.refusals import Refusal
from services.api.strict_json import MAX_DEPTH, parse_object, parse_quickly


@pytest.mark.parametrize(
    "raw",
    [
        b"{}",
        b' {"a": 1}\n',
        b'{"a": {"b": [{"c": "d"}, {"c": "d"}]}, "b": 2}',
        b'{"a": "b:c::", "k:": [":", {"x": "{:}"}]}',
        b'{"a": "\\n\\u4f60\\ud83d\\ude00"}',
        '{"a": "你好。", "b": "\U0001f600"}'.encode(),
        b'{"a": "\\u003a"}',
        b'{"prompt": [1, 2, 3]}',
        b'{"a": -0, "b": 1.5e3, "c": 18446744073709551615}',
        b'{"a": ' + b"[" * (MAX_DEPTH - 1) + b"]" * (MAX_DEPTH - 1) + b"}",
        json.dumps({"a": "{" * 1000, "b": "[" * 1000}).encode(),
    ],
)
def test_ordinary_bodies_are_read_quickly_and_alike(raw: bytes) -> None:
    assert parse_quickly(raw) == parse_object(raw)


@pytest.mark.parametrize(
    "raw",
    [
        b'{"a": 1, "a": 2}',
        b'{"a": 1, "\\u0061": 2}',
        b'{"x": {"a": 1, "a": 2}}',
        b'{"x": [[{"a": 1, "a": 2}]]}',
        b'{"a": {"b": 1, "c": 2}, "a": {"b": 1}}',
        # As many colons are hidden in what is kept as were left behind by what is lost.
        b'{"a": 1, "a": "\\u003a"}',
        b'{"a": 1, "a": "\\u003A", "b": ":"}',
        b'{"a": ":", "a": "\\u003a\\u003a:"}',
    ],
)
def test_a_key_that_comes_twice_is_never_read_quickly(raw: bytes) -> None:
    assert parse_quickly(raw) is None


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"[]",
        b'{"a": NaN}',
        b'{"a": 1e999}',
        b'{"a": "\\ud800"}',
        b'{"a": "\xff"}',
        b'{"a": "\xed\xa0\x80"}',
        b'\xef\xbb\xbf{"a": 1}',
        b'{"a": 1,}',
        b'{"a": "\t"}',
        b'{"a": ' + b"[" * MAX_DEPTH + b"]" * MAX_DEPTH + b"}",
        b'{"a": ' + b"9" * 5000 + b"}",
    ],
)
def test_what_is_refused_is_not_read_quickly(raw: bytes) -> None:
    assert parse_quickly(raw) is None


def test_integers_beyond_64_bits_are_refused_and_taken_as_before() -> None:
    huge = 10**30
    refused = decode(Route.COMPLETIONS, b'{"model": "m", "prompt": "a", "max_tokens": %d}' % huge, RequestId("r"))
    assert isinstance(refused, Refusal)
    assert refused.message == f"max_tokens: input should be less than or equal to {2**63 - 1} (given: {huge})."
    taken = decode(Route.COMPLETIONS, b'{"model": "m", "prompt": "a", "top_k": %d}' % huge, RequestId("r"))
    assert isinstance(taken, InferenceRequest)


def test_new_ids_differ_and_look_alike() -> None:
    ids = {request_id_of({}) for _ in range(1000)}
    assert len(ids) == 1000
    assert {len(each) for each in ids} == {len("req-") + 32}
    assert request_id_of({"x-request-id": "mine"}) == "mine"
    assert request_id_of({"x-request-id": "not\nmine"}).startswith("req-")
