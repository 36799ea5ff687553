"""The embedded Valkey server, for real: it answers, on loopback only, and ends when told to."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from cluster.core.errors import SetupError
from cluster.sockets import free_port, listeners_of
from cluster.state import embedded

pytestmark = pytest.mark.integration
MARK = "LONGREACH_RUN_DIR=/a/mark/that/must/stay"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    port = free_port()
    name, _, value = MARK.partition("=")
    with subprocess.Popen(
        embedded.server_command(tmp_path / "with space", port),
        env={**os.environ, name: value},
        stdout=subprocess.DEVNULL,
    ) as process:
        embedded.wait_until_ping(port)
        yield process, port
        process.kill()


def test_serves_on_loopback_only_and_keeps_its_mark(server: tuple[subprocess.Popen[bytes], int]) -> None:
    process, port = server
    found = listeners_of([process.pid])
    assert {listener.port for listener in found} == {port}
    assert all(listener.is_loopback for listener in found)
    assert MARK.encode() in Path(f"/proc/{process.pid}/environ").read_bytes().split(b"\0")


def test_is_bounded_and_writes_nothing(server: tuple[subprocess.Popen[bytes], int], tmp_path: Path) -> None:
    process, port = server
    client = redis.Redis.from_url(embedded.url(port))
    client.set("key", b"x" * 1000)
    assert client.config_get("maxmemory")["maxmemory"] == str(embedded.CACHE_BYTES_MAX)
    assert client.config_get("save")["save"] == ""
    client.close()
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=5) == 0
    assert [path.name for path in (tmp_path / "with space").iterdir()] == ["valkey.conf"]


def test_silence_is_a_clear_error() -> None:
    started = time.monotonic()
    with pytest.raises(SetupError, match="did not answer within 0 s"):
        embedded.wait_until_ping(free_port(), timeout_s=0.1)
    assert time.monotonic() - started < 2
