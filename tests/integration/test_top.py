"""`longreach top` against a gateway and replicas with metrics of their own."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from cluster.config.keys import digest_of
from cluster.core.errors import LongreachError, SetupError
from cluster.local.top.reading import Reader
from cluster.local.top.sight import look
from tests.fake_engine import FakeEngine, serve
from tests.gateway_harness import TWO_POOLS, Leases, lease, leases_of, running
from tests.integration.test_gateway_scrapes import SECRET, replica

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]
ADMIN_KEY = "lr-" + "a" * 43
KEYS = f"""
keys:
- {{id: key-admin, tenant: ops, role: admin, sha256: {digest_of(ADMIN_KEY).hex()}, created: 2026-01-01}}
"""


async def called(*arguments: str, **variables: str) -> tuple[int, str, str]:
    """The command line, as a user runs it: status, output, errors."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "cluster.cli", "top", *arguments,
        cwd=ROOT, env={**os.environ, "COLUMNS": "200", **variables}, stdout=-1, stderr=-1,
    )  # fmt: skip
    out, err = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


async def test_two_looks_show_what_was_served_in_between() -> None:
    async with (
        serve(FakeEngine(tokens=5, cached_tokens=4)) as engine,
        running(store=leases_of(short=engine)) as at,
        Reader(at.admin_url) as reader,
    ):
        before = await reader.read()
        for _ in range(3):
            assert (await at.chat(words=8, stream=True)).status_code == 200
        assert (await at.chat(model="nobody")).status_code == 404
        sight = look(before, await reader.read())
    short = next(pool for pool in sight.pools if pool.pool == "short")
    long = next(pool for pool in sight.pools if pool.pool == "long")
    seconds = sight.seconds
    assert short.requests_per_s == pytest.approx(3 / seconds)
    assert short.output_tokens_per_s == pytest.approx(15 / seconds)
    assert short.cached_ratio is not None
    assert short.prompt_tokens_per_s is not None
    assert short.cached_ratio == pytest.approx(12 / seconds / short.prompt_tokens_per_s)
    assert short.ttft_p95_s is not None
    assert (short.context_tokens, short.ready, short.bad_ratio) == (1000, 1, 0)
    assert (long.ready, long.requests_per_s, long.ttft_p95_s) == (0, 0, None)
    assert sight.refused_per_s == {"model_not_found": pytest.approx(1 / seconds)}
    # The engine has no metrics: its replica is on the list, with the reason.
    (only,) = sight.replicas
    assert (only.replica_id, only.running) == ("short", None)
    assert "status" in only.error


async def test_a_remote_gateway_with_keys_is_watched_from_the_command_line(tmp_path: Path) -> None:
    keys = tmp_path / "keys.yaml"
    keys.write_text(KEYS, encoding="utf-8")
    keys.chmod(0o600)
    config = f"{TWO_POOLS}gateway: {{auth: {{keys_file: {keys}}}}}\n"
    async with replica("short") as url:
        store = Leases([lease("short", url, name="a1"), lease("long", "http://127.0.0.1:9/long", name="b2")])
        async with running(config, store=store, credential=SECRET) as at:
            where = ("--url", at.admin_url, "--once", "--interval", "0.5")
            status, out, err = await called(*where, "--json", LONGREACH_API_KEY=ADMIN_KEY)
            assert status == 0, err
            told: dict[str, Any] = json.loads(out)
            status, table, err = await called(*where, LONGREACH_API_KEY=ADMIN_KEY)
            assert status == 0, err
            status, _, refused = await called(*where, LONGREACH_API_KEY="")
            assert (status, "wants a key with role admin" in refused) == (1, True)
    assert {row["replica_id"]: row["pool"] for row in told["replicas"]} == {"a1": "short", "b2": "long"}
    assert {row["replica_id"]: row["preemptions_per_s"] for row in told["replicas"]} == {"a1": 0, "b2": None}
    assert {row["pool"]: row["ready"] for row in told["pools"]} == {"short": 1, "long": 1}
    assert "a1" in table
    assert "the replica failed" in table


async def test_what_is_no_admin_listener_is_told() -> None:
    async with serve(FakeEngine()) as engine, running(store=leases_of(short=engine)) as at:
        async with Reader(at.url) as reader:
            with pytest.raises(SetupError, match="no gateway's admin listener"):
                await reader.read()
        async with Reader(at.admin_url) as reader:
            assert (await reader.read()).replicas
    async with Reader(at.admin_url) as reader:
        with pytest.raises(LongreachError, match="gives no answer"):
            await reader.read()
