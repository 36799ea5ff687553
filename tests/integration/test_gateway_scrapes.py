"""The admin listener's list of replicas for Prometheus, and replicas' own metrics through it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import httpx
import pytest
import uvicorn
from prometheus_client import CollectorRegistry, Counter, make_asgi_app
from prometheus_client.parser import text_string_to_metric_families

from cluster.core.autoscaling.target import Bound
from cluster.engine.asgi import App, Receive, Scope, Send
from cluster.engine.gate import Gate
from cluster.engine.layer import EngineLayer
from services.gateway import scrapes
from tests.cluster_harness import until
from tests.gateway_harness import TWO_POOLS, Leases, Running, lease, running
from tests.kubernetes.metric_sources import GATEWAY_TARGET
from tests.kubernetes.promql import selectors
from tests.metrics_page import expressions
from tests.unit.core.autoscaling.test_record import RECORD
from tests.unit.gateway.test_scaling import Store

SECRET = "the cluster's own"
Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n"


def under(prefix: str, app: App) -> App:
    """Serve `app` below a prefix, as Ray Serve does."""

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        await app(dict(scope) | {"root_path": prefix}, receive, send)

    return serve


@asynccontextmanager
async def replica(pool: str) -> AsyncIterator[str]:
    """The address of a replica's layer around an application with metrics."""
    registry = CollectorRegistry()
    Counter("vllm:num_preemptions", "Preemptions.", ["engine"], registry=registry).labels("0").inc(7)
    metrics = make_asgi_app(registry)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await metrics(scope, receive, send)

    layer = EngineLayer(app, Gate(engine_is_dead=lambda: False, max_requests=8), credential=SECRET)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        config = uvicorn.Config(under(f"/{pool}", layer), lifespan="off", log_level="warning")
        server = uvicorn.Server(config)
        task = asyncio.create_task(server.serve(sockets=[listening]))
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}/{pool}"
        finally:
            server.should_exit = True
            await task


@asynccontextmanager
async def misbehaving(script: Script) -> AsyncIterator[str]:
    """The address of something that reads a request's head, then does what `script` does."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            await script(reader, writer)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def scraped(at: Running, name: str) -> httpx.Response:
    return await at.client.get(f"{at.admin_url}/replicas/{name}/metrics")


async def test_prometheus_finds_each_replica_and_gets_its_own_metrics() -> None:
    async with replica("short") as url:
        store = Leases([lease("short", url, name="a1"), lease("long", "http://127.0.0.1:9/long", name="b2")])
        async with running(store=store, credential=SECRET) as at:
            found = (await at.client.get(f"{at.admin_url}/sd/replicas")).json()
            assert [group["labels"]["pool"] for group in found] == ["long", "short"]
            labels = found[1]["labels"]
            assert labels == {
                "__metrics_path__": "/replicas/a1/metrics",
                "pool": "short",
                "replica": "a1",
                "model": "tiny",
                "instance": "a1",
            }
            (address,) = found[1]["targets"]
            assert f"http://{address}" == at.admin_url
            answer = await at.client.get(f"http://{address}{labels['__metrics_path__']}")
            assert answer.status_code == 200
            assert answer.headers["content-type"].startswith("text/plain; version=")
            families = {family.name: family for family in text_string_to_metric_families(answer.text)}
            assert families["vllm:num_preemptions"].samples[0].value == 7


async def test_the_secret_is_needed_and_goes_no_further() -> None:
    async with replica("short") as url, running(store=Leases([lease("short", url, name="a1")])) as at:
        refused = await scraped(at, "a1")
        assert refused.status_code == 502
        assert "status 401" in refused.text
        assert SECRET not in (await at.client.get(f"{at.admin_url}/sd/replicas")).text


async def test_names_that_need_escaping_reach_their_replica_and_nothing_else() -> None:
    async with replica("short") as url:
        names = ("a/b", "a b#?%2f", "../sd")
        async with running(store=Leases([lease("short", url, name=name) for name in names]), credential=SECRET) as at:
            for group in (await at.client.get(f"{at.admin_url}/sd/replicas")).json():
                answer = await at.client.get(at.admin_url + group["labels"]["__metrics_path__"])
                assert answer.status_code == (200 if "/" not in group["labels"]["replica"] else 404)


async def _hangs(_reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(60)


async def _drips(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A byte now and then: never silent, never done."""
    writer.write(HEAD + b"content-length: 1000000\r\n\r\n")
    for _ in range(600):
        writer.write(b"#")
        await writer.drain()
        await asyncio.sleep(0.05)


