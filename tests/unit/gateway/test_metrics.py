"""Tallies as Prometheus text, of one worker and of several."""

from __future__ import annotations

import pickle

import pytest
from prometheus_client.parser import text_string_to_metric_families

from cluster.core.lease import PoolName
from cluster.core.outcome import ReplicaOutcome
from cluster.core.request import Route
from cluster.core.tenant import Priority, TenantName
from services.gateway.directory import EndpointState
from services.gateway.exposition import Snapshot, combined, merge
from services.gateway.metric_labels import PromptCounted
from services.gateway.metrics import Metrics

SHORT, LONG = PoolName("short"), PoolName("long")


def values(text: bytes) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


def value(text: bytes, name: str, **labels: str) -> float:
    return values(text)[name, frozenset(labels.items())]


@pytest.fixture
def busy() -> Metrics:
    """A worker that has seen everything once."""
    metrics = Metrics()
    metrics.use_tenants([TenantName("acme")])
    metrics.use_revisions(["v1"])
    metrics.started()
    metrics.started()
    metrics.attempt(SHORT, "answered")
    metrics.broken(SHORT, "reset")
    metrics.answered(Route.CHAT, SHORT, 128, 0.2)
    metrics.used(
        SHORT, "demo", TenantName("acme"), ReplicaOutcome(prompt_tokens=100, cached_tokens=64, output_tokens=7)
    )
    metrics.used(SHORT, "demo", TenantName("who"), ReplicaOutcome(prompt_tokens=1, output_tokens=2))
    metrics.predicted(64, 80, is_from_redis=False)
    metrics.admitted(SHORT, 0.3)
    metrics.decided(4e-5)
    metrics.counted(PromptCounted.BOUND)
    metrics.spilled(SHORT, LONG)
    metrics.refused("quota")
    metrics.revision(SHORT, "v1", "ok", 0.2)
    metrics.revision(SHORT, "v9", "broken", 0.2)
    metrics.queue_length(Priority.HIGH, 3)
    metrics.usage(500, 2)
    metrics.ended(Route.CHAT, SHORT, "ok", 700.0)
    metrics.directory({SHORT: {EndpointState.READY: 2}}, 1.5)
    return metrics


def test_everything_is_told(busy: Metrics) -> None:
    text = busy.render({SHORT: {EndpointState.READY: 1, EndpointState.SUSPECT: 0}}, None)
    assert 'longreach_requests_total{outcome="ok",pool="short",route="chat/completions"} 1.0' in text.decode()
    assert value(text, "longreach_in_flight") == 1
    assert value(text, "longreach_attempts_total", pool="short", result="answered") == 1
    assert value(text, "longreach_broken_answers_total", pool="short", kind="reset") == 1
    assert value(text, "longreach_tokens_total", kind="prompt", pool="short", model="demo") == 101
    assert value(text, "longreach_tokens_total", kind="cached", pool="short", model="demo") == 64
    assert value(text, "longreach_tokens_total", kind="output", pool="short", model="demo") == 9
    assert value(text, "longreach_tenant_tokens_total", kind="output", tenant="acme") == 7
    assert value(text, "longreach_tenant_tokens_total", kind="output", tenant="other") == 2
    assert value(text, "longreach_spilled_total", **{"from": "short", "to": "long"}) == 1
    assert value(text, "longreach_refused_total", reason="quota") == 1
    assert value(text, "longreach_revision_requests_total", pool="short", revision="v1", outcome="ok") == 1
    assert value(text, "longreach_revision_requests_total", pool="short", revision="other", outcome="broken") == 1
    assert value(text, "longreach_revision_first_byte_seconds_count", pool="short", revision="other") == 1
    assert value(text, "longreach_prompt_count_total", how="bound") == 1
    assert value(text, "longreach_queue_length", priority="high") == 3
    assert value(text, "longreach_endpoints", pool="short", state="ready") == 1
    assert value(text, "longreach_directory_age_seconds") == -1
    assert value(text, "longreach_usage_pending_bytes") == 500
    assert value(text, "longreach_usage_dropped_records_total") == 2
    assert value(text, "longreach_decision_seconds_count") == 1
    assert value(text, "longreach_admission_wait_seconds_sum", pool="short") == 0.3


def test_a_bucket_counts_what_is_at_most_its_bound(busy: Metrics) -> None:
    text = busy.render({}, None)
    prompt = {"pool": "short"}
    assert value(text, "longreach_prompt_tokens_bucket", le="128.0", **prompt) == 1
    seconds = {"pool": "short", "route": "chat/completions"}
    assert value(text, "longreach_request_seconds_bucket", le="600.0", **seconds) == 0
    assert value(text, "longreach_request_seconds_bucket", le="1800.0", **seconds) == 1
    assert value(text, "longreach_request_seconds_bucket", le="+Inf", **seconds) == 1
    assert value(text, "longreach_request_seconds_count", **seconds) == 1
    assert value(text, "longreach_request_seconds_sum", **seconds) == 700
    assert value(text, "longreach_cached_tokens_error_bucket", le="-17.0", tier="replica") == 0
    assert value(text, "longreach_cached_tokens_error_bucket", le="-1.0", tier="replica") == 1


def test_workers_add_up(busy: Metrics) -> None:
    other = Metrics()
    other.started()
    other.admitted(SHORT, 100.0)
    other.admitted(LONG, 1.0)
    other.queue_length(Priority.HIGH, 1)
    other.directory({SHORT: {EndpointState.READY: 1}}, 3.0)
    text = merge([busy.snapshot(), other.snapshot()])
    assert value(text, "longreach_in_flight") == 2
    assert value(text, "longreach_queue_length", priority="high") == 4
    assert value(text, "longreach_endpoints", pool="short", state="ready") == 2
    assert value(text, "longreach_directory_age_seconds") == 3
    assert value(text, "longreach_admission_wait_seconds_count", pool="short") == 2
    assert value(text, "longreach_admission_wait_seconds_sum", pool="short") == 100.3
    assert value(text, "longreach_admission_wait_seconds_bucket", pool="short", le="60.0") == 1
    assert value(text, "longreach_tokens_total", kind="prompt", pool="short", model="demo") == 101
    assert merge([busy.snapshot()]) == busy.render({SHORT: {EndpointState.READY: 2}}, 1.5)


def test_a_worker_that_never_read_the_leases_shows(busy: Metrics) -> None:
    assert value(merge([busy.snapshot(), Metrics().snapshot()]), "longreach_directory_age_seconds") == -1


def test_a_worker_that_ended_leaves_its_counts_and_no_gauges(busy: Metrics) -> None:
    text = merge([busy.snapshot().retired(), Metrics().snapshot()])
    assert value(text, "longreach_attempts_total", pool="short", result="answered") == 1
    assert value(text, "longreach_in_flight") == 0
    assert ("longreach_queue_length", frozenset({("priority", "high")})) not in values(text)


def test_a_snapshot_travels_and_does_not_change(busy: Metrics) -> None:
    taken = busy.snapshot()
    assert Snapshot.decode(taken.encode()) == taken
    assert pickle.loads(pickle.dumps(taken)) == taken
    assert combined([taken]) == taken
    before = taken.encode()
    busy.started()
    busy.attempt(SHORT, "answered")
    busy.admitted(SHORT, 0.1)
    assert taken.encode() == before
    for broken in (b"", b"{}", b"[1,2,3]", b'[{"a":[[1]]},{},{}]'):
        with pytest.raises(ValueError, match=r".*"):
            Snapshot.decode(broken)
