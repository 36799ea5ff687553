"""Reads a gateway's metrics, and those of its replicas through it.

What must not live here: what they say (sight.py).
"""

from __future__ import annotations

import asyncio
import time
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import httpx

from cluster.core.errors import LongreachError, SetupError
from cluster.local.top.page import Page, parse_page
from cluster.local.top.sight import OF_GATEWAY, OF_REPLICA, PageOfReplica, Round

GATEWAY_S = 10.0
"""A gateway answers in milliseconds; with several workers it waits so long for the slowest."""
REPLICA_S = 9.0
"""A little more than a gateway gives a replica (services/gateway/scrapes.py), so that its own words arrive."""
AT_ONCE = 16
"""Half of what a gateway asks at once: Prometheus wants its share."""
REPLICAS_MAX = 256
"""More fit on no screen."""
UNAUTHORIZED = (401, 403)


class Reader:
    """One gateway's admin listener.

    Args:
        url: its address.
        api_key: with role admin, where keys are in force.
    """

    def __init__(self, url: str, *, api_key: str | None = None) -> None:
        self.url = url.rstrip("/")
        headers = {"authorization": f"Bearer {api_key}"} if api_key else {}
        self._client = httpx.AsyncClient(headers=headers, timeout=GATEWAY_S, trust_env=False)
        self._asking = asyncio.Semaphore(AT_ONCE)

    async def __aenter__(self) -> Self:
        """Nothing is opened before it is used."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def read(self) -> Round:
        """Everybody's pages, now.

        Raises:
            SetupError: nobody answers there, or it is no gateway's admin listener.
            LongreachError: the gateway wants another key.
        """
        listed, text = await asyncio.gather(self._get("/sd/replicas"), self._get("/metrics"))
        try:
            page = parse_page(text.text, OF_GATEWAY, time.monotonic())
            targets: list[dict[str, Any]] = listed.json()
            asked = [self._replica(entry["labels"]) for entry in targets[:REPLICAS_MAX]]
        except (ValueError, TypeError, KeyError) as error:
            raise self._no_gateway(error) from error
        return Round(gateway=page, replicas=tuple(await asyncio.gather(*asked)))

    async def _replica(self, labels: dict[str, str]) -> PageOfReplica:
        page: Page | None = None
        error = ""
        try:
            async with self._asking, asyncio.timeout(REPLICA_S):
                answer = await self._client.get(f"{self.url}/replicas/{quote(labels['replica'], safe='')}/metrics")
            if answer.is_success:
                page = parse_page(answer.text, OF_REPLICA, time.monotonic())
            else:
                error = answer.text.strip().partition("\n")[0]
        except (httpx.HTTPError, TimeoutError, ValueError) as fault:
            error = str(fault) or f"no answer within {REPLICA_S:g} s"
        return PageOfReplica(
            replica_id=labels["replica"], pool=labels["pool"], model=labels.get("model", ""), page=page, error=error
        )

    async def _get(self, path: str) -> httpx.Response:
        try:
            answer = await self._client.get(f"{self.url}{path}")
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise SetupError(
                f"{self.url} gives no answer: {error or type(error).__name__}",
                "start the cluster, or name the gateway's admin listener: --url URL",
            ) from error
        if answer.status_code in UNAUTHORIZED:
            raise LongreachError(f"{self.url} wants a key with role admin: set LONGREACH_API_KEY")
        if not answer.is_success:
            raise self._no_gateway(f"{path} answers with status {answer.status_code}")
        return answer

    def _no_gateway(self, why: object) -> SetupError:
        return SetupError(
            f"{self.url} is no gateway's admin listener: {why}",
            "name that one: --url URL (by default port 8081; clients use another)",
        )
