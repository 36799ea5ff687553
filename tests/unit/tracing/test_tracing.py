"""Which requests are kept: the sampled, errors and the slow, these within a bound."""

from __future__ import annotations

import random

from cluster.config import TracesSection
from cluster.environment import read_environment
from services.tracing.settings import trace_settings
from services.tracing.tracing import UNSAMPLED_BURST, UNSAMPLED_PER_S, Tracing
from tests.spans import MemorySink

SAMPLED = {"traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "tracestate": "a=b"}
UNSAMPLED = {"traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00"}


class World:
    """Tracing into memory, with a clock that is moved by hand."""

    def __init__(self, **section: float) -> None:
        self.now_s = 0.0
        settings = trace_settings(TracesSection(**section), read_environment({}), "c")  # type: ignore[arg-type]
        self.tracing = Tracing(settings, [MemorySink()], rng=random.Random(1), clock=lambda: self.now_s)


def test_the_caller_decides_for_its_trace() -> None:
    tracing = World(sampling_ratio=0.0, slow_s=5.0).tracing
    kept, left = tracing.begin(SAMPLED), tracing.begin(UNSAMPLED)
    assert tracing.keeps(kept, is_error=False, seconds=0.1)
    assert not tracing.keeps(left, is_error=False, seconds=4.9)
    assert kept.parent is not None
    assert kept.context.trace_id == kept.parent.trace_id
    assert kept.trace_id == "4bf92f3577b34da6a3ce929d0e0e4736"
    assert kept.header_lines().endswith("tracestate: a=b\r\n")


def test_errors_and_slow_requests_are_kept_unsampled() -> None:
    tracing = World(sampling_ratio=0.0, slow_s=5.0).tracing
    assert tracing.keeps(tracing.begin({}), is_error=True, seconds=0.1)
    assert tracing.keeps(tracing.begin({}), is_error=False, seconds=5.0)


def test_an_overload_does_not_keep_everything() -> None:
    world = World(sampling_ratio=0.0)
    tracing = world.tracing
    kept = sum(tracing.keeps(tracing.begin({}), is_error=True, seconds=0.1) for _ in range(1_000))
    assert kept == UNSAMPLED_BURST
    world.now_s += 2.0
    kept = sum(tracing.keeps(tracing.begin({}), is_error=True, seconds=0.1) for _ in range(1_000))
    assert kept == 2 * UNSAMPLED_PER_S


def test_where_the_configuration_says_nothing_the_environment_counts() -> None:
    env = read_environment({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4317", "LONGREACH_STATE": "/state"})
    named = trace_settings(TracesSection(file="traces.jsonl"), env, "demo")
    assert (named.endpoint, named.protocol, str(named.file)) == ("http://c:4317", "grpc", "/state/demo/traces.jsonl")
    own = trace_settings(TracesSection(endpoint="http://d", protocol="http/protobuf"), env, "demo")
    assert (own.endpoint, own.protocol, own.file) == ("http://d", "http/protobuf", None)
    mixed = trace_settings(
        TracesSection(endpoint="http://d"), read_environment({"OTEL_EXPORTER_OTLP_PROTOCOL": "x"}), "d"
    )
    assert mixed.protocol == "grpc"
    for off in ({"OTEL_SDK_DISABLED": "true"}, {"OTEL_TRACES_EXPORTER": "none"}, {"OTEL_EXPORTER_OTLP_ENDPOINT": ""}):
        env = read_environment({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4317", **off})
        assert trace_settings(TracesSection(), env, "demo").endpoint is None
