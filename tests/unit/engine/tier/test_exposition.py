"""The tier's numbers at /metrics: read when scraped, absent until measured, bounded labels."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from cluster.core.tier.breaker import COOL_DOWN_S
from cluster.engine.tier import stats
from cluster.engine.tier.asking import Asking
from cluster.engine.tier.connection import RedisServer
from cluster.engine.tier.exposition import TierCollector, expose
from cluster.engine.tier.handshake import TierFacts

FACTS = TierFacts(fingerprint="f" * 24, block_tokens=16, payload_bytes=16_000, host_blocks=100)


@pytest.fixture
def asking() -> Iterator[Asking]:
    made = Asking(FACTS, RedisServer(url="redis://127.0.0.1:1"), ttl_s=100)
    yield made
    made.close()


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry(auto_describe=True)  # as prometheus_client's own is


def test_counts_are_read_when_scraped(asking: Asking, registry: CollectorRegistry) -> None:
    expose(asking, registry)
    assert registry.get_sample_value("longreach_tier_prompts_total", {"decision": "below"}) == 0
    asking.counts.below += 3
    asking.counts.asked += 2
    asking.counts.found += 1
    asking.counts.late += 1
    asking.counts.ask_s += 0.25
    samples = [sample for metric in registry.collect() for sample in metric.samples]
    shown = {(sample.name, *sample.labels.values()): sample.value for sample in samples}
    assert shown["longreach_tier_prompts_total", "below"] == 3
    assert shown["longreach_tier_prompts_total", "asked"] == 2
    assert {key[1] for key in shown if key[0] == "longreach_tier_prompts_total"} == {"below", "local", "down", "asked"}
    assert shown["longreach_tier_answers_total", "found"] == 1
    assert shown["longreach_tier_answers_total", "late"] == 1
    assert shown["longreach_tier_ask_seconds_total",] == 0.25


def test_what_is_not_measured_has_no_sample(asking: Asking, registry: CollectorRegistry) -> None:
    expose(asking, registry)

    def value(name: str) -> float | None:
        return registry.get_sample_value(f"longreach_tier_{name}")

    assert [value(name) for name in ("break_even_tokens", "prefill_tokens_per_second", "fetch_bytes_per_second")] == [
        None,
        None,
        None,
    ]
    asking.break_even.prefilled(1000, 1.0)
    asking.break_even.fetched(10**8, 1.0)
    asking.break_even.calibrated(0.004)
    assert value("prefill_tokens_per_second") == pytest.approx(1000)
    assert value("fetch_bytes_per_second") == pytest.approx(1e8)
    assert value("latency_seconds") == pytest.approx(0.004)
    least = asking.break_even.min_fetch_tokens(is_busy=False)
    assert least is not None
    assert value("break_even_tokens") == least
    assert value("least_prompt_tokens") == pytest.approx(800, abs=1), "0.5% of them is what the question takes"
    for _ in range(100):
        asking.break_even.fetched(1000, 1.0)
    assert value("break_even_tokens") == math.inf, "computing is always faster, which is not the same as unknown"


def test_the_breaker_shows_until_redis_answers(asking: Asking) -> None:
    now = [0.0]
    registry = CollectorRegistry()
    registry.register(TierCollector(asking, clock=lambda: now[0]))
    shown = [registry.get_sample_value("longreach_tier_breaker_open")]
    asking.breaker.failed(0.0)
    shown.append(registry.get_sample_value("longreach_tier_breaker_open"))
    now[0] = COOL_DOWN_S + 1
    shown.append(registry.get_sample_value("longreach_tier_breaker_open"))
    assert registry.get_sample_value("longreach_tier_breaker_opened_total") == 1
    asking.breaker.answered()
    shown.append(registry.get_sample_value("longreach_tier_breaker_open"))
    assert shown == [0, 1, 1, 0], "half open is open: a trial is no answer yet"


def test_every_metric_is_explained(asking: Asking) -> None:
    page = (Path(__file__).parents[4] / "docs" / "prefix-cache.md").read_text(encoding="utf-8")
    shown = [(metric.name, metric.type) for metric in TierCollector(asking).collect()]
    names = {f"{name}_total" if kind == "counter" else name for name, kind in shown}
    names |= {f"{name}_total" for name in stats.COUNTERS} | set(stats.GAUGES)
    assert {name for name in names if f"`{name}" not in page} == set()


def test_an_engine_that_starts_anew_takes_the_names_over(asking: Asking, registry: CollectorRegistry) -> None:
    conceal = expose(asking, registry)
    with pytest.raises(ValueError, match="Duplicated"):
        expose(asking, registry)
    conceal()
    assert generate_latest(registry) == b""
    expose(asking, registry)
    assert b"longreach_tier_prompts_total" in generate_latest(registry)
