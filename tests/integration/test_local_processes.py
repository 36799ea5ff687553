"""`longreach up` and `down` as people use them, without waiting for engines: locks, signals, ports, leftovers.

The clusters here either have only static pools (a gateway alone) or are interrupted before their engines are up; what
a whole cluster does is tested on the shared one.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import redis

from cluster.config import load_config
from cluster.deployment import load_deployment
from cluster.local.journal import read_journal
from cluster.local.rundir import RunDir
from cluster.local.sweep import members
from cluster.sockets import listeners_of

pytestmark = pytest.mark.integration
PROGRAM = str(Path(sys.executable).with_name("longreach"))
STATIC = """
cluster: {{name: alone}}
models: [{{id: m}}]
pools: [{{name: away, model: m, context_tokens: 4096, endpoints: [{{url: "http://127.0.0.1:9"}}]}}]
gateway: {{port: {port}}}
"""
ENGINES = """
cluster: {name: alone, ray_port: 0}
models: [{id: tiny}]
pools: [{name: short, model: tiny, context_tokens: 4096}]
gateway: {port: 0}
"""
WAIT_S = 120.0


class Shell:
    """One person's terminal, with folders of their own."""

    def __init__(self, folder: Path) -> None:
        self.config = folder / "config.yaml"
        self.env = {**os.environ, "LONGREACH_STATE": str(folder / "state")}
        self.run_dir = RunDir(root=folder / "state" / "alone")

    def write(self, text: str) -> None:
        self.config.write_text(text)

    def begin(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [PROGRAM, *arguments], env=self.env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def begin_up(self) -> subprocess.Popen[str]:
        return self.begin("up", "--no-question", "--config", str(self.config))

    def run(self, *arguments: str) -> tuple[int, str]:
        process = self.begin(*arguments)
        output, _ = process.communicate(timeout=WAIT_S)
        return process.returncode, output

    def up(self) -> tuple[int, str]:
        return self.run("up", "--no-question", "--config", str(self.config))

    def down(self) -> tuple[int, str]:
        return self.run("down", "--config", str(self.config))

    def wait_for_process(self, name: str) -> int:
        """Wait until `up` has started `name`, and return its pid."""
        deadline = time.monotonic() + WAIT_S
        while time.monotonic() < deadline:
            journal = read_journal(self.run_dir.journal)
            entry = journal.process(name) if journal else None
            if entry is not None:
                return entry.pid
            time.sleep(0.02)
        pytest.fail(f"{name} was not started within {WAIT_S:.0f} s")

    def assert_nothing_left(self) -> None:
        assert members(self.run_dir.root) == []
        assert {path.name for path in self.run_dir.root.iterdir()} <= {"lock", "logs", "usage"}
        assert not self.run_dir.ray.exists()


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    found = Shell(tmp_path)
    found.write(STATIC.format(port=0))
    yield found
    found.down()
    found.assert_nothing_left()


def test_up_again_joins_and_down_twice_is_fine(shell: Shell) -> None:
    code, said = shell.up()
    assert code == 0, said
    first = shell.wait_for_process("gateway")
    code, said = shell.up()
    assert code == 0, said
    assert "Already running" in said
    assert shell.wait_for_process("gateway") == first
    listening = listeners_of(process.pid for process in members(shell.run_dir.root))
    assert listening
    assert all(listener.is_loopback for listener in listening)
    code, said = shell.down()
    assert code == 0
    assert "Stopped 1 process" in said
    shell.assert_nothing_left()
    assert shell.down() == (0, "Nothing was running\n")


def test_second_up_and_down_are_refused_while_one_works(shell: Shell) -> None:
    shell.write(ENGINES)
    first = shell.begin_up()
    shell.wait_for_process("redis")
    for command in (shell.up, shell.down):
        code, said = command()
        assert code == 1
        assert f"`longreach up` is already at work: process {first.pid}, since " in said
    first.send_signal(signal.SIGTERM)
    first.communicate(timeout=WAIT_S)
    assert first.returncode == 128 + signal.SIGTERM
    shell.assert_nothing_left()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_signal_half_way_leaves_nothing(shell: Shell, number: signal.Signals) -> None:
    shell.write(ENGINES)
    up = shell.begin_up()
    # By then Valkey, Ray, the driver that submits pools and the gateway are all there.
    shell.wait_for_process("gateway")
    assert len(members(shell.run_dir.root)) > 4
    up.send_signal(number)
    said, _ = up.communicate(timeout=WAIT_S)
    assert up.returncode == 128 + number, said
    assert "Interrupted" in said
    shell.assert_nothing_left()


def test_a_tier_without_an_address_gets_a_server_of_its_own(shell: Shell) -> None:
    shell.write(ENGINES.replace("4096}", "4096, engine: {redis_tier: {enabled: true}}}") + "redis: {cache_gib: 0.25}\n")
    up = shell.begin_up()
    shell.wait_for_process("gateway")
    state_pid, cache_pid = shell.wait_for_process("redis"), shell.wait_for_process("cache")
    assert state_pid != cache_pid
    deployment = load_deployment(shell.run_dir.deployment)
    assert deployment.cache_url not in {None, deployment.state_url}
    assert load_config(shell.run_dir.config).redis.cache_url is None
    with redis.Redis.from_url(str(deployment.cache_url)) as client:
        assert client.config_get("maxmemory")["maxmemory"] == str(2**28)
    assert json.loads(shell.run("status", "--config", str(shell.config), "--json")[1])["cache"] == "ok"
    assert "Server initialized" in shell.run("logs", "cache", "--config", str(shell.config))[1]
    up.send_signal(signal.SIGTERM)
    up.communicate(timeout=WAIT_S)
    shell.assert_nothing_left()


def test_killed_up_is_cleaned_up_by_the_next(shell: Shell) -> None:
    shell.write(ENGINES)
    up = shell.begin_up()
    shell.wait_for_process("ray")
    up.kill()
    up.communicate()
    left = members(shell.run_dir.root)
    assert left
    shell.write(STATIC.format(port=0))
    code, said = shell.up()
    assert code == 0, said
    assert "cleaning up what it left" in said
    assert not any(process.is_running() for process in left if process.pid not in shell_pids(shell))


def shell_pids(shell: Shell) -> set[int]:
    journal = read_journal(shell.run_dir.journal)
    return {entry.pid for entry in journal.processes} if journal else set()


def test_broken_cluster_is_started_anew(shell: Shell) -> None:
    assert shell.up()[0] == 0
    pid = shell.wait_for_process("gateway")
    psutil.Process(pid).kill()
    status = json.loads(shell.run("status", "--config", str(shell.config), "--json")[1])
    assert status["phase"] == "broken"
    code, said = shell.up()
    assert code == 0, said
    assert shell.wait_for_process("gateway") != pid


def test_taken_port_is_named_with_its_owner(shell: Shell) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        shell.write(STATIC.format(port=port))
        code, said = shell.up()
    assert code == 1
    assert f"port {port}, which the gateway needs, is taken by process {os.getpid()} (" in said
    assert "gateway.port" in said
    shell.assert_nothing_left()


def test_reload_reaches_the_gateway(shell: Shell) -> None:
    assert shell.up()[0] == 0
    shell.write(STATIC.format(port=0).replace("models: [{id: m}]", "models: [{id: m, aliases: [also]}]"))
    code, said = shell.run("config", "reload", "--config", str(shell.config))
    assert (code, said) == (0, "changed   models.m.aliases\n")
    deadline = time.monotonic() + 10
    url = json.loads(shell.run("status", "--config", str(shell.config), "--json")[1])["url"]
    while "also" not in _models(url):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert shell.run("config", "reload", "--config", str(shell.config))[1] == "nothing has changed\n"


def _models(url: str) -> set[str]:
    from cluster.local.client import GatewayClient

    client = GatewayClient(url)
    try:
        return {entry["id"] for entry in client.models()}
    finally:
        client.close()
