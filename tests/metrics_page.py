"""The tables of metrics in docs/observability.md; `python -m tests.metrics_page` writes them anew.

A table stands between two marks; what is around it is written by hand. What must not live here: which metrics exist.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from cluster.engine.tier import stats
from cluster.engine.tier.asking import Asking
from cluster.engine.tier.connection import RedisServer
from cluster.engine.tier.exposition import TierCollector
from cluster.engine.tier.handshake import TierFacts
from cluster.kubernetes.monitoring.dashboards import DASHBOARDS
from cluster.kubernetes.monitoring.rules import GROUPS
from cluster.kubernetes.monitoring.rules.build import promql
from services.gateway import metric_specs
from services.gateway.metric_kinds import Spec
from tests.kubernetes import metric_sources
from tests.kubernetes.promql import selectors

PAGE = Path(__file__).parents[1] / "docs" / "observability.md"
HEAD = "| Metric | Type | Unit | Labels | What |\n|---|---|---|---|---|\n"
FACTS = TierFacts(fingerprint="f" * 24, block_tokens=16, payload_bytes=16_000, host_blocks=100)
UNITS = (
    ("bytes_per_second$", "By/s"),
    ("tokens_per_second$", "{token}/s"),
    ("seconds$|duration_s$", "s"),
    ("_ms$", "ms"),
    ("gram_used$", "MiBy"),
    ("bytes$|_mem$|_mem_", "By"),
    ("tokens|_(hits|queries)$", "{token}"),
    ("blocks$", "{block}"),
    ("requests|request_success|prompts$", "{request}"),
    ("replica", "{replica}"),
    ("gpus_utilization|cpu_util", "%"),
)
"""By what is in a name that is not ours; the first that fits."""
OF_TIER = "vllm:redis_tier_"
"""Ours, and in a table of its own."""
PARTS = re.compile(r"_(?:bucket|sum|count)$")


def expressions() -> list[str]:
    """Of every panel and every rule, with Grafana's variables left in."""
    panels = [
        query.promql
        for page in DASHBOARDS.values()
        for row in page.rows
        for panel in row.panels
        for query in panel.queries
    ]
    return panels + [promql(rule.expr) for group in GROUPS for rule in group.rules]


def gateway_table() -> str:
    """Every metric of the gateway."""
    kinds: tuple[tuple[str, Iterable[Spec], str], ...] = (
        ("counter", metric_specs.COUNTERS, "_total"),
        ("histogram", metric_specs.HISTOGRAMS, ""),
        ("gauge", metric_specs.GAUGES, ""),
    )
    rows = (
        (spec.name + suffix, kind, spec.unit.value, spec.labels, spec.help)
        for kind, specs, suffix in kinds
        for spec in specs
    )
    return _table(rows)


def labels_table() -> str:
    """What bounds the labels of those."""
    lines = [f"| `{label}` | {bound} |" for label, bound in sorted(metric_specs.LABELS.items())]
    return "| Label | Its values |\n|---|---|\n" + "\n".join(lines)


def tier_table() -> str:
    """What a replica with a Redis tier tells of it."""
    asking = Asking(FACTS, RedisServer(url="redis://127.0.0.1:1"), ttl_s=1)  # which nobody asks
    collected = [
        (f"{family.name}_total" if family.type == "counter" else family.name, family.type, _labels(family), family)
        for family in TierCollector(asking).collect()
    ]
    asking.close()
    rows = [(name, kind, _unit(name), labels, family.documentation) for name, kind, labels, family in collected]
    rows += [(f"{name}_total", "counter", _unit(name), labels, text) for name, (text, labels) in stats.COUNTERS.items()]
    rows += [(name, "gauge", "1", (), text) for name, text in stats.GAUGES.items()]
    return _table(rows)


def engine_table() -> str:
    """vLLM's own metrics that dashboards and alerts use."""
    return _table(_used("vllm:", metric_sources.vllm_metrics()))


def ray_table() -> str:
    """Ray's metrics that dashboards and alerts use."""
    return _table(_used("ray_", metric_sources.ray_metrics()))


TABLES: dict[str, Callable[[], str]] = {
    "gateway": gateway_table,
    "labels": labels_table,
    "tier": tier_table,
    "engine": engine_table,
    "ray": ray_table,
}


def page_with_tables(text: str) -> str:
    """The page with the tables of now.

    Raises:
        ValueError: it has no place for one of them.
    """
    for name, table in TABLES.items():
        begin, end = f"<!-- metrics: {name} -->", "<!-- /metrics -->"
        head, found, rest = text.partition(begin)
        _, closed, tail = rest.partition(end)
        if not found or not closed:
            raise ValueError(f"{PAGE.name} has no {begin} … {end}")
        text = f"{head}{begin}\n{table()}\n{end}{tail}"
    return text


def _used(prefix: str, known: metric_sources.Made) -> Iterator[tuple[str, str, str, Iterable[str], str]]:
    names = {selector.metric for expr in expressions() for selector in selectors(expr)}
    families = sorted(
        {
            PARTS.sub("", name) if name not in known else name
            for name in names
            if name.startswith(prefix) and not name.startswith(OF_TIER)
        }
    )
    for name in families:
        kind, text, labels = known[name]
        yield name, kind, _unit(name), sorted(labels), text


def _labels(family: object) -> tuple[str, ...]:
    samples = getattr(family, "samples", [])
    return tuple(samples[0].labels) if samples else ()


def _unit(name: str) -> str:
    bare = name.removesuffix("_total")
    return next((unit for pattern, unit in UNITS if re.search(pattern, bare)), "1")


def _table(rows: Iterable[tuple[str, str, str, Iterable[str], str]]) -> str:
    return HEAD + "\n".join(
        f"| `{name}` | {kind} | `{unit}` | {', '.join(labels)} | {_cell(text)} |"
        for name, kind, unit, labels, text in rows
    )


def _cell(text: str) -> str:
    return text.strip().rstrip(".").replace("|", "\\|").replace("\n", " ")


if __name__ == "__main__":
    PAGE.write_text(page_with_tables(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
