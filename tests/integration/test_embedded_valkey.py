"""The embedded Valkey server, for real: it answers, on loopback only, and ends when told to."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
import redis

from cluster.config import parse_config
from cluster.core.errors import SetupError
from cluster.deployment import Deployment
from cluster.local import stores
from cluster.local.journal import Journal, Phase, read_journal
from cluster.local.observe import phase_of
from cluster.local.rundir import RunDir
from cluster.sockets import free_port, listeners_of
from cluster.state import embedded

pytestmark = pytest.mark.integration
MARK = "LONGREACH_RUN_DIR=/a/mark/that/must/stay"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    port = free_port()
    name, _, value = MARK.partition("=")
    with subprocess.Popen(
        embedded.server_command(tmp_path / "with space", port),
        env={**os.environ, name: value},
        stdout=subprocess.DEVNULL,
    ) as process:
        embedded.wait_until_ping(port)
        yield process, port
        process.kill()


def test_serves_on_loopback_only_and_keeps_its_mark(server: tuple[subprocess.Popen[bytes], int]) -> None:
    process, port = server
    found = listeners_of([process.pid])
    assert {listener.port for listener in found} == {port}
    assert all(listener.is_loopback for listener in found)
    assert MARK.encode() in Path(f"/proc/{process.pid}/environ").read_bytes().split(b"\0")


def test_is_bounded_and_writes_nothing(server: tuple[subprocess.Popen[bytes], int], tmp_path: Path) -> None:
    process, port = server
    client = redis.Redis.from_url(embedded.url(port))
    client.set("key", b"x" * 1000)
    assert client.config_get("maxmemory*")["maxmemory"] == str(embedded.STATE_BYTES_MAX)
    assert client.config_get("save")["save"] == ""
    client.close()
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=5) == 0
    assert [path.name for path in (tmp_path / "with space").iterdir()] == ["valkey.conf"]


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Callable[[embedded.Memory], redis.Redis]]:
    """Starts a server with so much memory."""
    with contextlib.ExitStack() as stack:

        def start(memory: embedded.Memory) -> redis.Redis:
            port = free_port()
            command = embedded.server_command(tmp_path / memory.policy, port, memory)
            process = stack.enter_context(subprocess.Popen(command, stdout=subprocess.DEVNULL))
            stack.callback(process.kill)
            embedded.wait_until_ping(port, name="cache")
            return stack.enter_context(redis.Redis.from_url(embedded.url(port)))

        yield start


def test_a_full_state_loses_what_comes_again_and_keeps_leases(
    small: Callable[[embedded.Memory], redis.Redis],
) -> None:
    """As `STATE` promises: writes go on, and neither leases nor what has no expiry make room."""
    client = small(dataclasses.replace(embedded.STATE, bytes_max=16 * 2**20))
    client.sadd("replicas", "r1", "r2")
    leases = ("lease:r1", "lease:r2")
    for _ in range(20):  # what gateways and replicas do in two seconds
        client.mget(leases)
        for lease in leases:
            client.set(lease, b"x" * 500, ex=60)
    snapshots = [f"snapshot:{number}" for number in range(200)]
    for name in snapshots:
        client.set(name, bytes(2**19), ex=60)
        assert client.exists(*leases, "replicas") == 3
    assert client.info("stats")["evicted_keys"] > 0
    assert client.exists(*snapshots) < len(snapshots)


def test_a_full_cache_makes_room_by_itself(small: Callable[[embedded.Memory], redis.Redis]) -> None:
    client = small(embedded.cache_memory(16 * 2**20))
    for number in range(60):
        client.set(f"kvb:{number}", bytes(2**19), ex=86_400)
    assert client.exists("kvb:59") == 1
    assert client.info("memory")["maxmemory_policy"] == "allkeys-lru"
    assert 0 < client.dbsize() < 40


def test_a_cache_that_ended_is_started_again_where_replicas_look_for_it(tmp_path: Path) -> None:
    config = parse_config(
        "models: [{id: m}]\nredis: {cache_gib: 0.0625}\n"
        "pools: [{name: p, model: m, context_tokens: 64, engine: {redis_tier: {enabled: true}}}]"
    )
    run_dir = RunDir(root=tmp_path)
    run_dir.logs.mkdir()
    empty = Journal(run="r", phase=Phase.RUNNING, source="f")
    started: list[int] = []
    try:
        address, journal = stores.start_cache(config, os.environ, run_dir=run_dir, journal=empty)
        started += [entry.pid for entry in journal.processes]
        deployment = Deployment(config_path="", state_url=None, model_folders={}, cache_url=address)

        def revive() -> Journal | None:
            return stores.revive_cache(config, deployment, os.environ, run_dir=run_dir, journal=journal)

        assert revive() is None, "it runs"
        assert phase_of(journal) == "running"
        psutil.Process(started[0]).kill()
        psutil.Process(started[0]).wait(10)
        assert phase_of(journal) == "running", "a cluster serves without it"
        again = revive()
        assert again is not None
        started += [entry.pid for entry in again.processes]
        assert len(again.processes) == 1
        with redis.Redis.from_url(address) as client:
            assert client.info("memory")["maxmemory"] == 2**26
        assert read_journal(run_dir.journal) == again
    finally:
        for pid in started:
            with contextlib.suppress(psutil.Error):
                psutil.Process(pid).kill()


def test_silence_is_a_clear_error() -> None:
    started = time.monotonic()
    with pytest.raises(SetupError, match="did not answer within 0 s"):
        embedded.wait_until_ping(free_port(), timeout_s=0.1)
    assert time.monotonic() - started < 2
