from __future__ import annotations

import json
from typing import Any

import pytest

from cluster.core.prefix import PrefixFacts

FACTS = PrefixFacts(model_digest="abc", chunk_bytes=256, block_tokens=128, adapters={"law": "def"})


def test_a_lease_carries_them_both_ways() -> None:
    assert PrefixFacts.from_dict(json.loads(json.dumps(FACTS.to_dict()))) == FACTS


def test_fields_of_later_versions_are_passed_over() -> None:
    assert PrefixFacts.from_dict({**FACTS.to_dict(), "later": 1}) == FACTS


def test_replicas_can_be_grouped_by_them() -> None:
    again = PrefixFacts.from_dict(FACTS.to_dict())
    assert again is not None
    assert len({FACTS, again}) == 1
    other = PrefixFacts(model_digest="abc", chunk_bytes=256, block_tokens=128, adapters={"law": "other"})
    assert len({FACTS, other}) == 2


@pytest.mark.parametrize(
    "change",
    [
        {"format": 2},
        {"format": None},
        {"model_digest": 5},
        {"chunk_bytes": 0},
        {"chunk_bytes": "256"},
        {"chunk_bytes": True},
        {"block_tokens": 12.5},
        {"block_tokens": -1},
        {"adapters": None},
        {"adapters": ["law"]},
        {"adapters": {"law": 5}},
        {"adapters": {5: "law"}},
    ],
)
def test_what_is_not_understood_is_none(change: dict[str, Any]) -> None:
    assert PrefixFacts.from_dict({**FACTS.to_dict(), **change}) is None


@pytest.mark.parametrize("name", list(FACTS.to_dict()))
def test_what_is_missing_is_none(name: str) -> None:
    assert PrefixFacts.from_dict({key: value for key, value in FACTS.to_dict().items() if key != name}) is None


@pytest.mark.parametrize("data", [None, 5, "facts", [], {}])
def test_other_things_are_none(data: object) -> None:
    assert PrefixFacts.from_dict(data) is None
