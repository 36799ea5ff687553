"""A real Prometheus reads a real cluster: whatever dashboards, alerts and rules name is there, with its labels.

The gateway is a second one of the cluster, so that this code's is read also where the cluster runs other code. What is
excused here is listed in docs/observability.md, with its reason.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from cluster.kubernetes.monitoring.generate import RULES
from cluster.kubernetes.monitoring.rules import GROUPS
from cluster.kubernetes.monitoring.rules.build import Recording, promql
from tests.cluster_harness import Cluster, SecondGateway, second_gateway, settled, until
from tests.kubernetes.promql import Selector, grouped_by, selectors
from tests.metrics_page import expressions
from tests.prometheus_server import Server, documented, prometheus

pytestmark = pytest.mark.integration

POOLS = ("short", "long", "tp")
NAMESPACE, RELEASE = "NS", "R"
LONG_WORDS = 6_000
"""Over what pool short holds, and many KV blocks: the Redis tier has something to store."""
EXCUSED = {
    "ray_": "off on one machine; tests/integration/test_ray_metrics.py has them of a Ray of its own",
    "DCGM_": "NVIDIA's exporter",
    "container_": "the kubelet's",
    "longreach_autoscale_": "no pool of this cluster is autoscaled; tests/integration/test_gateway_scrapes.py has them",
}
"""Beginnings of names, and why Prometheus cannot have read them here."""
UNSEEN_VALUES = {
    "ray-head": "is no pod here",
    "longreach-ray": "Ray is not scraped",
}
"""Values of matchers that no healthy cluster on one machine has; the label must be there all the same."""
VARIABLES = {
    "$__rate_interval": "1m",
    "$namespace": NAMESPACE,
    "$release": RELEASE,
    **dict.fromkeys(("$pool", "$replica", "$tenant"), ".*"),
}


def filled_in(expr: str) -> str:
    """As Grafana, or the chart, would send it."""
    expr = expr.replace('release=~".+"', f'namespace="{NAMESPACE}", release="{RELEASE}"')
    for name, value in VARIABLES.items():
        expr = expr.replace(name, value)
    return expr


EXPRESSIONS = sorted({filled_in(expr) for expr in expressions()})


def excuse(metric: str) -> str | None:
    return next((why for beginning, why in EXCUSED.items() if metric.startswith(beginning)), None)


def is_unseen(selector: Selector) -> bool:
    return any(value in UNSEEN_VALUES for label in selector.labels for value in selector.values(label))


def configuration(folder: Path, gateway: SecondGateway) -> Path:
    """The documented jobs, with this gateway's address; discovery of pods is what the chart's monitor would set."""
    admin = f"127.0.0.1:{gateway.admin_port}"
    replicas, gateways = documented("longreach-replicas"), documented("longreach-gateway")
    (discovery,) = replicas["http_sd_configs"]
    discovery["url"] = re.sub(r"^http://[^/]+", f"http://{admin}", discovery["url"])
    discovery["refresh_interval"] = "1s"
    del gateways["kubernetes_sd_configs"]
    set_by_relabelings = {rule["target_label"] for rule in gateways.pop("relabel_configs") if "target_label" in rule}
    labels = {"namespace": NAMESPACE, "release": RELEASE, "component": "gateway", "pod": "g1"}
    assert labels.keys() == set_by_relabelings
    gateways["static_configs"] = [{"targets": [admin], "labels": labels}]
    for job in (replicas, gateways):
        del job["authorization"]
        job["scrape_interval"] = job["scrape_timeout"] = "5s"
    del discovery["authorization"]
    config = {
        "global": {"evaluation_interval": "2s"},
        "rule_files": [str(RULES)],
        "scrape_configs": [replicas, gateways],
    }
    path = folder / "prometheus.yaml"
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    return path


async def ask_of_everybody(gateway: SecondGateway) -> None:
    """Short and long prompts, streamed and whole, a model of two ranks, and one mistake."""
    async with httpx.AsyncClient(base_url=gateway.url, timeout=300) as client:

        async def chat(model: str, words: int, **fields: Any) -> int:
            body = {"model": model, "max_tokens": 4, "messages": [{"role": "user", "content": "word " * words}]}
            return (await client.post("/v1/chat/completions", json=body | fields)).status_code

        asked = [chat("tiny", 5), chat("tiny", 5, stream=True), chat("tiny-tp", 5), chat("tiny", LONG_WORDS)]
        assert await asyncio.gather(*asked) == [200] * 4
        assert await chat("tiny", LONG_WORDS) == 200
        assert await chat("nobody", 5) == 404


@pytest.fixture(scope="module")
async def server(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Server]:
    """Prometheus, once it has read the gateway and every replica twice since they were asked."""
    folder = tmp_path_factory.mktemp("prometheus")
    await settled(cluster, *POOLS)
    async with (
        second_gateway(cluster, folder, routing={"boundary": "adaptive"}) as gateway,
        prometheus(folder, configuration(folder, gateway)) as running,
    ):

        async def reads_all() -> bool:
            up = {each["metric"].get("pool", "gateway") for each in await running.query("up == 1")}
            return up == {"gateway", *POOLS}

        async def has_counted() -> bool:
            stored = await running.query('sum(vllm:redis_tier_blocks_total{result="stored"}) > 0')
            return bool(stored) and bool(await running.query("longreach:requests_bad:ratio_rate5m"))

        # What was counted before the first look is no increase.
        await until(reads_all, timeout_s=60, what="Prometheus reads everybody")
        await ask_of_everybody(gateway)
        await until(has_counted, timeout_s=120, what="Prometheus has what they counted, and what rules record")
        yield running


async def test_every_metric_and_label_that_anything_names_is_there(server: Server) -> None:
    recorded = {rule.name for group in GROUPS for rule in group.rules if isinstance(rule, Recording)}
    labels_of: dict[str, set[str]] = {}
    missing: list[str] = []
    read = 0
    for expr in EXPRESSIONS:
        named = selectors(expr)
        # Prometheus's own parser sees the same metrics and matchers in it.
        assert {_key(one) for one in selectors(await server.formatted(expr))} == {_key(one) for one in named}
        labels: set[str] = set()
        for selector in named:
            if excuse(selector.metric) is not None:
                labels |= selector.labels | grouped_by(expr)
                continue
            if selector.metric not in labels_of:
                found = await server.query(f"last_over_time({selector.metric}{{}}[5m])")
                labels_of[selector.metric] = {label for each in found for label in each["metric"]}
                read += 1
                if not found:
                    missing.append(f"{selector.metric} is not there: {expr}")
            labels |= labels_of[selector.metric]
            missing += [
                f"{selector.metric} has no label {label}: {expr}"
                for label in sorted(selector.labels - labels_of[selector.metric])
            ]
            if not is_unseen(selector) and not await server.query(f"last_over_time({_written(selector)}[5m])"):
                missing.append(f"{_written(selector)} matches nothing: {expr}")
        missing += [f"grouped by {label}, which nothing has: {expr}" for label in sorted(grouped_by(expr) - labels)]
    assert not missing, "\n".join(missing)
    assert read > 50
    assert recorded & labels_of.keys(), "what rules record is read back"


async def test_every_expression_can_be_evaluated_on_what_was_read(server: Server) -> None:
    """Labels that match on neither side, or many on both, show only with real series."""
    alerts = {filled_in(promql(rule.expr)) for group in GROUPS for rule in group.rules}
    panels = {
        expr
        for expr in EXPRESSIONS
        if expr not in alerts and not any(excuse(one.metric) or is_unseen(one) for one in selectors(expr))
    }
    for expr in alerts:
        await server.query(expr)

    async def all_show() -> bool:
        """A scrape that a busy machine delays empties a panel until the next."""
        shown = [expr for expr in panels if await server.query(expr)]
        panels.difference_update(shown)
        return not panels

    with contextlib.suppress(pytest.fail.Exception):
        await until(all_show, timeout_s=30, what="every panel shows something")
    assert panels == set(), "these show nothing"
    groups = (await server.client.get("/rules")).json()["data"]["groups"]
    assert [rule["lastError"] for group in groups for rule in group["rules"] if rule["health"] == "err"] == []


def _key(selector: Selector) -> tuple[str, frozenset[tuple[str, str, str]]]:
    return selector.metric, frozenset(selector.matchers)


def _written(selector: Selector) -> str:
    inside = ", ".join(f'{label}{operator}"{value}"' for label, operator, value in selector.matchers)
    return f"{selector.metric}{{{inside}}}"
