"""`gateway.routing.boundary`: what it needs, and between which pools it is."""

from __future__ import annotations

import pytest

from cluster.config import Config, parse_config
from cluster.core.autoscaling import ServiceLevel
from cluster.core.errors import ConfigError


def read(pools: str, boundary: str = "adaptive", models: str = "[{id: m}]") -> Config:
    return parse_config(f"models: {models}\npools: [{pools}]\ngateway: {{routing: {{boundary: {boundary}}}}}\n")


SHORT = "{name: short, model: m, context_tokens: 100}"
MIDDLE = "{name: middle, model: m, context_tokens: 200}"
LONG = "{name: long, model: m, context_tokens: 400}"
AWAY = "{name: away, model: m, context_tokens: 200, endpoints: [{url: 'http://x'}]}"


def pairs(config: Config) -> list[tuple[str, str]]:
    return [(smaller.name, larger.name) for smaller, larger in config.boundaries]


def test_neighbours_in_length_have_one() -> None:
    assert pairs(read(f"{LONG}, {SHORT}, {MIDDLE}")) == [("short", "middle"), ("middle", "long")]
    # Nobody knows how fast a foreign engine is, so there is none on either side of it.
    assert pairs(read(f"{SHORT}, {LONG}, {AWAY}, {{name: huge, model: m, context_tokens: 800}}")) == [("long", "huge")]


def test_fixed_is_the_default_and_has_none() -> None:
    config = parse_config(f"models: [{{id: m}}]\npools: [{SHORT}, {LONG}]\n")
    assert config.gateway.routing.boundary == "fixed"
    assert pairs(config) == []
    read(SHORT, "fixed")


@pytest.mark.parametrize(
    "pools", [SHORT, f"{SHORT}, {{name: twin, model: m, context_tokens: 100}}", f"{SHORT}, {AWAY}, {LONG}"]
)
def test_pools_without_a_neighbour_are_a_mistake(pools: str) -> None:
    with pytest.raises(ConfigError, match=r"gateway.routing.boundary: adaptive moves the boundary between two pools"):
        read(pools)


def test_two_pools_of_one_length_are_a_mistake() -> None:
    twin = "{name: twin, model: m, context_tokens: 100}"
    with pytest.raises(ConfigError, match=r"pools\[2\].context_tokens: 100 is also that of 'short'"):
        read(f"{SHORT}, {LONG}, {twin}")
    others = "{name: a, model: n, context_tokens: 100}, {name: b, model: n, context_tokens: 100}"
    assert pairs(read(f"{SHORT}, {LONG}, {others}", models="[{id: m}, {id: n}]")) == [("short", "long")]


def test_anything_else_is_a_mistake() -> None:
    with pytest.raises(ConfigError, match=r"gateway.routing.boundary: "):
        read(f"{SHORT}, {LONG}", "moving")


def test_what_is_promised_is_what_autoscaling_promises() -> None:
    promised = "{name: short, model: m, context_tokens: 100, autoscaling: {ttft_s: 5, itl_s: 0.2}}"
    (smaller, larger) = read(f"{promised}, {LONG}").boundaries[0]
    assert smaller.autoscaling.level == ServiceLevel(ttft_s=5, itl_s=0.2)
    assert larger.autoscaling.level == ServiceLevel()
