"""The checks find what they are there to find."""

from __future__ import annotations

import pytest

from tests.kubernetes.checks import mistakes
from tests.kubernetes.promql import grouped_by, selectors
from tests.kubernetes.refusal_codes import refusal_codes

R = 'release="r"'


@pytest.mark.parametrize(
    ("expr", "found"),
    [
        (f"sum by (pool) (rate(longreach_requests_total{{{R}}}[5m]))", []),
        (f"sum by (pool) (rate(longreach_request_total{{{R}}}[5m]))", ["no metric", "grouped by pool"]),
        (f'longreach_endpoints{{{R}, phase="ready"}}', ["has no label phase"]),
        (f'longreach_endpoints{{{R}, state="gone"}}', ["state is never gone"]),
        (f'longreach_requests_total{{{R}, outcome=~"broken|lost"}}', ["outcome is never lost"]),
        (f'longreach_refused_total{{{R}, reason=~"overloaded|tokens_per_minute"}}', []),
        (f'longreach_refused_total{{{R}, reason="full"}}', ["reason is never full"]),
        (f"sum by (tenant) (longreach_tokens_total{{{R}}})", ["grouped by tenant"]),
        (f"vllm:num_preemptions{{{R}}}", ["no metric vllm:num_preemptions"]),
        (f"sum by (pod) (vllm:num_preemptions_total{{{R}}})", ["grouped by pod"]),
        (f"longreach_cached_tokens_error_count{{{R}}}", ["no metric"]),
        (f'longreach_cached_tokens_error_bucket{{{R}, le="128"}}', ["le is never 128"]),
        (f'up{{{R}, job="longreach-engines"}}', ["job is never longreach-engines"]),
        ("longreach_in_flight{}", ["of any release"]),
        ("longreach_in_flight > 3", ["has no braces"]),
        (f"ray_serve_replica_startup_latency_ms_count{{{R}}}", []),
        (f"ray_serve_deployment_replicas{{{R}}}", ["no metric"]),
        (f"longreach:requests_bad:ratio_rate5m{{{R}}}", ["no metric"]),
    ],
)
def test_mistakes_are_found(expr: str, found: list[str]) -> None:
    said = mistakes(expr, set())
    assert len(said) == len(found)
    for line, part in zip(said, found, strict=True):
        assert part in line


def test_expressions_are_read() -> None:
    expr = 'sum by (a, b) (x{c="1,}", d=~"2|3"}) / on (e) y{} # z{f="4"}'.replace('}"', '"')
    assert [selector.metric for selector in selectors(expr)] == ["x", "y"]
    assert selectors(expr)[0].values("d") == {"2", "3"}
    assert grouped_by(expr) == {"a", "b", "e"}


def test_refusal_codes_are_read_from_the_source() -> None:
    assert {"overloaded", "gateway_full", "tokens_per_minute", "upstream_broken"} <= refusal_codes()
