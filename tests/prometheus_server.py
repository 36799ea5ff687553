"""A real Prometheus on a port of its own, and what tests ask it.

What must not live here: tests.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from cluster.sockets import free_port
from tests.kubernetes import promtool

MONITORING = Path(__file__).parents[1] / "docs" / "monitoring.md"


@dataclass(frozen=True, slots=True)
class Server:
    """A running Prometheus."""

    client: httpx.AsyncClient

    async def query(self, expr: str) -> list[dict[str, Any]]:
        """What an expression gives now; nothing while Prometheus starts.

        Raises:
            AssertionError: Prometheus cannot evaluate it.
        """
        try:
            answer = await self.client.post("/query", data={"query": expr})
        except httpx.TransportError:
            return []  # it does not listen yet
        if answer.status_code == 503:
            return []  # it listens, and still reads its storage
        told = answer.json()
        assert told["status"] == "success", f"{told}: {expr}"
        found: list[dict[str, Any]] = told["data"]["result"]
        return found if told["data"]["resultType"] == "vector" else [{"metric": {}, "value": found}]

    async def formatted(self, expr: str) -> str:
        """The expression as Prometheus's own parser writes it."""
        answer = await self.client.post("/format_query", data={"query": expr})
        told = answer.json()
        assert told["status"] == "success", f"{told}: {expr}"
        text: str = told["data"]
        return text


def documented(job: str) -> dict[str, Any]:
    """The scrape configuration that docs/monitoring.md gives to those without the operator."""
    text = MONITORING.read_text(encoding="utf-8")
    block = re.search(r"```yaml\n(scrape_configs:.*?)```", text, re.DOTALL)
    assert block is not None
    found: dict[str, Any] = yaml.safe_load(block[1])
    return next(entry for entry in found["scrape_configs"] if entry["job_name"] == job)


@asynccontextmanager
async def prometheus(folder: Path, config: Path) -> AsyncIterator[Server]:
    """A server of its own, with a client for its API."""
    try:
        program = promtool.program_of_prometheus("prometheus")
    except promtool.UnreachableError as error:
        pytest.skip(f"no Prometheus: {error}")
    address = f"127.0.0.1:{free_port()}"
    log = folder / "prometheus.log"
    with log.open("wb") as stream:
        process = await asyncio.create_subprocess_exec(
            program,
            f"--config.file={config}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address={address}",
            stderr=stream,
            cwd=folder,
        )
    try:
        async with httpx.AsyncClient(base_url=f"http://{address}/api/v1", timeout=20) as client:
            yield Server(client)
    except BaseException as error:
        error.add_note(log.read_text(encoding="utf-8")[-3000:])
        raise
    finally:
        process.terminate()
        await process.wait()
