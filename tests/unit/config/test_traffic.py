"""Revisions and weights in the file: what is a mistake, and what it says."""

from __future__ import annotations

import pytest

from cluster.config import parse_config
from cluster.core.errors import ConfigError
from tests.unit.engine.plans import plan

FILE = "models: [{{id: m}}]\npools: [{{name: p, model: m, context_tokens: 100, {keys}}}]\n"


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ("traffic: {a: 0, b: 0}", "traffic has no weight above 0"),
        ("traffic: {a: -1}", "pools[0].traffic.a: "),
        ("traffic: {a: .inf}", "pools[0].traffic.a: "),
        ("traffic: {a: '1'}", "pools[0].traffic.a: "),
        ("traffic: {Not-A-Name: 1}", "pools[0].traffic.Not-A-Name"),
        ("traffic: {a: 1, b: 1, c: 1, d: 1, e: 1, f: 1, g: 1, h: 1, i: 1}", "pools[0].traffic: "),
        ("revision: 'v 1'", "pools[0].revision: "),
        ("endpoints: [{url: 'http://x'}], traffic: {a: 1}", "traffic has no meaning in a pool with static endpoints"),
        ("endpoints: [{url: 'http://x'}], revision: a", "revision has no meaning in a pool with static endpoints"),
    ],
)
def test_mistakes_are_named(keys: str, says: str) -> None:
    with pytest.raises(ConfigError) as refused:
        parse_config(FILE.format(keys=keys))
    assert says in str(refused.value)


def test_weights_are_numbers_of_any_size() -> None:
    traffic = parse_config(FILE.format(keys="revision: a, traffic: {a: 0.25, b: 1000, c: 0}")).pools[0].traffic
    assert traffic == {"a": 0.25, "b": 1000, "c": 0}


def test_replicas_are_built_with_their_revision_and_never_with_weights() -> None:
    assert plan("revision: v2").revision == "v2"
    assert plan().revision == ""
    assert plan("traffic: {a: 1}") == plan("traffic: {a: 2}")
