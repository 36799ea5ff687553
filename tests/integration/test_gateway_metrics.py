"""What a gateway counts of real requests, by tenant and from the beginning."""

from __future__ import annotations

from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from cluster.config.keys import digest_of
from tests.fake_engine import FakeEngine, serve
from tests.gateway_harness import TWO_POOLS, Running, leases_of, running

pytestmark = pytest.mark.integration

KEYS = {"acme": "lr-" + "b" * 43, "ops": "lr-" + "a" * 43}
KEYS_FILE = f"""
keys:
- {{id: key-acme, tenant: acme, role: client, sha256: {digest_of(KEYS["acme"]).hex()}, created: 2026-01-01}}
- {{id: key-ops, tenant: ops, role: admin, sha256: {digest_of(KEYS["ops"]).hex()}, created: 2026-01-01}}
"""


async def counted(at: Running) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    answer = await at.client.get(f"{at.admin_url}/metrics", headers={"authorization": f"Bearer {KEYS['ops']}"})
    assert answer.status_code == 200
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def key(name: str, **labels: str) -> tuple[str, frozenset[tuple[str, str]]]:
    return name, frozenset(labels.items())


async def test_requests_are_counted_by_tenant_and_strangers_are_not(tmp_path: Path) -> None:
    keys = tmp_path / "keys.yaml"
    keys.write_text(KEYS_FILE, encoding="utf-8")
    keys.chmod(0o600)
    config = f"{TWO_POOLS}gateway: {{auth: {{keys_file: {keys}}}}}\ntenants: [{{name: acme, requests_per_minute: 2}}]\n"
    async with serve(FakeEngine()) as engine, running(config, store=leases_of(short=engine)) as at:
        before = await counted(at)
        assert before[key("longreach_tenant_refused_total", tenant="acme", reason="requests_per_minute")] == 0
        assert before[key("longreach_requests_total", route="completions", pool="long", outcome="broken")] == 0
        body = {"model": "tiny", "messages": [{"role": "user", "content": "word"}]}
        for secret, status in ((KEYS["acme"], 200), (KEYS["acme"], 200), (KEYS["acme"], 429), ("lr-nobody", 401)):
            headers = {"authorization": f"Bearer {secret}"}
            answer = await at.client.post("/v1/chat/completions", json=body, headers=headers)
            assert answer.status_code == status, answer.text
        after = await counted(at)
    assert after[key("longreach_tenant_requests_total", tenant="acme", outcome="ok")] == 2
    assert after[key("longreach_tenant_requests_total", tenant="acme", outcome="unavailable")] == 1
    assert after[key("longreach_tenant_refused_total", tenant="acme", reason="requests_per_minute")] == 1
    assert after[key("longreach_tenant_first_byte_seconds_count", tenant="acme")] == 2
    assert after[key("longreach_refused_total", reason="invalid_api_key")] == 1
    told = {dict(labels)["tenant"] for name, labels in after if name.startswith("longreach_tenant_")}
    assert told == {"acme", "default"}
