"""What a reload changes at once, and what waits for a restart."""

from __future__ import annotations

import pytest

from cluster.config import Config, parse_config
from cluster.local.reload import merge

BASE = """
cluster: {name: c, ray_port: 0}
models:
  - {id: m, output: {default_tokens: 100}}
  - {id: elsewhere, sampling: {top_p: 0.5}}
pools:
  - {name: short, model: m, context_tokens: 100}
  - {name: long, model: m, context_tokens: 1000}
  - {name: away, model: m, context_tokens: 5000, endpoints: [{url: 'http://127.0.0.1:1'}]}
  - {name: remote, model: elsewhere, context_tokens: 5000, endpoints: [{url: 'http://127.0.0.1:3'}]}
gateway: {port: 0}
"""


def running() -> Config:
    return parse_config(BASE.replace("ray_port: 0", "ray_port: 4000").replace("port: 0}", "port: 8080}"))


def changed(old: str, new: str) -> Config:
    assert old in BASE
    return parse_config(BASE.replace(old, new))


def test_unchanged_file_changes_nothing() -> None:
    merged, result, scales = merge(running(), parse_config(BASE), dropped=frozenset())
    assert (result.applied, result.waiting, scales) == ((), (), False)
    assert merged.gateway.port == 8080
    assert merged.cluster.ray_port == 4000


def test_gateway_and_model_rules_change_at_once() -> None:
    wanted = changed("default_tokens: 100", "default_tokens: 200")
    merged, result, scales = merge(running(), wanted, dropped=frozenset())
    assert result.applied == ("models.m.output",)
    assert not scales
    assert merged.model("m").output.default_tokens == 200
    merged, result, _ = merge(running(), changed("{port: 0}", "{port: 0, limits: {attempts: 5}}"), dropped=frozenset())
    assert result.applied == ("gateway.limits",)
    assert (merged.gateway.port, merged.gateway.limits.attempts) == (8080, 5)


def test_replica_counts_go_to_serve() -> None:
    wanted = changed("context_tokens: 100}", "context_tokens: 100, replicas: {min: 2, max: 3}}")
    merged, result, scales = merge(running(), wanted, dropped=frozenset())
    assert result.applied == ("pools.short.replicas",)
    assert scales
    assert merged.pool("short").replicas.max == 3


def test_what_autoscaling_aims_at_goes_to_serve() -> None:
    wanted = changed("context_tokens: 100}", "context_tokens: 100, autoscaling: {ttft_s: 7}}")
    merged, result, scales = merge(running(), wanted, dropped=frozenset())
    assert (result.applied, result.waiting, scales) == (("pools.short.autoscaling",), (), True)
    assert merged.pool("short").autoscaling.ttft_s == 7


def test_weights_are_the_gateways_and_revisions_the_engines() -> None:
    wanted = changed("context_tokens: 100}", "context_tokens: 100, revision: b, traffic: {a: 1, b: 3}}")
    merged, result, scales = merge(running(), wanted, dropped=frozenset())
    assert (result.applied, result.waiting) == (("pools.short.traffic",), ("pools.short.revision",))
    assert not scales
    assert merged.pool("short").traffic == {"a": 1, "b": 3}
    assert merged.pool("short").revision is None


def test_what_engines_are_built_from_waits() -> None:
    merged, result, _ = merge(running(), changed("context_tokens: 100}", "context_tokens: 200}"), dropped=frozenset())
    assert (result.applied, result.waiting) == ((), ("pools.short.context_tokens",))
    assert merged.pool("short").context_tokens == 100
    merged, result, _ = merge(running(), changed("{port: 0}", "{port: 9999}"), dropped=frozenset())
    assert (result.applied, result.waiting) == ((), ("gateway.port",))
    assert merged.gateway.port == 8080


def test_engines_settings_go_to_serve_where_replicas_may_be_replaced() -> None:
    wanted = changed("context_tokens: 100}", "context_tokens: 200, engine: {max_running: 3}}")
    merged, result, scales = merge(running(), wanted, dropped=frozenset(), rolls=True)
    assert (result.applied, result.waiting) == (("pools.short.engine",), ("pools.short.context_tokens",))
    assert scales
    assert (merged.pool("short").engine.max_running, merged.pool("short").context_tokens) == (3, 100)


def test_static_members_come_and_go() -> None:
    wanted = changed("http://127.0.0.1:1", "http://127.0.0.1:2")
    merged, result, scales = merge(running(), wanted, dropped=frozenset())
    assert result.applied == ("pools.away.endpoints",)
    assert not scales
    assert merged.pool("away").endpoints[0].url == "http://127.0.0.1:2"


def test_dropped_pools_stay_away() -> None:
    small = running().model_copy(update={"pools": [pool for pool in running().pools if pool.name != "long"]})
    merged, result, _ = merge(small, parse_config(BASE), dropped=frozenset({"long"}))
    assert (result.applied, result.waiting) == ((), ())
    assert [pool.name for pool in merged.pools] == ["short", "away", "remote"]


def test_new_and_missing_pools_wait() -> None:
    without = "\n".join(line for line in BASE.splitlines() if "name: long" not in line)
    merged, result, _ = merge(running(), parse_config(without), dropped=frozenset())
    assert result.waiting == ("pools.long",)
    assert "long" in [pool.name for pool in merged.pools]


def test_sampling_of_served_models_waits() -> None:
    wanted = changed("output: {default_tokens: 100}", "output: {default_tokens: 100}, sampling: {temperature: 0.1}")
    merged, result, _ = merge(running(), wanted, dropped=frozenset())
    assert (result.applied, result.waiting) == ((), ("models.m.sampling",))
    assert merged.model("m").sampling.temperature is None, "replicas were built with what the file said before"


def test_models_of_static_pools_change_at_once() -> None:
    wanted = changed("{top_p: 0.5}", "{top_p: 0.9}, lora: [{name: extra, path: /x}]")
    merged, result, scales = merge(running(), wanted, dropped=frozenset())
    assert (result.applied, result.waiting) == (("models.elsewhere.sampling", "models.elsewhere.lora"), ())
    assert merged.model("elsewhere").sampling.top_p == 0.9
    assert not scales


def test_log_format_waits_and_log_level_does_not() -> None:
    wanted = changed("{port: 0}", "{port: 0}\ntelemetry: {log_level: debug, log_format: json}")
    merged, result, _ = merge(running(), wanted, dropped=frozenset())
    assert (result.applied, result.waiting) == (("telemetry.log_level",), ("telemetry.log_format",))
    assert (merged.telemetry.log_level, merged.telemetry.log_format) == ("debug", "text")


@pytest.mark.parametrize(
    ("pool", "old", "new"),
    [
        ("long", "context_tokens: 1000}", "context_tokens: 2000, endpoints: [{url: 'http://127.0.0.1:2'}]}"),
        ("away", ", endpoints: [{url: 'http://127.0.0.1:1'}]}", ", replicas: {min: 2, max: 2}}"),
    ],
    ids=["served to static", "static to served"],
)
def test_pool_that_changes_its_kind_waits_as_it_is(pool: str, old: str, new: str) -> None:
    merged, result, scales = merge(running(), changed(old, new), dropped=frozenset())
    assert (result.applied, result.waiting, scales) == ((), (f"pools.{pool}",), False)
    assert merged.pool(pool) == running().pool(pool)
