"""What the cluster does to the machine it runs on: sockets, processes, the program's own commands."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import psutil
import pytest

from cluster.engine import orphans
from cluster.environment import read_environment
from tests.cluster_harness import CONFIG, Cluster, carrying, drive, longreach, until

pytestmark = pytest.mark.integration


def own_processes(cluster: Cluster) -> list[psutil.Process]:
    mark = f"LONGREACH_RUN_DIR={cluster.run_dir}".encode()
    found = []
    for pid in psutil.pids():
        try:
            if mark in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
                found.append(psutil.Process(pid))
        except (OSError, psutil.Error):
            continue
    return found


def test_everything_listens_on_loopback(cluster: Cluster) -> None:
    listening: list[tuple[str, str]] = []
    for process in own_processes(cluster):
        try:
            sockets = process.net_connections(kind="inet")
        except psutil.Error:
            continue
        listening += [(process.name(), entry.laddr.ip) for entry in sockets if entry.status == psutil.CONN_LISTEN]
    names = {name for name, _ in listening}
    assert any("raylet" in name for name in names), names
    assert any("ServeReplica" in name for name in names), names
    loopback = {"127.0.0.1", "::1", "::ffff:127.0.0.1"}
    assert [entry for entry in listening if entry[1] not in loopback] == []


def test_status_tells_pools_and_replicas(cluster: Cluster) -> None:
    done = longreach("status", "--config", str(CONFIG), "--json", env=cluster.env)
    assert done.returncode == 0, done.stderr
    status = json.loads(done.stdout)
    pools = {pool["name"]: pool for pool in status["pools"]}
    assert pools.keys() == {"short", "long", "tp"}
    assert pools["short"]["context_tokens"] == 4096
    assert all(len(pool["replicas"]) >= 1 for pool in pools.values())


def test_logs_show_the_engine(cluster: Cluster) -> None:
    done = longreach("logs", "short", "-n", "200", "--config", str(CONFIG), env=cluster.env)
    assert done.returncode == 0, done.stderr
    assert "EngineCore" in done.stdout


def test_up_again_joins(cluster: Cluster) -> None:
    before = psutil.Process(cluster.pid("ray")).create_time()
    done = longreach("up", "--config", str(CONFIG), "--no-question", "--json", env=cluster.env)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["url"] == cluster.url
    assert psutil.Process(cluster.pid("ray")).create_time() == before


def test_chat_answers(cluster: Cluster) -> None:
    done = longreach("chat", "--url", cluster.url, "--model", "tiny", "--max-tokens", "4", "hello", env=cluster.env)
    assert done.returncode == 0, done.stderr
    assert "short" in done.stderr


async def test_reload_changes_what_it_can_and_keeps_replicas(
    cluster: Cluster, http: httpx.AsyncClient, tmp_path: Path
) -> None:
    before = {pool: lease.replica_id for pool, lease in (await cluster.leases()).items()}
    wanted = tmp_path / "reloaded.yaml"
    text = CONFIG.read_text(encoding="utf-8")
    end_of_short = "kv_cache_gib: 0.0165}"
    assert end_of_short in text
    text = text.replace(end_of_short, end_of_short + "\n    replicas: {min: 1, max: 2}")
    text = text.replace("aliases: [tiny-alias]", "aliases: [tiny-alias, tiny-new]\n    output: {max_tokens: 4000}")
    wanted.write_text(text, encoding="utf-8")
    done = longreach("config", "reload", "--config", str(wanted), "--json", env=cluster.env)
    assert done.returncode == 0, done.stderr
    changed = json.loads(done.stdout)
    assert "pools.short.replicas" in changed["applied"]
    assert "models.tiny.aliases" in changed["applied"]

    async def answers_to_new_name() -> bool:
        answer = await http.post("/v1/completions", json={"model": "tiny-new", "prompt": "x", "max_tokens": 1})
        return answer.status_code == 200

    await until(answers_to_new_name, timeout_s=10, what="the new alias")
    over = await http.post("/v1/completions", json={"model": "tiny", "prompt": "x", "max_tokens": 4001})
    assert over.status_code == 400
    assert "4,000" in over.json()["error"]["message"]

    def has_new_maximum() -> bool:
        script = (
            "from ray.serve.context import _get_global_client\n"
            "details = _get_global_client().get_serve_details()['applications']['pool-short']\n"
            "config = details['deployments']['replica']['deployment_config']\n"
            "print((config.get('autoscaling_config') or {}).get('max_replicas'))\n"
        )
        return drive(cluster, script).split()[-1] == "2"

    await until(lambda: asyncio.to_thread(has_new_maximum), timeout_s=60, what="Serve has the new maximum")
    assert longreach("config", "reload", "--config", str(CONFIG), env=cluster.env).returncode == 0
    assert {pool: lease.replica_id for pool, lease in (await cluster.leases()).items()} == before


async def test_disconnect_frees_the_engine(cluster: Cluster, http: httpx.AsyncClient) -> None:
    lease = (await cluster.leases())["short"]

    async def running() -> float:
        text = (await http.get(f"{lease.url}/metrics", headers=cluster.credential)).text
        found = re.search(r"^vllm:num_requests_running\{.*\} (\S+)$", text, re.MULTILINE)
        assert found is not None
        return float(found.group(1))

    async def is_running() -> bool:
        return await running() >= 1

    async def is_idle() -> bool:
        return await running() == 0

    for stream in (True, False):
        body = {"model": "tiny", "prompt": "x", "max_tokens": 3500, "ignore_eos": True, "stream": stream}
        asked = asyncio.create_task(http.post("/v1/completions", json=body))
        await until(is_running, timeout_s=10, what="the request runs")
        asked.cancel()
        # 3,500 tokens take tens of seconds; an engine that is idle after three was told to stop.
        await until(is_idle, timeout_s=3, what=f"the engine is idle again, stream={stream}")


async def test_interrupted_up_leaves_nothing(tmp_path: Path) -> None:
    """Ctrl-C while Ray and the first engine start."""
    config = tmp_path / "interrupted.yaml"
    text = CONFIG.read_text(encoding="utf-8")
    config.write_text(text.replace("name: test", "name: interrupted").replace("33000", "35000"), encoding="utf-8")
    env = {**os.environ, "LONGREACH_STATE": str(tmp_path / "state")}
    run_dir = read_environment(env).run_dir("interrupted")
    mark = f"LONGREACH_RUN_DIR={run_dir}"
    program = str(Path(sys.executable).with_name("longreach"))
    up = subprocess.Popen(  # noqa: ASYNC220 - it lives on while the test looks at what it does
        [program, "up", "--config", str(config), "--no-question"],
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        await until(lambda: any("ServeReplica" in line for line in carrying(mark)), timeout_s=120, what="a replica")
        second = longreach("up", "--config", str(config), "--no-question", env=env)
        assert second.returncode != 0
        assert str(up.pid) in second.stdout + second.stderr, "the refusal names the one that runs"
        up.send_signal(signal.SIGINT)
        assert await asyncio.to_thread(up.wait, 60) != 0
    finally:
        up.kill()
        longreach("down", "--config", str(config), env=env)
    assert carrying(mark) == []


def test_engines_leave_the_cores_to_others_when_asked(cluster: Cluster) -> None:
    """Their session has less weight than the gateway's: a decoding engine must not make the gateway wait."""
    group = Path(f"/proc/{cluster.pid('ray')}/autogroup")
    if not group.exists():
        pytest.skip("this kernel has no autogroups")
    replicas = [process for process in own_processes(cluster) if orphans.runs_engine(process)]
    assert replicas
    for pid in (cluster.pid("ray"), *(process.pid for process in replicas)):
        assert Path(f"/proc/{pid}/autogroup").read_text().split()[-1] == "10"
    assert Path(f"/proc/{cluster.pid('gateway')}/autogroup").read_text().split()[-1] == "0"
