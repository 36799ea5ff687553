"""A real Prometheus finds replicas through a gateway, reads them, and evaluates the chart's rules on what it read."""

from __future__ import annotations

import re
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import yaml

from cluster.config.keys import digest_of
from tests.cluster_harness import until
from tests.gateway_harness import TWO_POOLS, Leases, lease, running
from tests.integration.test_gateway_scrapes import SECRET, replica
from tests.prometheus_server import documented, prometheus

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]
RULES = ROOT / "deploy" / "helm" / "longreach" / "rules" / "longreach.yaml"
ADMIN_KEY = "lr-" + "a" * 43
KEYS = f"""
keys:
- {{id: key-admin, tenant: ops, role: admin, sha256: {digest_of(ADMIN_KEY).hex()}, created: 2026-01-01}}
"""


def configuration(folder: Path, admin: str) -> Path:
    """The documented job, with this gateway's address and key, in a hurry."""
    key = folder / "key"
    key.write_text(ADMIN_KEY, encoding="utf-8")
    job = documented("longreach-replicas")
    job["authorization"]["credentials_file"] = str(key)
    (discovery,) = job["http_sd_configs"]
    discovery["authorization"]["credentials_file"] = str(key)
    discovery["url"] = re.sub(r"^http://[^/]+", f"http://{admin}", discovery["url"])
    discovery["refresh_interval"] = "1s"
    job["scrape_interval"] = job["scrape_timeout"] = "1s"
    config = {
        "global": {"evaluation_interval": "1s"},
        "rule_files": [str(RULES)],
        "scrape_configs": [job],
    }
    path = folder / "prometheus.yaml"
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    return path


async def test_a_real_prometheus_reads_replicas_and_judges_them(tmp_path: Path) -> None:
    keys = tmp_path / "keys.yaml"
    keys.write_text(KEYS, encoding="utf-8")
    keys.chmod(0o600)
    config = f"{TWO_POOLS}gateway: {{auth: {{keys_file: {keys}}}}}\n"
    async with AsyncExitStack() as stack:
        url = await stack.enter_async_context(replica("short"))
        store = Leases([lease("short", url, name="a1"), lease("long", "http://127.0.0.1:9/long", name="b2")])
        at = await stack.enter_async_context(running(config, store=store, credential=SECRET))
        admin = at.admin_url.removeprefix("http://")
        assert (await at.client.get(f"{at.admin_url}/sd/replicas")).status_code == 401
        server = await stack.enter_async_context(prometheus(tmp_path, configuration(tmp_path, admin)))

        query = server.query

        async def has_read() -> bool:
            return len(await query("up")) == 2 and bool(await query("vllm:num_preemptions_total"))

        await until(has_read, timeout_s=60, what="both replicas were asked, and one has answered")
        (sample,) = await query("vllm:num_preemptions_total")
        assert sample["value"][1] == "7"
        labels = sample["metric"]
        assert labels.pop("__name__") == "vllm:num_preemptions_total"
        assert labels == {
            "job": "longreach-replicas",
            "namespace": "NS",
            "release": "R",
            "pool": "short",
            "replica": "a1",
            "instance": "a1",
            "model": "tiny",
            "engine": "0",
        }
        assert {each["metric"]["replica"]: each["value"][1] for each in await query("up")} == {"a1": "1", "b2": "0"}

        async def is_pending() -> bool:
            return bool(await query('ALERTS{alertname="LongreachReplicaNotScraped", pool="long", replica="b2"}'))

        await until(is_pending, timeout_s=120, what="the replica that cannot be read is about to be reported")
        groups = (await server.client.get("/rules")).json()["data"]["groups"]
        ill = [rule["lastError"] for group in groups for rule in group["rules"] if rule["health"] == "err"]
        assert ill == []
