"""A real cluster as tests see it: how to look at it, how to run the program, how to wait for a thing."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import json
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from redis.asyncio import Redis
from redis.exceptions import RedisError

from cluster.core import wire
from cluster.core.lease import Lease, ReplicaId, ReplicaReport
from cluster.deployment import load_deployment
from cluster.engine import orphans
from cluster.local.rundir import RunDir
from cluster.state.leases import LeaseStore

CONFIG = Path(__file__).parent / "integration" / "cluster.yaml"
POLL_S = 0.1
SETTLE_TIMEOUT_S = 240.0


@dataclass(frozen=True)
class Cluster:
    """A running cluster, as tests see it."""

    url: str
    run_dir: Path
    state_url: str
    env: dict[str, str]

    @property
    def grpc_address(self) -> str:
        """Where the cluster's own gateway serves gRPC."""
        told = json.loads(RunDir(root=self.run_dir).gateway_ready.read_text(encoding="utf-8"))
        return f"127.0.0.1:{told['grpc_port']}"

    async def leases(self) -> dict[str, Lease]:
        """The lease of each pool; the tests' pools have one replica each."""
        client = patient(self.state_url)
        try:
            return {lease.pool: lease for lease in await LeaseStore(client, "test").leases()}
        finally:
            await client.aclose()

    async def reports(self) -> dict[ReplicaId, ReplicaReport]:
        client = patient(self.state_url)
        try:
            return {report.replica_id: report for report in await LeaseStore(client, "test").reports()}
        finally:
            await client.aclose()

    @property
    def credential(self) -> dict[str, str]:
        """The header by which a replica knows a gateway of its cluster."""
        secret = RunDir(root=self.run_dir).credential.read_text(encoding="ascii")
        return {wire.HEADER_CREDENTIAL: secret}

    def model_folder(self, model: str) -> Path:
        return Path(load_deployment(self.run_dir / "deployment.json").model_folders[model])

    def pid(self, name: str) -> int:
        """The process that `longreach up` started under this name."""
        journal = json.loads((self.run_dir / "processes.json").read_text(encoding="utf-8"))
        return next(entry["pid"] for entry in journal["processes"] if entry["name"] == name)

    def processes(self) -> list[str]:
        return carrying(f"LONGREACH_RUN_DIR={self.run_dir}")


def patient(url: str) -> Redis:
    """A client that waits longer than the product's: beside a busy engine, this process starves."""
    return Redis.from_url(url, socket_connect_timeout=30, socket_timeout=30, decode_responses=True)


@dataclass(frozen=True)
class SecondGateway:
    """Another gateway of the same cluster."""

    process: asyncio.subprocess.Process
    port: int
    admin_port: int
    grpc_port: int
    log: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def grpc_address(self) -> str:
        return f"127.0.0.1:{self.grpc_port}"


@contextlib.asynccontextmanager
async def second_gateway(cluster: Cluster, folder: Path, **section: Any) -> AsyncIterator[SecondGateway]:
    """Run another gateway of `cluster`, its `gateway` section changed."""
    first = psutil.Process(cluster.pid("gateway"))
    config = yaml.safe_load(CONFIG.read_text(encoding="utf-8"))
    config["gateway"] |= section
    path, ready, log = folder / "gateway.yaml", folder / "ready.json", folder / "gateway.log"
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    arguments = ["--config", str(path), "--deployment", str(cluster.run_dir / "deployment.json")]
    with log.open("wb") as stream:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "services.gateway", *arguments, "--ready-file", str(ready),
            env=first.environ(), cwd=Path(__file__).parents[1], stderr=stream,
        )  # fmt: skip
    try:
        await until(ready.exists, timeout_s=60, what="the second gateway listens")
        told = json.loads(ready.read_text())
        ports = {name: told[name] for name in ("port", "admin_port", "grpc_port")}
        yield SecondGateway(process=process, log=log, **ports)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


