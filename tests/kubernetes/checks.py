"""What is wrong with an expression of a rule or a panel: metrics, labels and label values that do not exist.

What must not live here: expressions.
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from functools import cache

from cluster.core.request import Route
from services.api.account import Ending
from services.gateway import metric_specs
from services.gateway.directory import EndpointState
from services.gateway.metric_labels import PromptCounted
from services.http1.client import FailureKind
from tests.kubernetes.metric_sources import Metrics, known
from tests.kubernetes.promql import grouped_by, selectors, without_braces
from tests.kubernetes.refusal_codes import refusal_codes

OF_RECORDED = frozenset({"namespace", "release"})
JOBS = frozenset({"longreach-gateway", "longreach-replicas", "longreach-ray"})
COMPONENTS = frozenset({"gateway", "ray-head", "ray-worker"})
VARIABLES = ("$namespace", "$release", "$pool")
OUTSIDE = ("container_", "DCGM_")
"""Not scraped by this chart, so that they have no release; their pods' names begin with it."""


@cache
def _known() -> Metrics:
    return known()


@cache
def _values() -> dict[tuple[str, str], frozenset[str]]:
    """The values that labels can have, by metric and label; only where they come from code."""
    attempts = {"answered", "refused", "overloaded", "full", *FailureKind}  # services/gateway/asking.py
    return {
        ("longreach_requests_total", "outcome"): frozenset(Ending),
        ("longreach_requests_total", "route"): frozenset(Route),
        ("longreach_refused_total", "reason"): refusal_codes(),
        ("longreach_attempts_total", "result"): frozenset(attempts),
        ("longreach_endpoints", "state"): frozenset(EndpointState),
        ("longreach_prompt_count_total", "how"): frozenset(PromptCounted),
        ("longreach_autoscale_replicas", "kind"): frozenset(
            {"decided", "needed_now", "needed_ahead", "ready", "starting", "min", "max"}
        ),
        ("longreach_tenant_refused_total", "reason"): refusal_codes(),
        ("longreach_tokens_total", "kind"): frozenset({"prompt", "cached", "output"}),
        ("longreach_tenant_tokens_total", "kind"): frozenset({"prompt", "cached", "output"}),
        ("longreach_cached_tokens_error_bucket", "tier"): frozenset({"replica", "redis"}),
        ("longreach_cached_tokens_error_bucket", "le"): frozenset(
            {"+Inf", *(str(float(bound)) for bound in metric_specs.CACHED_ERROR.buckets)}
        ),
        ("longreach_tier_prompts_total", "decision"): frozenset({"below", "local", "down", "asked"}),
        ("vllm:redis_tier_dropped_blocks_total", "reason"): frozenset({"queue", "down", "full"}),
        ("vllm:redis_tier_blocks_total", "result"): frozenset({"loaded", "missing", "stored", "refreshed", "refused"}),
        ("ray_resources", "State"): frozenset({"USED", "AVAILABLE"}),
        ("ray_resources", "Name"): frozenset({"CPU", "GPU"}),
        ("up", "job"): JOBS,
        ("scrape_duration_seconds", "job"): JOBS,
        ("up", "component"): COMPONENTS,
    }


def mistakes(expr: str, recorded: AbstractSet[str]) -> list[str]:
    """One line for each thing that does not exist.

    Args:
        expr: PromQL.
        recorded: what recording rules make.
    """
    found = [f"{name} has no braces" for name in without_braces(expr)]
    named = selectors(expr)
    available: set[str] = set()
    for selector in named:
        labels = OF_RECORDED if selector.metric in recorded else _known().get(selector.metric)
        if labels is None:
            found.append(f"no metric {selector.metric}")
            continue
        available |= labels
        found += [f"{selector.metric} has no label {label}" for label in sorted(selector.labels - labels)]
        if not selector.metric.startswith(OUTSIDE) and "release" not in selector.labels:
            found.append(f"{selector.metric} of any release")
        for label in selector.labels:
            possible = _values().get((selector.metric, label))
            if possible is not None:
                found += [f"{selector.metric}: {label} is never {value}" for value in selector.values(label) - possible]
    found += [f"grouped by {label}, which nothing has" for label in sorted(grouped_by(expr) - available)]
    return found
