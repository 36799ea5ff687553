"""What is read of a replica's /metrics."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry, Counter, generate_latest

from cluster.engine.tier import stats
from loadtest.prefix.scrape import ASK_SECONDS, PROMPTS, Counters, added, counters_of


def exposition(*, with_ask: bool) -> str:
    registry = CollectorRegistry()
    for name, (text, labels) in stats.COUNTERS.items():
        counter = Counter(name, text, ("model_name", *labels), registry=registry)
        for number, label in enumerate(("loaded", "stored") if labels else ("",), 1):
            counter.labels("m", *([label] if labels else [])).inc(number * 2)
    if with_ask:
        Counter(ASK_SECONDS.removesuffix("_total"), "Seconds.", registry=registry).inc(0.5)
        prompts = Counter(PROMPTS.removesuffix("_total"), "Prompts.", ("decision",), registry=registry)
        prompts.labels("asked").inc(3)
        prompts.labels("below").inc(5)
    return generate_latest(registry).decode()


def test_counters_are_found_by_their_names() -> None:
    found = counters_of(exposition(with_ask=True))
    assert (found.read_bytes, found.read_s, found.written_bytes, found.write_s) == (2, 2, 2, 2)
    assert (found.loaded_blocks, found.scheduler_s, found.dropped_blocks) == (2, 2, 6)
    assert (found.ask_s, found.asked_prompts) == (0.5, 3)


def test_what_is_not_exported_is_not_known() -> None:
    assert counters_of(exposition(with_ask=False)).ask_s is None
    assert counters_of("") == Counters()
    with pytest.raises(ValueError, match=r"\S"):
        counters_of("nonsense {")


def test_spans_and_sums() -> None:
    before, after = Counters(read_bytes=10, ask_s=1.0), Counters(read_bytes=30, ask_s=1.5)
    assert after.since(before) == Counters(read_bytes=20, ask_s=0.5)
    assert added([after, before]) == Counters(read_bytes=40, ask_s=2.5)
    assert added([after, Counters(read_bytes=1)]) == Counters(read_bytes=31)
    assert added([]) == Counters()
