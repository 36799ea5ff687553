"""`python -m services.gateway` as its own process, seen through sockets, its log and its ready file only.

What must not live here: imports of services, engines, tests.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).parents[1]
START_TIMEOUT_S = 30


@dataclass(slots=True, kw_only=True)
class GatewayProcess:
    """A gateway that listens."""

    process: asyncio.subprocess.Process
    port: int
    admin_port: int | None
    grpc_port: int | None
    config: Path
    ready_file: Path
    log: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def is_alive(self) -> bool:
        return self.process.returncode is None

    def rss_bytes(self) -> int:
        """Resident memory of the gateway and its workers."""
        parent = psutil.Process(self.process.pid)
        return sum(process.memory_info().rss for process in (parent, *parent.children(recursive=True)))

    async def logged(self, text: str) -> None:
        """Wait until the log has `text`."""
        async with asyncio.timeout(10):
            while text not in self.log.read_text():  # noqa: ASYNC110 - another process writes it
                await asyncio.sleep(0.02)

    def complaints(self) -> list[str]:
        """Lines of the log that a healthy gateway never writes."""
        return [line for line in self.log.read_text().splitlines() if line.startswith("Traceback") or "ERROR" in line]


@asynccontextmanager
async def gateway_process(
    folder: Path, config: Mapping[str, Any], *more_arguments: str, program: Sequence[str] = (), **env: str
) -> AsyncIterator[GatewayProcess]:
    """Run a gateway with this configuration in `folder`, by way of `program` where one is given."""
    path, ready_file, log = folder / "longreach.yaml", folder / "ready.json", folder / "gateway.log"
    path.write_text(json.dumps(config), encoding="utf-8")  # YAML takes JSON as it is
    arguments = ["-m", "services.gateway", "--config", str(path), "--ready-file", str(ready_file), *more_arguments]
    with log.open("wb") as stream:
        process = await asyncio.create_subprocess_exec(
            *program, sys.executable, *arguments, stderr=stream, env={**os.environ, **env}, cwd=ROOT
        )
    try:
        async with asyncio.timeout(START_TIMEOUT_S):
            while not ready_file.exists():
                assert process.returncode is None, log.read_text()
                await asyncio.sleep(0.02)
        told = json.loads(ready_file.read_text())
        yield GatewayProcess(
            process=process,
            port=told["port"],
            admin_port=told.get("admin_port"),
            grpc_port=told.get("grpc_port"),
            config=path,
            ready_file=ready_file,
            log=log,
        )
    finally:
        await _stop(process)


async def _stop(process: asyncio.subprocess.Process) -> None:
    """Kill it with its workers: how it ends by itself is another test's, and a drain takes a second."""
    with contextlib.suppress(psutil.NoSuchProcess):
        for child in psutil.Process(process.pid).children(recursive=True):
            child.kill()
    with contextlib.suppress(ProcessLookupError):
        process.kill()
    await process.wait()


def config_of(
    pools: Mapping[str, Sequence[str]],
    *,
    limits: Mapping[str, float] | None = None,
    state_url: str | None = None,
    context_tokens: int = 4000,
) -> dict[str, Any]:
    """A configuration in which every pool serves a model of its own name.

    Args:
        pools: the addresses of each pool's static members; none where its members write leases.
        limits: over the defaults.
        state_url: where leases are.
        context_tokens: of every pool.
    """
    listed: list[dict[str, Any]] = []
    for name, urls in pools.items():
        members = {"endpoints": [{"url": url} for url in urls]} if urls else {}
        listed.append({"name": name, "model": name, "context_tokens": context_tokens, **members})
    config: dict[str, Any] = {
        "models": [{"id": name, "output": {"default_tokens": 64}} for name in pools],
        "pools": listed,
        "gateway": {"port": 0, "admin": {"port": 0}, "limits": dict(limits or {})},
    }
    if state_url is not None:
        config["redis"] = {"state_url": state_url}
    return config
