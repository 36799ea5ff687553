"""The cluster under test: who runs where, and when it is whole again.

What must not live here: breaking it (faults/), asking it (asking.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
import yaml
from redis.asyncio import Redis
from redis.exceptions import RedisError

from cluster.core import wire
from cluster.core.errors import LongreachError
from cluster.core.lease import ReplicaState
from cluster.deployment import load_deployment
from cluster.engine import orphans
from cluster.environment import Environment
from cluster.local.journal import read_journal
from cluster.local.reload import reload
from cluster.local.rundir import RUN_DIR_VARIABLE, RunDir
from cluster.state.leases import LeaseStore

POLL_S = 0.1
PATIENT_S = 30.0
"""Beside busy engines this process starves, and Redis with it."""
SEVERAL = 2
HEAL_LIMIT_S = 300.0
"""A replica starts in 20 to 110 s; a frozen one is given up by Serve after 90."""


class ChaosError(LongreachError):
    """The suite could not do its work."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Replica:
    """One running replica."""

    replica_id: str
    pool: str
    url: str
    pid: int
    running: int


def redis_at(url: str, **options: Any) -> Redis:
    """A client of one of the cluster's servers, for `async with`: it has time, and is closed in the end."""
    return Redis.from_url(url, socket_connect_timeout=PATIENT_S, socket_timeout=PATIENT_S, **options)