async def _closes(_reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    pass


async def _breaks(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(HEAD + b"content-length: 100\r\n\r\nhalf of")
    await writer.drain()


async def _floods(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(HEAD + b"transfer-encoding: chunked\r\n\r\n")
    for _ in range(2000):
        writer.write(b"8000\r\n" + bytes(0x8000) + b"\r\n")
        await writer.drain()


async def _is_broken(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 500 Oh\r\ncontent-length: 9\r\n\r\nTraceback")
    await writer.drain()


@pytest.mark.parametrize(
    ("script", "status", "said"),
    [
        (_hangs, 504, "no whole answer within"),
        (_drips, 504, "no whole answer within"),
        (_closes, 502, "closed"),
        (_breaks, 502, "closed"),
        (_floods, 502, "larger than"),
        (_is_broken, 502, "status 500"),
    ],
)
async def test_a_replica_that_misbehaves_costs_its_own_metrics_only(
    script: Script, status: int, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scrapes, "SCRAPE_S", 0.5)
    async with replica("short") as well, misbehaving(script) as ill:
        store = Leases([lease("short", well, name="well"), lease("short", ill, name="ill")])
        async with running(store=store, credential=SECRET) as at:
            bad, good = await asyncio.gather(scraped(at, "ill"), scraped(at, "well"))
            assert (bad.status_code, good.status_code) == (status, 200)
            assert said in bad.text
            assert "Traceback" not in bad.text


async def test_so_many_at_once_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scrapes, "SCRAPES_MAX", 2)
    asked = asyncio.Semaphore(0)
    go_on = asyncio.Event()

    async def waits(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.release()
        await go_on.wait()
        writer.write(HEAD + b"content-length: 0\r\n\r\n")

    async with misbehaving(waits) as slow, running(store=Leases([lease("short", slow, name="slow")])) as at:
        first = [asyncio.create_task(scraped(at, "slow")) for _ in range(2)]
        for _ in first:
            await asked.acquire()
        assert (await scraped(at, "slow")).status_code == 503
        go_on.set()
        assert [answer.status_code for answer in await asyncio.gather(*first)] == [200, 200]
        assert (await scraped(at, "slow")).status_code == 200


async def test_a_replica_without_a_lease_is_unknown() -> None:
    async with running(store=Leases([])) as at:
        assert (await at.client.get(f"{at.admin_url}/sd/replicas")).json() == []
        assert (await scraped(at, "gone")).status_code == 404


async def test_a_gateway_with_decisions_tells_all_of_autoscaling_that_anything_names() -> None:
    """The shared cluster's pools have fixed numbers (test_cluster_scrapes.py)."""
    config = TWO_POOLS.replace("context_tokens: 1000}", "context_tokens: 1000, replicas: {min: 1, max: 3}}")
    async with running(config, records=Store(RECORD)) as at:

        async def told() -> str:
            text = await at.metrics()
            return text if "longreach_autoscale_replicas{" in text else ""

        text = await until(told, timeout_s=20, what="the gateway has read a decision")
    samples: dict[str, list[dict[str, str]]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            samples.setdefault(sample.name, []).append(sample.labels)
    named = {
        selector.metric: selector
        for expr in expressions()
        for selector in selectors(expr)
        if selector.metric.startswith("longreach_autoscale_")
    }
    assert len(named) == 5
    for metric, selector in named.items():
        labels = {label for each in samples[metric] for label in each}
        assert selector.labels - GATEWAY_TARGET <= labels, metric
    assert {each["pool"] for each in samples["longreach_autoscale_bound"]} == {"short"}
    assert len(samples["longreach_autoscale_bound"]) == len(Bound)


async def test_clients_cannot_reach_either() -> None:
    async with running(store=Leases([])) as at:
        for path in ("/sd/replicas", "/replicas/a1/metrics"):
            assert (await at.client.get(path)).status_code == 404
