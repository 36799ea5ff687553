"""A gateway inside the test's own event loop, on a real port, in front of fake engines.

What must not live here: tests.
"""

from __future__ import annotations

import asyncio
import random
import textwrap
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from cluster.config import parse_config
from cluster.core.lease import Lease, PoolName, ReplicaId, ReplicaState
from services.gateway.catalog import Catalog
from services.gateway.current import Current
from services.gateway.directory import Directory, LeaseReader
from services.gateway.dispatch import Dispatcher
from services.gateway.metrics import Metrics
from services.gateway.probes import StaticProbes
from services.gateway.server import GatewayServer, bind
from services.gateway.tokens import PromptCounter
from services.gateway.upstream import AiohttpUpstream
from services.rest.app import build_app
from services.rest.gateway import Gateway
from tests.fake_engine import FakeEngine

TWO_POOLS = """
models:
  - id: tiny
    aliases: [gpt-4o]
    output: {default_tokens: 100, max_tokens: 500}
    lora: [{name: tiny-sql, path: /nowhere}]
pools:
  - {name: short, model: tiny, context_tokens: 1000}
  - {name: long, model: tiny, context_tokens: 4000}
"""


@dataclass(slots=True)
class Leases:
    """A lease store in memory that can be taken away."""

    held: list[Lease] = field(default_factory=list)
    is_away: bool = False

    async def leases(self) -> tuple[Lease, ...]:
        if self.is_away:
            raise ConnectionError("taken away")
        return tuple(self.held)


def lease(pool: str, url: str, *, name: str = "", load: int = 0, state: str = "ready", context: int = 0) -> Lease:
    """A lease as a replica writes it."""
    contexts = {"short": 1000, "long": 4000}
    return Lease(
        replica_id=ReplicaId(name or f"{pool}-{url.rsplit(':', 1)[-1]}"),
        pool=PoolName(pool),
        model="tiny",
        url=url,
        state=ReplicaState(state),
        context_tokens=context or contexts.get(pool, 4000),
        running=load,
        waiting=0,
        kv_use_ratio=0.0,
        step_age_s=0.0,
    )


@dataclass(slots=True, kw_only=True)
class Running:
    """A gateway that serves, and a client for it."""

    url: str
    client: httpx.AsyncClient
    gateway: Gateway
    probes: StaticProbes

    async def chat(self, words: int = 3, **fields: object) -> httpx.Response:
        body = {"model": "tiny", "messages": [{"role": "user", "content": "word " * words}], **fields}
        return await self.client.post("/v1/chat/completions", json=body)


@asynccontextmanager
async def running(
    config_text: str = TWO_POOLS,
    *,
    store: LeaseReader | None = None,
    secrets: Mapping[str, str] | None = None,
    tokenizers: Mapping[str, Path] | None = None,
) -> AsyncIterator[Running]:
    """Serve a gateway with this configuration."""
    config = parse_config(textwrap.dedent(config_text))
    known = dict(secrets or {})
    current = Current(Catalog(config, known.get), known.get)
    counter = PromptCounter()
    counter.use(tokenizers or {})
    upstream = AiohttpUpstream()
    metrics = Metrics()
    directory = Directory(store, clock=time.monotonic)
    dispatcher = Dispatcher(
        current=current,
        directory=directory,
        counter=counter,
        upstream=upstream,
        metrics=metrics,
        rng=random.Random(1),
    )
    gateway = Gateway(current=current, directory=directory, dispatcher=dispatcher, metrics=metrics)
    server = GatewayServer(build_app(gateway), ready_file=None, on_drain=gateway.drain, drain_s=1)
    listener = bind("127.0.0.1", 0)
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    probes = StaticProbes(current, directory, upstream)
    await directory.refresh()
    await counter.ready()
    follow = asyncio.create_task(directory.follow())
    serving = asyncio.create_task(server.listen(listener))
    try:
        async with httpx.AsyncClient(base_url=url, timeout=20) as client:
            yield Running(url=url, client=client, gateway=gateway, probes=probes)
    finally:
        server.should_exit = True
        await serving
        follow.cancel()
        await upstream.close()
        counter.close()


def leases_of(**engines: FakeEngine) -> Leases:
    """One lease for each engine, named `pool` or `pool_2`."""
    return Leases([lease(name.split("_")[0], engine.url, name=name) for name, engine in engines.items()])
