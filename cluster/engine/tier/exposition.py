"""The tier's numbers of the replica's API process at its /metrics, beside vLLM's own and those of stats.py.

They are read from the living object when somebody scrapes; requests pay nothing for them. What must not live here:
counting (asking.py), vLLM.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable

from prometheus_client import REGISTRY, CollectorRegistry, Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from cluster.core.routing.breaker import BreakerState
from cluster.core.tier.break_even import BreakEven
from cluster.core.tier.breaker import TierBreaker
from cluster.engine.tier.asking import AskCounts, Asking

PREFIX = "longreach_tier_"
NEVER = math.inf
"""Tokens from which a fetch pays, where none does."""


class TierCollector(Collector):
    """One replica's tier.

    Args:
        asking: of the replica.
        clock: the one its breaker goes by.
    """

    def __init__(self, asking: Asking, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._asking = asking
        self._clock = clock

    def collect(self) -> Iterable[Metric]:
        """Every metric as it is now; what is not measured yet has no sample."""
        yield from _counts(self._asking.counts)
        yield from _breaker(self._asking.breaker, self._clock())
        yield from _measured(self._asking.break_even)


def expose(asking: Asking, registry: CollectorRegistry = REGISTRY) -> Callable[[], None]:
    """Show the tier at /metrics; the function that comes back ends it."""
    collector = TierCollector(asking)
    registry.register(collector)
    return lambda: registry.unregister(collector)


def _counts(counts: AskCounts) -> Iterable[Metric]:
    prompts = CounterMetricFamily(
        f"{PREFIX}prompts",
        "Prompts by how it was decided whether Redis is asked about them.",
        labels=("decision",),
    )
    for decision in ("below", "local", "down", "asked"):
        prompts.add_metric((decision,), getattr(counts, decision))
    yield prompts
    answers = CounterMetricFamily(
        f"{PREFIX}answers", "Questions by their outcome: found enough, or given up as late.", labels=("outcome",)
    )
    for outcome in ("found", "late"):
        answers.add_metric((outcome,), getattr(counts, outcome))
    yield answers
    yield CounterMetricFamily(f"{PREFIX}ask_seconds", "Seconds that requests spent on all of this.", counts.ask_s)


def _breaker(breaker: TierBreaker, now_s: float) -> Iterable[Metric]:
    is_open = breaker.state(now_s) is not BreakerState.CLOSED
    yield GaugeMetricFamily(f"{PREFIX}breaker_open", "1 while prompts are not looked up: Redis failed.", float(is_open))
    yield CounterMetricFamily(f"{PREFIX}breaker_opened", "Times Redis failed after it had answered.", breaker.opened)


def _measured(break_even: BreakEven) -> Iterable[Metric]:
    state = break_even.state()
    fewest: float | None = state.min_fetch_tokens
    shortest: float | None = break_even.least_prompt_tokens()
    if fewest is None and state.prefill_tokens_per_s and state.fetch_bytes_per_s:
        fewest = shortest = NEVER
    rows = (
        ("break_even_tokens", "Fewest tokens that an idle engine fetches; +Inf: computing is always faster.", fewest),
        ("least_prompt_tokens", "Shortest prompt that Redis is asked about; +Inf: none is.", shortest),
        ("prefill_tokens_per_second", "How fast prompts are computed, as measured.", state.prefill_tokens_per_s),
        ("fetch_bytes_per_second", "How fast blocks come from Redis, as measured.", state.fetch_bytes_per_s),
        ("latency_seconds", "How long Redis takes to answer a question, as measured.", state.latency_s),
        ("step_seconds", "How long a step of the busy engine takes, as measured.", state.step_s),
    )
    for name, text, value in rows:
        yield GaugeMetricFamily(f"{PREFIX}{name}", text, value)
