"""Counters of faults begin at zero, and stay what they are when the configuration is read again."""

from __future__ import annotations

from cluster.config import parse_config
from cluster.core.lease import PoolName
from cluster.core.request import Route
from cluster.core.tenant import TenantName
from services.api.account import Ending
from services.gateway.catalog import Catalog
from services.gateway.metrics import Metrics
from services.gateway.process import program_version, resident_bytes
from services.gateway.zeros import ENDINGS, WATCHED_REFUSALS, zeros
from tests.gateway_harness import TWO_POOLS
from tests.kubernetes.refusal_codes import refusal_codes


def test_what_begins_at_zero_has_the_words_that_are_counted() -> None:
    assert set(ENDINGS) == set(Ending)
    assert set(WATCHED_REFUSALS) <= refusal_codes()


def test_counters_of_faults_begin_at_zero_for_all_that_is_configured() -> None:
    catalog = Catalog(parse_config(TWO_POOLS), {}.get)
    metrics = Metrics()
    metrics.use_tenants([TenantName("acme")])
    metrics.use_models(catalog.models)
    counters = metrics.snapshot().counters
    for spec, labels in zeros(catalog.models, {"acme"}):
        assert counters[spec.name][tuple(map(str, labels))] == 0
        assert len(labels) == len(spec.labels)
    assert counters["longreach_attempts"]["long", "timeout"] == 0
    assert counters["longreach_spilled"] == {("short", "long"): 0}
    assert counters["longreach_tenant_refused"]["acme", "tokens_per_minute"] == 0


def test_a_reload_loses_no_count() -> None:
    catalog = Catalog(parse_config(TWO_POOLS), {}.get)
    metrics = Metrics()
    metrics.use_models(catalog.models)
    metrics.attempt(PoolName("short"), "timeout")
    metrics.started()
    metrics.ended(Route.CHAT, PoolName("short"), "broken", 0.1)
    metrics.use_models(catalog.models)
    counters = metrics.snapshot().counters
    assert counters["longreach_attempts"]["short", "timeout"] == 1
    assert counters["longreach_requests"]["chat/completions", "short", "broken"] == 1


def test_tenants_of_no_configuration_are_one() -> None:
    metrics = Metrics()
    metrics.use_tenants([TenantName("acme")])
    for name in ("acme", "mallory", "trent"):
        metrics.of_tenant(TenantName(name), "unavailable", "overloaded", None)
    metrics.of_tenant(TenantName("acme"), "ok", "", 0.2)
    snapshot = metrics.snapshot()
    assert snapshot.counters["longreach_tenant_refused"] == {("acme", "overloaded"): 1, ("other", "overloaded"): 2}
    assert snapshot.counters["longreach_tenant_requests"]["acme", "ok"] == 1
    assert list(snapshot.histograms["longreach_tenant_first_byte_seconds"]) == [("acme",)]


def test_the_process_knows_what_it_is_and_has() -> None:
    metrics = Metrics()
    metrics.process(program_version(), 1.5, resident_bytes())
    snapshot = metrics.snapshot()
    assert snapshot.gauges["longreach_resident_memory_bytes"][()] > 2**20
    assert snapshot.gauges["longreach_info"] == {(program_version(),): 1}
    assert snapshot.counters["longreach_cpu_seconds"] == {(): 1.5}