class Target:
    """The cluster that is broken."""

    def __init__(
        self,
        *,
        cluster: str,
        counts: Mapping[str, int],
        url: str,
        config_file: Path,
        run_dir: RunDir,
        environment: Environment,
    ) -> None:
        """Look at a running cluster.

        Args:
            cluster: its name.
            counts: replicas by pool, while nothing is broken.
            url: of its gateway.
            config_file: a change to it takes effect with a reload.
            run_dir: its run folder.
            environment: for commands.
        """
        self.cluster, self.counts = cluster, counts
        self.url = url
        self.run_dir = run_dir
        self.environment = environment
        self._config_file = config_file
        deployment = load_deployment(run_dir.deployment)
        assert deployment.state_url is not None
        self.state_url, self.cache_url = deployment.state_url, deployment.cache_url
        told = self._told()
        self.grpc_address = f"127.0.0.1:{told['grpc_port']}"
        self.admin_url = f"http://127.0.0.1:{told['admin_port']}"

    def _told(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.run_dir.gateway_ready.read_text(encoding="utf-8"))
        return found

    # Who is there

    async def replicas(self, pool: str | None = None) -> list[Replica]:
        """Replicas that take work; none where the store does not answer."""
        try:
            async with redis_at(self.state_url, decode_responses=True) as client:
                store = LeaseStore(client, self.cluster)
                leases = await store.leases()
                pids = {report.replica_id: report.pid for report in await store.reports()}
        except (RedisError, OSError):
            return []
        return [
            Replica(replica_id=lease.replica_id, pool=lease.pool, url=lease.url, pid=pid, running=lease.running)
            for lease in leases
            if lease.state is ReplicaState.READY
            and (pid := pids.get(lease.replica_id)) is not None
            and pool in {None, lease.pool}
        ]

    async def busiest(self, pool: str, *, at_least: int = SEVERAL) -> Replica:
        """The replica of a pool with the most sequences under way; waits until one has `at_least`."""

        async def look() -> Replica | None:
            found = max(await self.replicas(pool), key=lambda replica: replica.running, default=None)
            return found if found is not None and found.running >= at_least else None

        found: Replica = await self.until(look, limit_s=PATIENT_S, what=f"work at a replica of {pool}")
        return found

    def engine_core(self, replica: Replica) -> psutil.Process:
        """Its EngineCore.

        Raises:
            ChaosError: it has none.
        """
        for process in orphans.engine_processes(replica.pid):
            with contextlib.suppress(psutil.Error):
                if orphans.runs_engine(process) and orphans.is_core(process, replica.pid):
                    return process
        raise ChaosError(f"replica {replica.replica_id} has no engine process")

    def pid(self, name: str) -> int:
        """The process that was started under this name."""
        journal = read_journal(self.run_dir.journal)
        entry = None if journal is None else journal.process(name)
        if entry is None:
            raise ChaosError(f"nothing called {name} was started")
        return entry.pid

    def gateway_workers(self) -> list[psutil.Process]:
        """The gateway's worker processes."""
        return psutil.Process(self.pid("gateway")).children()

    def processes(self) -> list[psutil.Process]:
        """Every process of the cluster, by the mark in its environment."""
        mark = f"{RUN_DIR_VARIABLE}={self.run_dir.root}".encode()
        found = []
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError, psutil.Error):
                if entry.name.isdigit() and mark in (entry / "environ").read_bytes().split(b"\0"):
                    found.append(psutil.Process(int(entry.name)))
        return found

    # Waiting

    async def whole(self, without: str = "", wanted: Mapping[str, int] | None = None) -> float:
        """Wait until every pool has its replicas, none of them called `without`; seconds it took.

        Raises:
            ChaosError: it does not become so.
        """
        begun_s = time.monotonic()
        counts = wanted or self.counts

        async def look() -> bool:
            found = [replica for replica in await self.replicas() if replica.replica_id != without]
            return all(sum(one.pool == pool for one in found) == count for pool, count in counts.items())

        await self.until(look, limit_s=HEAL_LIMIT_S, what=f"replicas {counts}")
        return time.monotonic() - begun_s

    async def until(self, look: Callable[[], Awaitable[Any]], *, limit_s: float, what: str) -> Any:
        """The first true answer of `look`.

        Raises:
            ChaosError: there is none within `limit_s`.
        """
        ends_s = time.monotonic() + limit_s
        while True:
            found = await look()
            if found:
                return found
            if time.monotonic() > ends_s:
                raise ChaosError(f"not within {limit_s:g} s: {what}")
            await asyncio.sleep(POLL_S)

    async def metrics(self) -> str:
        """The gateway's; empty where it does not answer."""
        try:
            async with httpx.AsyncClient(timeout=PATIENT_S) as client:
                return (await client.get(f"{self.admin_url}/metrics")).text
        except httpx.HTTPError:
            return ""

    async def total(self, name: str) -> float:
        """The sum of a metric of the gateway over its labels; infinite where it does not answer."""
        text = await self.metrics()
        lines = [line for line in text.splitlines() if line.startswith((f"{name}{{", f"{name} "))]
        return sum(float(line.split()[-1]) for line in lines) if lines else float("inf")

    async def replicas_total(self, name: str) -> float:
        """The sum of a metric of the replicas, over all of them and their labels.

        Raises:
            ChaosError: one does not tell.
        """
        headers = {wire.HEADER_CREDENTIAL: self.run_dir.credential.read_text(encoding="ascii")}
        total = 0.0
        async with httpx.AsyncClient(timeout=PATIENT_S, headers=headers) as client:
            for replica in await self.replicas():
                try:
                    text = (await client.get(f"{replica.url}/metrics")).raise_for_status().text
                except httpx.HTTPError as error:
                    raise ChaosError(f"replica {replica.replica_id} does not tell its metrics: {error}") from error
                lines = [line for line in text.splitlines() if line.startswith(name) and "_created" not in line]
                total += sum(float(line.split()[-1]) for line in lines)
        return total

    # Changing

    async def limit(self, **limits: Any) -> None:
        """Put other limits of the gateway in force."""
        config = yaml.safe_load(self._config_file.read_text(encoding="utf-8"))
        config["gateway"]["limits"] = limits
        self._config_file.write_text(yaml.safe_dump(config), encoding="utf-8")
        await asyncio.to_thread(reload, self.run_dir, None, self.environment)

    def section(self, pool: str) -> dict[str, Any]:
        """A pool's section of the configuration file."""
        config = yaml.safe_load(self._config_file.read_text(encoding="utf-8"))
        return next(one for one in config["pools"] if one["name"] == pool)

    async def change(self, pool: str, **keys: Any) -> None:
        """Change keys of a pool's section, and put them in force; where its engine changes, replica after replica."""
        config = yaml.safe_load(self._config_file.read_text(encoding="utf-8"))
        section = next(one for one in config["pools"] if one["name"] == pool)
        section.update(keys)
        self._config_file.write_text(yaml.safe_dump(config), encoding="utf-8")
        await asyncio.to_thread(reload, self.run_dir, None, self.environment, rolls=True)