def carrying(mark: str) -> list[str]:
    """Command lines of living processes with `mark` in their environment."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and mark.encode() in (entry / "environ").read_bytes().split(b"\0"):
                found.append((entry / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        except OSError:
            continue
    return [line for line in found if line]


def longreach(*arguments: str, env: dict[str, str], timeout_s: float = 120) -> subprocess.CompletedProcess[str]:
    """Run the command-line program as a user would."""
    argv = [str(Path(sys.executable).with_name("longreach")), *arguments]
    return subprocess.run(argv, env=env, capture_output=True, text=True, timeout=timeout_s, check=False)


async def settled(cluster: Cluster, *pools: str) -> dict[str, Lease]:
    """Wait until each of `pools` has a replica: a test before this one may have taken one away."""

    async def leased() -> dict[str, Lease] | None:
        with contextlib.suppress(RedisError, OSError):
            leases = await cluster.leases()
            return leases if set(pools) <= leases.keys() else None
        return None

    found: dict[str, Lease] = await until(leased, timeout_s=SETTLE_TIMEOUT_S, what=f"replicas of {pools}")
    return found


async def until(look: Callable[[], Any], *, timeout_s: float, what: str) -> Any:
    """Wait for the thing itself: the first true answer of `look`."""
    deadline = time.monotonic() + timeout_s
    while True:
        answer = look()
        if inspect.isawaitable(answer):
            answer = await answer
        if answer:
            return answer
        if time.monotonic() > deadline:
            pytest.fail(f"not within {timeout_s:g} s: {what}")
        await asyncio.sleep(POLL_S)


def _driver(cluster: Cluster, script: str) -> tuple[list[str], dict[str, str]]:
    ray = psutil.Process(cluster.pid("ray"))
    env = {**cluster.env, **{key: value for key, value in ray.environ().items() if key.startswith("RAY_")}}
    port = next(part.partition("=")[2] for part in ray.cmdline() if part.startswith("--port="))
    connect_first = f"import ray\nray.init('127.0.0.1:{port}', log_to_driver=False, logging_level='ERROR')\n"
    return [sys.executable, "-c", connect_first + script], env


@contextlib.asynccontextmanager
async def waiting_worker(cluster: Cluster, script: str, folder: Path) -> AsyncIterator[Callable[[], None]]:
    """A Ray worker, connected to Serve, that runs `script` once the function it yields is called.

    A worker and not this process's child: where a busy engine leaves no core free, the kernel serves the engine's own
    session before all others, and a driver of ours was seen to wait 19 s for its first millisecond.
    """
    ready, go = folder / "ready", folder / "go"
    work = f"""
import ray

@ray.remote(num_cpus=0, max_retries=0)
def wait():
    import pathlib, time
    from ray import serve
    serve.status()
    pathlib.Path({str(ready)!r}).touch()
    while not pathlib.Path({str(go)!r}).exists():
        time.sleep(0.02)
    {script}

ray.get(wait.remote())
"""
    argv, env = _driver(cluster, work)
    process = await asyncio.create_subprocess_exec(*argv, env=env)
    try:
        await until(ready.exists, timeout_s=60, what="the worker is connected")
        yield go.touch
        assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()


def drive(cluster: Cluster, script: str, *, timeout_s: float = 120) -> str:
    """Run a Ray driver in a process of its own, inside the cluster's environment; returns what it printed."""
    argv, env = _driver(cluster, script)
    done = subprocess.run(
        argv,
        env=env,
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout_s,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def placement_groups(cluster: Cluster) -> list[dict[str, Any]]:
    """Ray's own table of placement groups."""
    script = "import json, ray.util\nprint(json.dumps(list(ray.util.placement_group_table().values()), default=str))"
    groups: list[dict[str, Any]] = json.loads(drive(cluster, script).splitlines()[-1])
    return groups


def warm_parent(replica_pid: int) -> psutil.Process:
    """The process that has imported vLLM for a replica's engine."""
    found = [process for process in psutil.Process(replica_pid).children() if orphans.is_warm_parent(process)]
    assert len(found) == 1, found
    return found[0]


def engine_core(replica_pid: int) -> psutil.Process:
    """The EngineCore of a replica."""
    return next(process for process in _engine(replica_pid) if orphans.is_core(process, replica_pid))


def engine_workers(replica_pid: int) -> list[psutil.Process]:
    """The workers of a replica's engine, one for each tensor-parallel rank."""
    return [process for process in _engine(replica_pid) if not orphans.is_core(process, replica_pid)]


def _engine(replica_pid: int) -> list[psutil.Process]:
    """Living processes of a replica's engine, by the mark they carry."""
    owner = orphans.identity(replica_pid)
    return [
        process
        for process, _, marked in orphans._marked()
        if marked == owner and process.status() != psutil.STATUS_ZOMBIE and orphans.runs_engine(process)
    ]
