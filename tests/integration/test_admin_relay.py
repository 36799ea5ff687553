"""The parent of several workers: it counts for the dead, and what it hands on is what was asked."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from services.gateway.admin_relay import PARENT_HEADER, REMEMBER_EVERY, SNAPSHOT_PATH, AdminRelay
from services.gateway.auth import digest_of
from services.gateway.exposition import Snapshot, merge
from services.http1.listener import Listener, bind
from services.http1.request import ServerLimits
from tests.fake_engine import FakeEngine, serve
from tests.gateway_harness import TWO_POOLS, leases_of, running

TOKEN = "0123456789abcdef"
LIMITS = ServerLimits(header_bytes=16_384, header_s=5, body_bytes=1_000_000, stall_s=5, unread_s=5, keepalive_s=5)
HIDDEN = "/replicas/a%20HTTP/1.1%0d%0ax-injected:%201%0d%0ay:/metrics"


@contextlib.asynccontextmanager
async def relaying(worker: Path) -> AsyncIterator[str]:
    listener = Listener(AdminRelay(lambda: [worker], [], TOKEN), lambda: LIMITS, bind("127.0.0.1", 0))
    await listener.start()
    yield f"http://127.0.0.1:{listener.port}"
    await listener.close()


@contextlib.asynccontextmanager
async def recorded(path: Path) -> AsyncIterator[list[bytes]]:
    """A worker that keeps the head of each request."""
    heads: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
        writer.close()

    async with await asyncio.start_unix_server(answer, path):
        yield heads


async def test_counts_of_a_dead_worker_are_kept_where_keys_are_set(tmp_path: Path) -> None:
    keys, worker = tmp_path / "keys.yaml", tmp_path / "worker.sock"
    keys.write_text(f"keys: [{{id: k, tenant: t, sha256: {digest_of('secret').hex()}, created: 2026-11-03}}]\n")
    keys.chmod(0o600)
    config = f"{TWO_POOLS}gateway: {{auth: {{keys_file: {keys}}}}}\n"
    async with (
        serve(FakeEngine()) as engine,
        running(config, store=leases_of(short=engine), parent=(worker, TOKEN)) as gateway,
    ):
        gateway.client.headers["authorization"] = "Bearer secret"
        assert (await gateway.chat()).status_code == 200
        retired: list[Snapshot] = []
        relay = AdminRelay(lambda: [worker], retired, TOKEN)
        for _ in range(REMEMBER_EVERY):
            await relay.remember()
        relay.retire(worker)
    assert b'longreach_requests_total{outcome="ok",pool="short"' in merge(retired)


@pytest.mark.parametrize(
    ("path", "shown", "status"),
    [
        (SNAPSHOT_PATH, TOKEN, 200),
        (SNAPSHOT_PATH, "another", 401),
        (SNAPSHOT_PATH, "\xe9", 401),
        (SNAPSHOT_PATH, "", 401),
        ("/sd/replicas", TOKEN, 401),
        ("/metrics", TOKEN, 401),
    ],
)
async def test_the_token_opens_the_counts_alone(tmp_path: Path, path: str, shown: str, status: int) -> None:
    keys, worker = tmp_path / "keys.yaml", tmp_path / "worker.sock"
    keys.write_text("keys: []\n")
    keys.chmod(0o600)
    config = f"{TWO_POOLS}gateway: {{auth: {{keys_file: {keys}}}}}\n"
    headers = {PARENT_HEADER: shown.encode("latin-1")}
    async with running(config, parent=(worker, TOKEN)) as gateway:
        answer = await gateway.client.get(gateway.admin_url + path, headers=headers)
        assert answer.status_code == status
    async with running(config) as gateway:  # a gateway without a parent
        assert (await gateway.client.get(gateway.admin_url + path, headers=headers)).status_code == 401


async def test_a_client_cannot_speak_as_the_parent(tmp_path: Path) -> None:
    worker = tmp_path / "worker.sock"
    async with recorded(worker) as heads, relaying(worker) as url, httpx.AsyncClient() as client:
        for path in (SNAPSHOT_PATH, "/metrics"):
            await client.get(url + path, headers={PARENT_HEADER: TOKEN, "x-other": "1"})
    assert len(heads) == 2
    assert not [head for head in heads if PARENT_HEADER.encode() in head.lower()]
    assert all(b"x-other: 1" in head for head in heads)


@pytest.mark.parametrize(
    ("asked", "handed_on"),
    [
        (HIDDEN, b"GET /replicas/a%20HTTP/1.1%0D%0Ax-injected:%201%0D%0Ay:/metrics HTTP/1.1"),
        ("/replicas/%E4%B8%AD/metrics?a=%20b", b"GET /replicas/%E4%B8%AD/metrics?a=%20b HTTP/1.1"),
        ("/replicas/a%3Fb%25/metrics", b"GET /replicas/a%3Fb%25/metrics HTTP/1.1"),
        ("/replicas/short@10.0.0.1:8000~(x)/metrics", b"GET /replicas/short@10.0.0.1:8000~(x)/metrics HTTP/1.1"),
    ],
)
async def test_a_path_stays_a_path(tmp_path: Path, asked: str, handed_on: bytes) -> None:
    worker = tmp_path / "worker.sock"
    async with recorded(worker) as heads, relaying(worker) as url:
        port = int(url.rsplit(":", 1)[1])
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(f"GET {asked} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".encode())
        assert (await reader.read()).startswith(b"HTTP/1.1 200 ")
        writer.close()
    lines = heads[0].split(b"\r\n")
    assert lines[0] == handed_on
    assert not [line for line in lines if line.startswith(b"x-injected")]
