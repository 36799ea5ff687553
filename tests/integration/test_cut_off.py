"""Processes without a network, with real sockets and the kernel's packet filter."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
from collections.abc import Iterator

import psutil
import pytest

from loadtest.chaos.cut_off import cut_off, why_none

SILENCE_S = 1.0
TALKER = """
import socket, sys
server = socket.create_server(("127.0.0.1", 0))
print(server.getsockname()[1], flush=True)
kept, _ = server.accept()
for line in sys.stdin:
    try:
        socket.create_connection(("127.0.0.1", int(line)), timeout=1).close()
        print("connected", flush=True)
    except TimeoutError:
        print("nothing", flush=True)
"""
"""Has a connection and a listener, and connects to ports that it is told."""


@pytest.fixture
def talker() -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-c", TALKER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield process
        process.kill()


@pytest.mark.skipif(bool(why_none()), reason=why_none() or "-")
def test_nothing_reaches_it_by_old_sockets_or_new_and_afterwards_all_is_well(talker: subprocess.Popen[str]) -> None:
    assert talker.stdout is not None
    port = int(talker.stdout.readline())
    with socket.create_server(("127.0.0.1", 0)) as ours, socket.create_connection(("127.0.0.1", port)) as kept:
        assert _connects(talker, ours) == "connected"
        with cut_off([psutil.Process(talker.pid)]):
            assert _connects(talker, ours) == "nothing"
            with pytest.raises(TimeoutError):
                socket.create_connection(("127.0.0.1", port), timeout=SILENCE_S)
            # Nobody is told: the connection that there was is still open, and silent.
            kept.settimeout(SILENCE_S)
            kept.sendall(b"x")
            with pytest.raises(TimeoutError):
                kept.recv(1)
            # It is alone in this.
            with socket.create_connection(ours.getsockname(), timeout=SILENCE_S):
                pass
        assert _connects(talker, ours) == "connected"


@pytest.mark.skipif(bool(why_none()), reason=why_none() or "-")
def test_it_ends_also_where_the_processes_end_first(talker: subprocess.Popen[str]) -> None:
    assert talker.stdout is not None
    port = int(talker.stdout.readline())
    with cut_off([psutil.Process(talker.pid)]):
        talker.kill()
        talker.wait()
    with contextlib.suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port), timeout=SILENCE_S):
        pass


def _connects(talker: subprocess.Popen[str], server: socket.socket) -> str:
    assert talker.stdin is not None
    assert talker.stdout is not None
    talker.stdin.write(f"{server.getsockname()[1]}\n")
    talker.stdin.flush()
    return talker.stdout.readline().strip()
