"""What Prometheus reads of a real cluster's replicas, and whether all that dashboards and alerts name is there."""

from __future__ import annotations

import json
import re
from pathlib import Path

import httpx
import pytest
import yaml
from tests.kubernetes.dashboards.__main__ import FILES

from cluster.local.rundir import RunDir
from tests.cluster_harness import Cluster
from tests.kubernetes.promql import selectors

pytestmark = pytest.mark.integration

RULES = Path(__file__).parents[2] / "deploy" / "helm" / "longreach" / "rules" / "longreach.yaml"
OF_REPLICAS = ("vllm:", "longreach_tier_")


def expressions() -> list[str]:
    """Of every panel and every rule."""
    panels = [
        query.promql for page in FILES.values() for row in page.rows for panel in row.panels for query in panel.queries
    ]
    groups = yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]
    return panels + [rule["expr"] for group in groups for rule in group["rules"]]


async def test_each_replica_is_found_and_tells_all_that_dashboards_and_alerts_name(cluster: Cluster) -> None:
    told = json.loads(RunDir(root=cluster.run_dir).gateway_ready.read_text(encoding="utf-8"))
    leases = await cluster.leases()
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{told['admin_port']}", timeout=30) as admin:
        found = {group["labels"]["pool"]: group for group in (await admin.get("/sd/replicas")).json()}
        assert {pool: group["labels"]["replica"] for pool, group in found.items()} == {
            pool: lease.replica_id for pool, lease in leases.items()
        }
        answer = await admin.get(found["long"]["labels"]["__metrics_path__"])  # the pool with a Redis tier
    assert answer.status_code == 200, answer.text
    kinds = dict(re.findall(r"^# TYPE (\S+) (\w+)$", answer.text, re.MULTILINE))
    there = set(kinds) | {
        f"{name}_{part}" for name, kind in kinds.items() if kind == "histogram" for part in ("bucket", "sum", "count")
    }
    wanted = {
        selector.metric
        for expr in expressions()
        for selector in selectors(expr)
        if selector.metric.startswith(OF_REPLICAS)
    }
    assert len(wanted) > 20
    assert wanted - there == set()
