"""A gateway inside the test's own event loop, on a real port, in front of fake engines.

What must not live here: tests.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import textwrap
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import httpx

from cluster.config import parse_config
from cluster.core.lease import Lease, PoolName, ReplicaId, ReplicaState
from cluster.environment import read_environment
from services.api.gateway import Gateway
from services.api.repeats import Repeats
from services.gateway.access import Access
from services.gateway.answers import AnswerSource
from services.gateway.assembly import Surroundings, assemble
from services.gateway.boundary import BoundaryExchange
from services.gateway.catalog import Catalog
from services.gateway.current import Current
from services.gateway.directory import LeaseReader
from services.gateway.probes import StaticProbes
from services.gateway.residency import ResidencySource
from services.gateway.scaling import RecordReader
from services.gateway.server import GatewayServer
from services.gateway.tokens import PromptCounter
from services.grpc.server import GrpcServer
from services.http1.listener import Listener, bind, bind_path
from services.tracing.exporter import Sink
from services.tracing.settings import trace_settings
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

    async def drain(self, replica_id: ReplicaId, for_s: float | None) -> None:
        state = ReplicaState.READY if for_s is None else ReplicaState.DRAINING
        self.held = [
            replace(held, state=state, is_drained=for_s is not None) if held.replica_id == replica_id else held
            for held in self.held
        ]


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
    admin_url: str
    grpc_address: str
    client: httpx.AsyncClient
    gateway: Gateway
    probes: StaticProbes
    grpc_server: GrpcServer
    repeats: Repeats

    async def metrics(self) -> str:
        """The Prometheus text."""
        return (await self.client.get(f"{self.admin_url}/metrics")).text

    async def chat(self, words: int = 3, **fields: object) -> httpx.Response:
        body = {"model": "tiny", "messages": [{"role": "user", "content": "word " * words}], **fields}
        return await self.client.post("/v1/chat/completions", json=body)


@asynccontextmanager
async def running(
    config_text: str = TWO_POOLS,
    *,
    store: LeaseReader | None = None,
    residency: ResidencySource | None = None,
    records: RecordReader | None = None,
    boundaries: BoundaryExchange | None = None,
    kept_answers: AnswerSource | None = None,
    secrets: Mapping[str, str] | None = None,
    tokenizers: Mapping[str, Path] | None = None,
    credential: str | None = None,
    parent: tuple[Path, str] | None = None,
    sinks: Sequence[Sink] = (),
) -> AsyncIterator[Running]:
    """Serve a gateway with this configuration; its admin routes also at the path of a parent that shows this token."""
    config = parse_config(textwrap.dedent(config_text))
    known = dict(secrets or {})
    current = Current(Catalog(config, known.get), known.get)
    counter = PromptCounter()
    counter.use(tokenizers or {})
    around = Surroundings(
        current=current,
        access=Access(config),
        counter=counter,
        leases=store,
        residency=residency,
        kept=None,
        asked=None,
        records=records,
        boundaries=boundaries,
        kept_answers=kept_answers,
        redis=None,
        usage_folder=None,
        credential=credential,
        parent_token=None if parent is None else parent[1],
        traces=trace_settings(config.telemetry.traces, read_environment({}), config.cluster.name),
        sinks=sinks,
        rng=random.Random(1),
    )
    parts = assemble(around)
    admin = Listener(parts.admin, parts.limits, bind("127.0.0.1", 0))
    to_parent = [] if parent is None else [Listener(parts.admin, parts.limits, bind_path(parent[0]))]
    grpc_server = GrpcServer(config.gateway, parts.grpc, parts.gateway.is_ready)
    server = GatewayServer(
        Listener(parts.front, parts.limits, bind("127.0.0.1", 0)),
        [admin, *to_parent],
        ready_file=None,
        on_drain=parts.gateway.drain,
        drain_s=lambda: 1.0,
        grpc=grpc_server,
    )
    await parts.gateway.directory.refresh()
    await counter.ready()
    gateway = parts.gateway
    follow = asyncio.gather(
        gateway.directory.follow(),
        parts.moves.follow(),
        gateway.residency.follow(),
        gateway.scaling.follow(),
        parts.repeats.follow(),
        grpc_server.follow(),
    )
    serving = asyncio.create_task(server.run())
    url = f"http://127.0.0.1:{server.port}"
    try:
        async with httpx.AsyncClient(base_url=url, timeout=20) as client:
            yield Running(
                url=url,
                admin_url=f"http://127.0.0.1:{admin.port}",
                grpc_address=f"127.0.0.1:{grpc_server.port}",
                client=client,
                gateway=parts.gateway,
                probes=parts.probes,
                grpc_server=grpc_server,
                repeats=parts.repeats,
            )
    finally:
        server.drain(0)
        await serving
        follow.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await follow
        await parts.close()


def leases_of(**engines: FakeEngine) -> Leases:
    """One lease for each engine, named `pool` or `pool_2`."""
    return Leases([lease(name.split("_")[0], engine.url, name=name) for name, engine in engines.items()])
