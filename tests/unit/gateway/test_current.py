"""Reloading: what changes, what needs more than a reload, and a broken file."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from cluster.config import Config, parse_config
from services.gateway.catalog import Catalog
from services.gateway.current import Current
from tests.gateway_harness import TWO_POOLS


@pytest.fixture
def current() -> Current:
    return Current(Catalog(parse_config(TWO_POOLS), {}.get), {}.get)


def write(folder: Path, text: str) -> Path:
    path = folder / "c.yaml"
    path.write_text(text)
    return path


def reload(current: Current, path: Path) -> Catalog | None:
    reloaded = current.reload(path, lambda _config: None)
    return None if reloaded is None else reloaded[0]


def test_a_broken_file_changes_nothing(current: Current, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    before = current.catalog
    assert reload(current, write(tmp_path, "pools: 3\n")) is None
    assert reload(current, tmp_path / "missing.yaml") is None
    assert current.catalog is before
    assert "c.yaml:1: pools" in caplog.text


def test_what_a_new_file_needs_is_worked_out_before_it_is_in_force(current: Current, tmp_path: Path) -> None:
    before = current.catalog
    path = write(tmp_path, TWO_POOLS.replace("gpt-4o", "gpt-5"))

    def fail(_config: Config) -> None:
        assert current.catalog is before
        raise PermissionError

    with pytest.raises(PermissionError):
        current.reload(path, fail)
    assert current.catalog is before
    assert current.reload(path, lambda config: config.models[0].aliases) == (current.catalog, ["gpt-5"])


def test_aliases_defaults_and_caps_change(current: Current, tmp_path: Path) -> None:
    text = TWO_POOLS.replace("gpt-4o", "gpt-5").replace("max_tokens: 500", "max_tokens: 600")
    catalog = reload(current, write(tmp_path, text))
    assert catalog is current.catalog
    assert catalog.resolve("gpt-4o") is None
    resolved = catalog.resolve("gpt-5")
    assert resolved is not None
    assert (resolved.engine_name, resolved.model.policy.max_tokens) == ("tiny", 600)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("models:", "gateway: {port: 1}\nmodels:"), "restart of the gateway: gateway.port"),
        (("models:", "redis: {state_url: 'redis://x'}\nmodels:"), "restart of the gateway: redis"),
        (("context_tokens: 4000", "context_tokens: 5000"), "`longreach up`: pool long.context_tokens"),
        (
            ("context_tokens: 4000", "context_tokens: 4000, tensor_parallel: 2"),
            "`longreach up`: pool long.tensor_parallel",
        ),
        (("name: long", "name: longer"), "`longreach up`: pool longer"),
        (("- id: tiny\n", "- id: tiny\n    sampling: {top_p: 0.5}\n"), "`longreach up`: model tiny.sampling"),
    ],
)
def test_what_a_reload_cannot_change_is_named(
    current: Current, tmp_path: Path, caplog: pytest.LogCaptureFixture, change: tuple[str, str], says: str
) -> None:
    with caplog.at_level(logging.WARNING):
        reload(current, write(tmp_path, TWO_POOLS.replace(*change)))
    assert says in caplog.text


def test_weights_take_effect_without_a_word(current: Current, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    text = TWO_POOLS.replace("context_tokens: 4000", "context_tokens: 4000, traffic: {a: 0.5, b: 0}")
    catalog = reload(current, write(tmp_path, text))
    assert catalog is not None
    assert [[(share.revision, share.weight) for share in pool.shares] for pool in catalog.models[0].pools] == [
        [],
        [("a", 0.5), ("b", 0)],
    ]
    assert catalog.revisions() == {"a", "b"}
    assert "take effect" not in caplog.text


def test_keys_come_from_the_environment_and_missing_ones_are_named() -> None:
    text = """
models: [{id: m}]
pools:
  - name: s
    model: m
    context_tokens: 100
    endpoints: [{url: "http://a", api_key_env: A_KEY}, {url: "http://b", api_key_env: B_KEY}, {url: "http://c"}]
"""
    catalog = Catalog(parse_config(text), {"A_KEY": "secret"}.get)
    assert [static.api_key for static in catalog.statics] == ["secret", None, None]
    assert catalog.missing_keys() == ("B_KEY",)
